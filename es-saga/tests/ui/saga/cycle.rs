#[path = "../steps.rs"]
mod steps;

use es_saga::saga;
use steps::*;

saga! {
    saga Order(order: u64) -> Payment {
        let payment = Pay(order, stock);
        let stock = Reserve(order) after payment;
        payment
    }
}

fn main() {}
