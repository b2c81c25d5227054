#[path = "../steps.rs"]
mod steps;

use es_saga::{StepContext, StepKey, step_function};
use steps::*;

#[step_function(step = Label, name = "label", undo = "ignore")]
async fn label(order: u64) -> Stock {
    Stock
}

fn main() {}
