//! The numbers that a service sees of its projections through the `metrics` facade. A file of its own, because a process has one
//! recorder.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use es_core::EventStore;
use es_core::aggregate::RetryPolicy;
use es_core::projection::{Projection, ProjectionOptions, Supervisor};
use es_core::store::memory::MemoryStore;
use es_tests::account::AccountEvent;
use es_tests::ledger::{Ledger, POISON, append};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

/// What was recorded for the projection: counters and gauges by name, histograms by how many values they have.
fn recorded(snapshotter: &Snapshotter) -> BTreeMap<String, f64> {
    let of_ledger = |labels: Vec<(&str, &str)>| labels == [("projection", Ledger::<1>::NAME)];
    let mut found = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let labels = key.key().labels().map(|label| (label.key(), label.value())).collect();
        assert!(of_ledger(labels), "{key:?}");
        let number = match value {
            DebugValue::Counter(number) => number as f64,
            DebugValue::Gauge(number) => number.into_inner(),
            DebugValue::Histogram(values) => values.len() as f64,
        };
        found.insert(key.key().name().to_owned(), number);
    }
    found
}

#[tokio::test]
async fn what_a_projection_does_can_be_counted() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().expect("the only recorder of this process");
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    for number in 0..20 {
        append(&*store, number % 4, AccountEvent::Deposited { cents: 1 }).await;
    }
    let last = append(&*store, 1, AccountEvent::Withdrawn { cents: POISON }).await;
    let retry =
        RetryPolicy { attempts: 3, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(1) };
    let running = Supervisor::new()
        .projection(Ledger::<1>::default(), ProjectionOptions::new().retry(retry))
        .start(Arc::clone(&store))
        .await
        .expect("started");
    let ledger = running.projection(Ledger::<1>::NAME).expect("it was given");
    ledger.wait_for(last, Duration::from_secs(60)).await.expect("it gets there");
    let status = ledger.status();
    let found = recorded(&snapshotter);
    let number = |name: &str| found.get(name).copied().unwrap_or_default();
    assert_eq!(number("es_projection_events_total"), status.events as f64, "{found:?}");
    assert_eq!((status.events, number("es_projection_parked_total")), (21, 1.0), "{found:?}");
    assert_eq!(number("es_projection_retries_total"), 2.0, "{found:?}");
    assert!(number("es_projection_commits_total") >= 1.0, "{found:?}");
    assert_eq!(number("es_projection_commit_seconds"), number("es_projection_commits_total"), "{found:?}");
    assert_eq!(number("es_projection_position"), 21.0, "{found:?}");
    assert_eq!(number("es_projection_lag_events"), 0.0, "{found:?}");
    running.shutdown(Duration::from_secs(60)).await.expect("it finishes");
}
