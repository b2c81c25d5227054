#[path = "../steps.rs"]
mod steps;

use es_saga::{saga, step_function};
use steps::*;

#[step_function(step = ReserveMore, name = "reserve", undo = "ignore")]
async fn reserve_more(_: u64) -> Result<Stock, Failed> {
    Ok(Stock)
}

saga! {
    saga Order(order: u64) -> Stock {
        let stock = Reserve(order);
        ReserveMore(order) after stock
    }
}

fn main() {}
