use es_saga::SagaStep;

#[derive(SagaStep)]
struct TakePayment;

fn main() {}
