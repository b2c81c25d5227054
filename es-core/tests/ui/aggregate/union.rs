// A union cannot be an aggregate.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Copy, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced)]
union Order {
    open: u32,
    closed: f32,
}

fn main() {}
