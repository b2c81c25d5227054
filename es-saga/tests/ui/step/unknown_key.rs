use es_saga::SagaStep;

#[derive(SagaStep)]
#[saga_step(name = "pay", timout = "5s")]
struct TakePayment;

fn main() {}
