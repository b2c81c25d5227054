// A handler with its arguments in the wrong order.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

use es_core::{EventContext, Evolve};

#[derive(Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced)]
struct Order;

impl Evolve for Order {
    fn initial(_: &u64) -> Self {
        Self
    }
    fn evolve(&mut self, _: &EventContext<'_>, _: &OrderPlaced) {}
}

fn main() {}
