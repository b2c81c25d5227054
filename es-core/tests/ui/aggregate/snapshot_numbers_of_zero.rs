// The numbers of a snapshot start at 1.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced, snapshot(every = 0, keep = 0))]
struct Order;

fn main() {}
