#[path = "../steps.rs"]
mod steps;

use es_saga::saga;
use steps::*;

saga! {
    saga Orders(orders: Vec<u64>) -> Vec<Stock> {
        for order in orders { Reserve(orders) }
    }
}

fn main() {}
