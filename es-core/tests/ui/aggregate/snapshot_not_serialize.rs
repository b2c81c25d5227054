// A state with snapshots must implement `Serialize` and `Deserialize`.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced, snapshot(every = 100))]
struct Order;

fn main() {}
