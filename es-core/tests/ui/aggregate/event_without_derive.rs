// The event type of an aggregate must implement `Event`.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderShipped)]
struct Order;

#[derive(Serialize, Deserialize)]
struct OrderShipped;

fn main() {}
