use es_saga::SagaStep;

#[derive(SagaStep)]
#[saga_step(name = "pay")]
union TakePayment {
    provider: u64,
}

fn main() {}
