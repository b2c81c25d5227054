#[path = "../steps.rs"]
mod steps;

use es_saga::{StepContext, StepKey, step_function};
use steps::*;

struct Printer;

impl Printer {
    #[step_function(step = Label, name = "label", undo = "ignore")]
    async fn label(&self, order: u64) -> Result<Stock, Failed> {
        Ok(Stock)
    }
}

fn main() {}
