//! The metrics of sagas, recorded through the `metrics` facade. A separate test binary, because a process can have only
//! one recorder.

mod book;
#[expect(dead_code, reason = "other tests use the rest")]
mod shop;

use std::collections::BTreeMap;

use book::Recorded;
use es_saga::{ErrorClass, OperatorNote, SagaVerb};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use shop::{PATIENCE, Shop, error, order};

/// Returns the recorded metrics: the values of counters and gauges, and the number of values of histograms.
fn numbers(recorded: &[Recorded]) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    for (key, _, _, value) in recorded {
        let labels = key.key().labels().filter(|label| label.key() != "saga");
        let labels: Vec<&str> = labels.map(metrics::Label::value).collect();
        let is_of_saga = key.key().labels().any(|label| label.value() == "fulfilment");
        if !is_of_saga {
            continue;
        }
        let number = match value {
            DebugValue::Counter(number) => *number as f64,
            DebugValue::Gauge(number) => number.into_inner(),
            DebugValue::Histogram(values) => values.len() as f64,
        };
        metrics.insert(format!("{} {}", key.key().name(), labels.join(" ")).trim().to_owned(), number);
    }
    metrics
}

#[tokio::test]
async fn a_coordinator_records_metrics_per_saga_and_step() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().expect("the only recorder of this process");
    let shop = Shop::new();
    let timed_out = Some(error(ErrorClass::Ambiguous, "timed out"));
    shop.provider.script([timed_out, Some(error(ErrorClass::Transient, "busy")), None]);
    let sagas = shop.start().await;
    sagas.execute(&shop.saga, "1", &order(2)).await.expect("it completes");
    drop(sagas.execute(&shop.saga, "2", &order(7)).await);
    shop.provider.fail_refunds(3);
    drop(sagas.execute(&shop.saga, "3", &order(7)).await);
    let stuck = "fulfilment:3".parse().expect("an id");
    sagas.operate(&stuck, SagaVerb::Kill, OperatorNote::new("ann", "a test")).await.expect("it is stuck");
    assert!(sagas.shutdown(PATIENCE).await);
    // A snapshot empties the histograms, so there is one.
    let recorded = snapshotter.snapshot().into_vec();
    book::assert_documented(&recorded, "es_saga");
    let found = numbers(&recorded);
    let expected = [
        ("es_sagas_started_total", 3.0),
        ("es_sagas_ended_total completed", 1.0),
        ("es_sagas_ended_total compensated", 1.0),
        ("es_sagas_ended_total killed", 1.0),
        ("es_sagas_stuck_total", 1.0),
        ("es_sagas_running", 0.0),
        ("es_saga_seconds", 2.0),
        ("es_saga_step_attempts_total pay execute ambiguous", 1.0),
        ("es_saga_step_attempts_total pay execute transient", 1.0),
        ("es_saga_step_attempts_total pay execute succeeded", 3.0),
        ("es_saga_step_attempts_total pay undo succeeded", 1.0),
        ("es_saga_step_attempts_total pay undo transient", 3.0),
        ("es_saga_step_attempts_total ship execute terminal", 2.0),
        ("es_saga_step_seconds pay execute", 5.0),
        ("es_saga_step_seconds reserve undo", 1.0),
    ];
    for (name, number) in expected {
        assert_eq!(found.get(name), Some(&number), "{name}: {found:#?}");
    }
}
