// An enum whose variant would depend on the order of concurrent events.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced, consistency = "causal", conflict = "crdt")]
enum Order {
    New,
    Placed,
}

fn main() {}
