use es_saga::SagaStep;

#[derive(SagaStep)]
#[saga_step(version = 0, undo = "stop", retry(first = "x"))]
struct TakePayment;

fn main() {}
