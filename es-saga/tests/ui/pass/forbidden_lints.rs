// A crate may forbid lints: generated code does not allow them.
#![forbid(deprecated, dead_code, unused_variables, unused_parens)]

use std::convert::Infallible;

#[es_saga::step_function(step = Check, name = "check", undo = cancel)]
async fn check(number: u64) -> Result<u64, Infallible> {
    Ok(number)
}

async fn cancel(_: es_saga::StepKey, _: Option<u64>, _: &es_saga::StepContext) -> Result<(), Infallible> {
    Ok(())
}

#[es_saga::step_function(step = Ignored, name = "ignored", undo = "ignore")]
async fn ignored(number: u64) -> Result<u64, Infallible> {
    Ok(number)
}

#[derive(es_saga::SagaStep)]
#[saga_step(name = "store", undo = "ignore")]
struct Store;

impl es_saga::LocalStep for Store {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    async fn execute(&self, number: u64, _: &es_saga::StepContext) -> Result<(u64, es_core::Commit), Infallible> {
        Ok((number, es_core::Commit::new()))
    }

    async fn undo(&self, _: u64, _: u64, _: &es_saga::StepContext) -> Result<es_core::Commit, Infallible> {
        Ok(es_core::Commit::new())
    }
}

es_saga::saga! {
    saga Purchase(number: u64) -> u64 {
        let checked = Check(number);
        if (*number > 3) { Ignored(number) }
        if checked.checked_add(1).is_some() { local Store(checked) }
        checked
    }
}

fn main() {
    let purchase: fn(u64) -> Option<u64> = |number| Purchase::define().ok().map(|_| number);
    assert_eq!(purchase(1), Some(1));
}
