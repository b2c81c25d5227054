#[path = "../steps.rs"]
mod steps;

use es_saga::{StepContext, StepKey, step_function};
use steps::*;

#[step_function(step = Label, name = "label", undo = cancel)]
async fn label(order: u64) -> Result<Stock, Failed> {
    Ok(Stock)
}

async fn cancel(order: u64, stock: Option<Stock>, context: &StepContext) -> Result<(), Failed> {
    Ok(())
}

fn main() {}
