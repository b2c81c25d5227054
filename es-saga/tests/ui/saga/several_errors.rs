#[path = "../steps.rs"]
mod steps;

use es_saga::saga;
use steps::*;

saga! {
    saga Order(order: u64) -> Payment, version = 0, name = "a b" {
        let stock = Reserve(ordr);
        let payment = Pay(order, 1);
        Pay(order, stock) as ""
    }
}

fn main() {
    // The saga exists, so that these are the only errors.
    let _ = Order::define();
}
