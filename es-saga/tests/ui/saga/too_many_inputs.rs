#[path = "../steps.rs"]
mod steps;

use es_saga::saga;
use steps::*;

saga! {
    saga Order(a: u64) -> Stock {
        Reserve(a, a, a, a, a, a, a, a, a)
    }
}

fn main() {}
