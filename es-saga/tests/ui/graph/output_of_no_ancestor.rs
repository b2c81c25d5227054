#[path = "../steps.rs"]
mod steps;

use es_saga::Saga;
use steps::*;

fn main() {
    let _ = Saga::<u64, Payment>::define("order", 1, |saga, order| {
        saga.step::<Pay>((order, stock))
    });
}
