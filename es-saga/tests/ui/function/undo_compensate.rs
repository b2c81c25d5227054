#[path = "../steps.rs"]
mod steps;

use es_saga::{StepContext, StepKey, step_function};
use steps::*;

#[step_function(step = Label, name = "label", undo = "compensate")]
async fn label(order: u64) -> Result<Stock, Failed> {
    Ok(Stock)
}

fn main() {}
