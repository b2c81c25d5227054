// A category that is reserved for the framework.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = "es.order", id = u64, event = OrderPlaced)]
struct Order;

fn main() {}
