use es_saga::SagaStep;

#[derive(SagaStep)]
#[saga_step(name = "pay", timeout = "0s")]
struct TakePayment;

fn main() {}
