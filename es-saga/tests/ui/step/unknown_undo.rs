use es_saga::SagaStep;

#[derive(SagaStep)]
#[saga_step(name = "pay", undo = "never")]
struct TakePayment;

fn main() {}
