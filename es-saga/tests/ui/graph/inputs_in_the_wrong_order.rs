#[path = "../steps.rs"]
mod steps;

use es_saga::Saga;
use steps::*;

fn main() {
    let _ = Saga::<u64, Payment>::define("order", 1, |saga, order| {
        let stock = saga.step::<Reserve>(order);
        saga.step::<Pay>((stock, order))
    });
}
