use es_saga::SagaStep;

#[derive(SagaStep)]
#[saga_step(name = "pay")]
struct TakePayment {
    #[saga_step(timeout = "5s")]
    provider: u64,
}

fn main() {}
