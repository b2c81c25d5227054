// A command that an aggregate does not take: both types are named.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

use es_core::{Decide, EventContext, Evolve};

#[derive(Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced)]
struct Order;

impl Evolve for Order {
    fn initial(_: &u64) -> Self {
        Self
    }
    fn evolve(&mut self, _: &OrderPlaced, _: &EventContext<'_>) {}
}

struct Ship;

fn takes<A: Decide<C>, C>(_: C) {}

fn main() {
    takes::<Order, Ship>(Ship);
}
