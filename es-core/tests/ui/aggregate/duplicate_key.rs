// Duplicate keys.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced, category = "orders")]
#[aggregate(snapshot(keep = 1, keep = 2, every = 1))]
struct Order;

fn main() {}
