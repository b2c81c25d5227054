#[path = "../steps.rs"]
mod steps;

use es_saga::saga;
use steps::*;

saga! {
    saga Order(order: u64) -> Payment {
        let stock = Reserve(order);
        let payment = Pay(order, stock);
        Pay(order, stock) after payment
    }
}

fn main() {}
