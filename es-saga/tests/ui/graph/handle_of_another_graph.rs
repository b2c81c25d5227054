#[path = "../steps.rs"]
mod steps;

use es_saga::Saga;
use steps::*;

fn main() {
    let mut kept = None;
    let _ = Saga::<u64, Stock>::define("order", 1, |saga, order| {
        let stock = saga.step::<Reserve>(order);
        kept = Some(stock);
        stock
    });
}
