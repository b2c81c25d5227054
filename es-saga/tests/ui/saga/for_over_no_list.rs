#[path = "../steps.rs"]
mod steps;

use es_saga::saga;
use steps::*;

saga! {
    saga Orders(order: u64) -> Vec<Stock> {
        for item in order { Reserve(item) }
    }
}

fn main() {}
