#[path = "../steps.rs"]
mod steps;

use es_saga::{StepContext, StepKey, step_function};
use steps::*;

#[step_function(name = "label", undo = "ignore")]
async fn print_label(order: u64) -> Result<Stock, Failed> {
    Ok(Stock)
}

fn main() {}
