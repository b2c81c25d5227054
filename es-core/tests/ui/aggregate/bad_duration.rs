// An invalid duration.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced, snapshot(load_cost = "5 minutes"))]
struct Order;

fn main() {}
