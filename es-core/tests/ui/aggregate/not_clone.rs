// A state must implement `Clone`.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced)]
struct Order;

fn main() {}
