use es_saga::SagaStep;

#[derive(SagaStep)]
#[saga_step(name = "take payment")]
struct TakePayment;

fn main() {}
