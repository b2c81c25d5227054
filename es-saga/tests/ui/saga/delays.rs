#[path = "../steps.rs"]
mod steps;

use es_saga::saga;
use steps::*;

saga! {
    saga Order(order: u64) -> Stock {
        delay("3 days");
        delay("0s");
        delay(order);
        delay("3d", order);
        if *order > 1 { delay("3d") }
        for item in order { delay("3d") }
        delay("1h");
        delay("2h");
        Reserve(order)
    }
}

fn main() {}
