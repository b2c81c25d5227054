use es_saga::SagaStep;

struct Provider;

#[derive(SagaStep)]
#[saga_step(name = "pay")]
struct TakePayment<'a> {
    provider: &'a Provider,
}

fn main() {}
