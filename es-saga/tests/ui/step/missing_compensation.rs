#[path = "../steps.rs"]
mod steps;

use es_saga::{SagaStep, StepContext, StepKey};

use steps::*;

#[derive(SagaStep)]
#[saga_step(name = "ship")]
struct Ship;

impl SagaStep for Ship {
    type Input = u64;
    type Output = Stock;
    type Compensation = ();
    type Error = Failed;

    async fn execute(&self, _: Self::Input, _: &StepContext) -> Result<Stock, Self::Error> {
        Ok(Stock)
    }
}

fn main() {}
