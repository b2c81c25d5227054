#[path = "../steps.rs"]
mod steps;

use es_saga::{SagaStep, StepContext, StepKey};

use steps::*;

#[derive(Debug, thiserror::Error)]
#[error("broken")]
struct Broken;

#[derive(SagaStep)]
#[saga_step(name = "ship")]
struct Ship;

impl SagaStep for Ship {
    type Input = u64;
    type Output = Stock;
    type Compensation = ();
    type Error = Broken;

    fn compensation(&self, _: &Self::Input, _: StepKey) {}

    async fn execute(&self, _: Self::Input, _: &StepContext) -> Result<Stock, Self::Error> {
        Ok(Stock)
    }

    async fn compensate(&self, (): (), _: Option<Stock>, _: &StepContext) -> Result<(), Self::Error> {
        Ok(())
    }
}

fn main() {}
