#[path = "../steps.rs"]
mod steps;

use es_saga::Saga;
use steps::*;

struct Ship;

fn main() {
    let _ = Saga::<u64, Stock>::define("order", 1, |saga, order| {
        saga.step::<Ship>(order)
    });
}
