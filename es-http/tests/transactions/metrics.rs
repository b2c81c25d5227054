//! Both sides count calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use es_http::transactions::{PARTICIPANT_CALLS, REMOTE_CALLS};
use es_transaction::Participant;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use crate::seats::{Seats, reserve, reserved};
use crate::support::{Server, epoch, prepare, transaction};

#[tokio::test(flavor = "current_thread")]
async fn calls_are_counted_by_operation_and_outcome() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    // The server runs on the thread of the test, too.
    let _guard = metrics::set_default_local_recorder(&recorder);
    let server = Server::of(&Arc::new(Seats::default())).await;
    let (shop, bank, id) = (server.client("shop"), server.client("bank"), transaction("orders.7"));
    shop.prepare(&prepare(&id), &reserve(2)).await.unwrap();
    shop.commit(&id, &reserved(2)).await.unwrap();
    shop.commit(&id, &reserved(2)).await.unwrap();
    shop.pre_commit(&id, &reserved(2)).await.unwrap_err();
    shop.in_doubt(&epoch("orders.8")).await.unwrap();
    shop.prepare(&prepare(&id), &reserve(2)).await.unwrap_err();
    bank.commit(&id, &reserved(2)).await.unwrap_err();
    let counted = snapshotter.snapshot().into_vec().into_iter().filter_map(|(key, _, _, value)| {
        let DebugValue::Counter(count) = value else { return None };
        let labels: Vec<_> = key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Some((format!("{} {}", key.key().name(), labels.join(" ")), count))
    });
    let counted: BTreeMap<String, u64> = counted.filter(|(name, _)| name.starts_with("es_transaction")).collect();
    let expected = [
        (format!("{PARTICIPANT_CALLS} operation=commit outcome=answered"), 2),
        (format!("{PARTICIPANT_CALLS} operation=commit outcome=forbidden"), 1),
        (format!("{PARTICIPANT_CALLS} operation=in_doubt outcome=answered"), 1),
        (format!("{PARTICIPANT_CALLS} operation=pre_commit outcome=unsupported"), 1),
        (format!("{PARTICIPANT_CALLS} operation=prepare outcome=answered"), 1),
        (format!("{PARTICIPANT_CALLS} operation=prepare outcome=fenced"), 1),
        (format!("{REMOTE_CALLS} participant=seats operation=commit outcome=answered"), 2),
        (format!("{REMOTE_CALLS} participant=seats operation=commit outcome=refused"), 1),
        (format!("{REMOTE_CALLS} participant=seats operation=in_doubt outcome=answered"), 1),
        (format!("{REMOTE_CALLS} participant=seats operation=pre_commit outcome=unsupported"), 1),
        (format!("{REMOTE_CALLS} participant=seats operation=prepare outcome=answered"), 1),
        (format!("{REMOTE_CALLS} participant=seats operation=prepare outcome=fenced"), 1),
    ];
    assert_eq!(counted, BTreeMap::from(expected));
}
