//! Steps: `Reserve` gives a `Stock`, `Pay` needs an order and a `Stock`, `Count` is a local step.

use es_core::Commit;
use es_saga::{Classify, LocalStep, SagaStep, StepContext, StepKey};

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Stock;
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Payment;

#[derive(Debug, thiserror::Error)]
#[error("failed")]
pub struct Failed;

impl Classify for Failed {}

#[derive(SagaStep)]
#[saga_step(name = "reserve")]
pub struct Reserve;

impl SagaStep for Reserve {
    type Input = u64;
    type Output = Stock;
    type Compensation = ();
    type Error = Failed;

    fn compensation(&self, _: &u64, _: StepKey) {}

    async fn execute(&self, _: u64, _: &StepContext) -> Result<Stock, Failed> {
        Ok(Stock)
    }

    async fn compensate(&self, (): (), _: Option<Stock>, _: &StepContext) -> Result<(), Failed> {
        Ok(())
    }
}

#[derive(SagaStep)]
#[saga_step(name = "pay")]
pub struct Pay;

impl SagaStep for Pay {
    type Input = (u64, Stock);
    type Output = Payment;
    type Compensation = ();
    type Error = Failed;

    fn compensation(&self, _: &(u64, Stock), _: StepKey) {}

    async fn execute(&self, _: (u64, Stock), _: &StepContext) -> Result<Payment, Failed> {
        Ok(Payment)
    }

    async fn compensate(&self, (): (), _: Option<Payment>, _: &StepContext) -> Result<(), Failed> {
        Ok(())
    }
}

/// A local step.
#[derive(SagaStep)]
#[saga_step(name = "count")]
pub struct Count;

impl LocalStep for Count {
    type Input = u64;
    type Output = u64;
    type Error = Failed;

    async fn execute(&self, _: u64, _: &StepContext) -> Result<(u64, Commit), Failed> {
        Ok((1, Commit::new()))
    }

    async fn undo(&self, _: u64, _: u64, _: &StepContext) -> Result<Commit, Failed> {
        Ok(Commit::new())
    }
}
