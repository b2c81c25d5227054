// Keys that are right, with values that are not.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = order, id(u64), event = 5, consistency = local, snapshot(every = "100", load_cost = 5, keep = two, version))]
struct Order;

fn main() {}
