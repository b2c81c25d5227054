#[path = "../steps.rs"]
mod steps;

use es_saga::Saga;
use steps::*;

fn main() {
    let _ = Saga::<u64, Payment>::define("order", 1, |saga, order| {
        let stock = saga.node("stock").step_if::<Reserve>(order, |cents| *cents > 0);
        saga.step::<Pay>((order, stock))
    });
}
