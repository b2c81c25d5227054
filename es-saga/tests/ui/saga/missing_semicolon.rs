#[path = "../steps.rs"]
mod steps;

use es_saga::saga;
use steps::*;

saga! {
    saga Order(order: u64) -> Payment {
        let stock = Reserve(order)
        Pay(order, stock)
    }
}

fn main() {}
