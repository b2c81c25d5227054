//! The metrics of processes, recorded through the `metrics` facade. A separate test binary, because a process can have
//! only one recorder.

mod book;
#[expect(dead_code, reason = "other tests use the rest")]
mod payments;

use std::collections::BTreeMap;
use std::sync::Arc;

use book::Recorded;
use es_core::store::memory::MemoryStore;
use es_saga::OperatorNote;
use es_saga::process::{ProcessId, ProcessPhase};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use payments::{Collecting, CollectionSignal, DAY, PATIENCE, until};

/// Returns the recorded metrics: the values of counters, and the sums of histograms.
fn numbers(recorded: &[Recorded]) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    for (key, _, _, value) in recorded {
        let is_of_process = key.key().labels().any(|label| label.key() == "process" && label.value() == "collection");
        if !is_of_process {
            continue;
        }
        let labels = key.key().labels().filter(|label| label.key() != "process");
        let labels: Vec<&str> = labels.map(metrics::Label::value).collect();
        let name = format!("{} {}", key.key().name(), labels.join(" ")).trim().to_owned();
        match value {
            DebugValue::Counter(number) => drop(metrics.insert(name, *number as f64)),
            DebugValue::Gauge(number) => drop(metrics.insert(name, number.into_inner())),
            DebugValue::Histogram(values) => {
                metrics.insert(format!("{name} sum").replace("  ", " "), values.iter().map(|value| value.0).sum());
                metrics.insert(name, values.len() as f64);
            }
        }
    }
    metrics
}

#[tokio::test]
async fn a_process_records_its_instances_its_inputs_and_the_events_that_it_sets_aside() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().expect("the only recorder of this process");
    let shop = Collecting::over(Arc::new(MemoryStore::new()));
    let manager = shop.manager();
    let running = manager.start().await.expect("it starts");
    shop.place(1, 100).await;
    shop.place(2, 200).await;
    shop.place(3, 300).await;
    // Parked: no order has this payment.
    shop.pay(999, 5).await;
    // Quarantined, and then one event that waits.
    shop.pay(300, 13).await;
    shop.pay(300, 14).await;
    shop.settled(&running).await;
    let extend = CollectionSignal::Extend { days: 2 };
    manager.signal(&1, "s1", &extend).await.expect("it is handled");
    manager.signal(&1, "s1", &extend).await.expect("it is repeated");
    assert!(manager.signal(&1, "s2", &CollectionSignal::Extend { days: 0 }).await.is_err(), "it is refused");
    assert!(manager.signal(&9, "s1", &extend).await.is_err(), "it is not running");
    let check = manager.query(&1).await.expect("it loads").journal.waits().remove(0);
    manager.complete(&check, &"ok".into()).await.expect("it is open");
    let id = ProcessId::new("collection", 3).expect("an id");
    let note = OperatorNote::new("ann", "a test");
    manager.admin().abandon(&id, note).await.expect("it is quarantined");
    // The reminder of order 2, and the deadlines of both orders.
    shop.clock.advance(DAY);
    until(async || manager.query(&2).await.expect("it loads").state.reminders == 1).await;
    shop.clock.advance(2 * DAY);
    for order in [1, 2] {
        until(async || manager.query(&order).await.expect("it loads").journal.phase() == ProcessPhase::Ended).await;
    }
    // The end of each order is an event that the process skips.
    shop.settled(&running).await;
    assert!(running.shutdown(PATIENCE).await);
    // A snapshot empties the histograms, so there is one.
    let recorded = snapshotter.snapshot().into_vec();
    book::assert_documented(&recorded, "es_process");
    let found = numbers(&recorded);
    let days = found.get("es_process_seconds sum").copied().unwrap_or_default() / DAY.as_secs_f64();
    assert!((days - 6.0).abs() < 0.1, "three days for each order: {days}");
    let expected = [
        ("es_processes_started_total", 3.0),
        ("es_processes_ended_total ended", 2.0),
        ("es_processes_ended_total abandoned", 1.0),
        ("es_process_seconds", 2.0),
        ("es_processes_quarantined_total", 1.0),
        ("es_process_reactions_total event handled", 3.0),
        ("es_process_reactions_total event failed", 1.0),
        ("es_process_reactions_total signal handled", 1.0),
        ("es_process_reactions_total signal repeated", 1.0),
        ("es_process_reactions_total signal failed", 1.0),
        ("es_process_reactions_total signal refused", 1.0),
        ("es_process_reactions_total completion handled", 1.0),
        ("es_process_reactions_total timer handled", 4.0),
        ("es_process_reaction_seconds timer", 4.0),
        ("es_process_events_set_aside_total parked", 1.0),
        ("es_process_events_set_aside_total deferred", 1.0),
        ("es_process_events_set_aside_total skipped", 2.0),
    ];
    for (name, number) in expected {
        assert_eq!(found.get(name), Some(&number), "{name}: {found:#?}");
    }
}
