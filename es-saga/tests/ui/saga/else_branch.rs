#[path = "../steps.rs"]
mod steps;

use es_saga::saga;
use steps::*;

saga! {
    saga Order(order: u64) -> Payment {
        let stock = Reserve(order);
        let paid = if *order > 0 { Pay(order, stock) } else { Pay(order, stock) };
        stock
    }
}

fn main() {}
