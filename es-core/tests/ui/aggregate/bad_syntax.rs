// Attributes that cannot be parsed.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category: "order", id = , event = OrderPlaced snapshot(every = 1), "order")]
struct Order;

#[derive(Clone, Aggregate)]
#[aggregate = "order"]
struct Cart;

fn main() {}
