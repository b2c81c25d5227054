#[path = "../steps.rs"]
mod steps;

use es_saga::saga;
use steps::*;

saga! {
    fn order(order: u64) -> Stock {
        Reserve(order)
    }
}

fn main() {}
