// An answer to conflicts on a level without conflicts.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced, conflict = "canonical")]
struct Order;

#[derive(Clone, Aggregate)]
#[aggregate(category = "cart", id = u64, event = OrderPlaced, consistency = "linearizable", conflict = "resolve")]
struct Cart;

#[derive(Clone, Aggregate)]
#[aggregate(category = "list", id = u64, event = OrderPlaced, consistency = "sequential", conflict = "crdt")]
struct List;

fn main() {}
