#[path = "../steps.rs"]
mod steps;

use es_saga::saga;
use steps::*;

saga! {
    saga Order(order: u64) -> Payment {
        let stock = Reserve(order);
        let other = if stock == 1 { Reserve(order) as "other" };
        Pay(order, stock)
    }
}

fn main() {}
