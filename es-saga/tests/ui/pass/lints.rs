// Generated code causes no warning for what is deprecated.
#![deny(warnings)]

use std::convert::Infallible;

#[deprecated]
#[es_saga::step_function(step = Check, name = "check", undo = "ignore")]
async fn check(number: u64) -> Result<u64, Infallible> {
    Ok(number)
}

#[deprecated]
#[derive(es_saga::SagaStep)]
#[saga_step(name = "ship")]
pub struct Ship;

es_saga::saga! {
    /// A saga that is no longer started.
    #[deprecated]
    pub saga Purchase(number: u64) -> u64 {
        Check(number)
    }
}

#[allow(deprecated)]
fn main() {
    assert!(Purchase::define().is_ok());
}
