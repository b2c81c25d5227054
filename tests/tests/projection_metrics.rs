//! The metrics of projections, recorded through the `metrics` facade. A separate test binary, because a process can
//! have only one recorder.

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

/// Returns the recorded metrics of projections by name: the values of counters and gauges, and the number of values of
/// histograms.
fn recorded(snapshotter: &Snapshotter) -> BTreeMap<String, f64> {
    let of_ledger = |labels: Vec<(&str, &str)>| labels == [("projection", Ledger::<1>::NAME)];
    let mut metrics = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        if !key.key().name().starts_with("es_projection_") {
            continue;
        }
        let labels = key.key().labels().map(|label| (label.key(), label.value())).collect();
        assert!(of_ledger(labels), "{key:?}");
        let number = match value {
            DebugValue::Counter(number) => number as f64,
            DebugValue::Gauge(number) => number.into_inner(),
            DebugValue::Histogram(values) => values.len() as f64,
        };
        metrics.insert(key.key().name().to_owned(), number);
    }
    metrics
}

#[tokio::test]
async fn a_projection_records_metrics() {
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
    let ledger = running.projection(Ledger::<1>::NAME).expect("the supervisor has the projection");
    ledger.wait_for(last, Duration::from_secs(60)).await.expect("the projection catches up");
    let status = ledger.status();
    let metrics = recorded(&snapshotter);
    let number = |name: &str| metrics.get(name).copied().unwrap_or_default();
    assert_eq!(number("es_projection_events_total"), status.events as f64, "{metrics:?}");
    assert_eq!((status.events, number("es_projection_parked_total")), (21, 1.0), "{metrics:?}");
    assert_eq!(number("es_projection_retries_total"), 2.0, "{metrics:?}");
    assert!(number("es_projection_commits_total") >= 1.0, "{metrics:?}");
    assert_eq!(number("es_projection_commit_seconds"), number("es_projection_commits_total"), "{metrics:?}");
    assert_eq!(number("es_projection_position"), 21.0, "{metrics:?}");
    assert_eq!(number("es_projection_lag_events"), 0.0, "{metrics:?}");
    running.shutdown(Duration::from_secs(60)).await.expect("the projection stops");
}
