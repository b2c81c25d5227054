#[path = "../steps.rs"]
mod steps;

use es_saga::saga;
use steps::*;

saga! {
    saga Packing(order: u64) -> Stock {
        Reserve(order)
    }
}

saga! {
    saga Order(order: u64) -> Stock {
        let stock = Reserve(order);
        child Packing(stock)
    }
}

fn main() {}
