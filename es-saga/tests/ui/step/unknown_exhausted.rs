use es_saga::SagaStep;

#[derive(SagaStep)]
#[saga_step(name = "pay", retry(exhausted = "compensat"))]
struct TakePayment;

fn main() {}
