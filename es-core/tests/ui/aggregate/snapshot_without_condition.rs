// A snapshot needs a condition.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced, snapshot(keep = 3))]
struct Order;

#[derive(Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "cart", id = u64, event = OrderPlaced, snapshot)]
struct Cart;

fn main() {}
