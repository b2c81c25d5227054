use std::time::Duration;

use es_saga::{DeclaredStep, Exhausted, SagaStep, StepOptions, StepRetry, Undo};

#[derive(SagaStep)]
#[saga_step(
    name = "take-payment",
    version = 3,
    retry(attempts = 7, first = "50ms", cap = "10s", max_elapsed = "60s", exhausted = "pause"),
    timeout = "5s",
    undo = "pause",
    pivot,
    concurrency = 8,
)]
struct TakePayment<T> {
    _client: T,
}

fn main() {
    type Step = TakePayment<u64>;
    assert_eq!((Step::NAME, Step::VERSION), ("take-payment", 3));
    let retry = StepRetry {
        attempts: 7,
        first: Duration::from_millis(50),
        cap: Duration::from_secs(10),
        max_elapsed: Some(Duration::from_secs(60)),
        exhausted: Exhausted::Pause,
    };
    let options = StepOptions {
        retry,
        timeout: Duration::from_secs(5),
        undo: Undo::Pause,
        pivot: true,
        concurrency: Some(8),
    };
    assert_eq!(Step::OPTIONS, options);
}
