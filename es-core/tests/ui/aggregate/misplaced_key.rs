// Valid keys at the wrong place.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced, every = 100, snapshot(every = 1, id = u64))]
struct Order {
    #[aggregate(id = u64)]
    id: u64,
    #[aggregate(whatever)]
    total: u64,
}

fn main() {}
