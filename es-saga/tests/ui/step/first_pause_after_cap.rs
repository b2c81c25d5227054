use es_saga::SagaStep;

#[derive(SagaStep)]
#[saga_step(name = "pay", retry(first = "10s", cap = "50ms"))]
struct TakePayment;

fn main() {}
