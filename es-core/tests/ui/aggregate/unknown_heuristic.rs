// An unknown heuristic outcome, and one for an aggregate that takes part in no transaction.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced, heuristic = "rollback")]
struct Order;

#[derive(Clone, Aggregate)]
#[aggregate(category = "cart", id = u64, event = OrderPlaced, consistency = "eventual", heuristic = "abort")]
struct Cart;

fn main() {}
