use es_saga::SagaStep;

#[derive(SagaStep)]
#[saga_step(name = "pay", pivot = "yes")]
struct TakePayment;

fn main() {}
