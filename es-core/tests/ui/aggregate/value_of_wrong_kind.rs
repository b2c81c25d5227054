// Valid keys with values of the wrong kind.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = order, id(u64), event = 5, consistency = local)]
#[aggregate(snapshot(every = "100", load_cost = 5, keep = two, version))]
struct Order;

fn main() {}
