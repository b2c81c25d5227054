#[path = "../steps.rs"]
mod steps;

use es_saga::saga;
use steps::*;

saga! {
    saga Order(order: u64) -> Stock {
        child Reserve(order)
    }
}

fn main() {}
