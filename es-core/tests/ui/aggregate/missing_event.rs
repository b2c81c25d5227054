// A missing key is reported at the attribute.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = "order", id = u64)]
struct Order;

fn is_aggregate<A: Aggregate>() {}

fn main() {
    is_aggregate::<Order>();
}
