// A state without the derive macro.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

struct Order;

fn is_aggregate<A: Aggregate>() {}

fn main() {
    is_aggregate::<Order>();
}
