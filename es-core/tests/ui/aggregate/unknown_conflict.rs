// An unknown answer to conflicts.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced, consistency = "causal", conflict = "cannonical")]
struct Order;

#[derive(Clone, Aggregate)]
#[aggregate(category = "cart", id = u64, event = OrderPlaced, consistency = "causal", conflict = "merge")]
struct Cart;

#[derive(Clone, Aggregate)]
#[aggregate(category = "stock", id = u64, event = OrderPlaced, consistency = "causal", conflict = Resolve)]
struct Stock;

fn main() {}
