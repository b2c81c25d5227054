#[path = "../steps.rs"]
mod steps;

use es_saga::{SagaStep, StepContext, StepKey};

use steps::*;

struct Address;

#[derive(SagaStep)]
#[saga_step(name = "ship")]
struct Ship;

impl SagaStep for Ship {
    type Input = Address;
    type Output = Stock;
    type Compensation = ();
    type Error = Failed;

    fn compensation(&self, _: &Self::Input, _: StepKey) {}

    async fn execute(&self, _: Self::Input, _: &StepContext) -> Result<Stock, Self::Error> {
        Ok(Stock)
    }

    async fn compensate(&self, (): (), _: Option<Stock>, _: &StepContext) -> Result<(), Self::Error> {
        Ok(())
    }
}

fn main() {}
