// An unknown consistency level.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced, consistency = "casual")]
struct Order;

#[derive(Clone, Aggregate)]
#[aggregate(category = "cart", id = u64, event = OrderPlaced, consistency = "strong")]
struct Cart;

fn main() {}
