use es_saga::SagaStep;

#[derive(SagaStep)]
#[saga_step(name = "pay", retry(atempts = 5))]
struct TakePayment;

fn main() {}
