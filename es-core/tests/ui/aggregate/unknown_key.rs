// Unknown keys.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(categry = "order", id = u64, event = OrderPlaced, table = "orders", snapshot(evry = 5))]
struct Order;

fn main() {}
