#[path = "../steps.rs"]
mod steps;

use es_saga::saga;
use steps::*;

saga! {
    saga Order(order: u64) -> Stock, verson = 2 {
        Reserve(order)
    }
}

fn main() {}
