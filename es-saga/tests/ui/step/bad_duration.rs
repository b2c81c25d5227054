use es_saga::SagaStep;

#[derive(SagaStep)]
#[saga_step(name = "pay", timeout = "5 minutes")]
struct TakePayment;

fn main() {}
