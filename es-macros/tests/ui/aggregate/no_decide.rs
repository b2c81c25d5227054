// A command that an aggregate does not take: both types are named.
use std::sync::Arc;

use es_core::store::memory::MemoryStore;
use es_core::{Aggregate, Event, EventContext, Evolve, Repository};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced)]
struct Order;

impl Evolve for Order {
    fn initial(_: &u64) -> Self {
        Self
    }
    fn evolve(&mut self, _: &OrderPlaced, _: &EventContext<'_>) {}
}

#[derive(Clone)]
struct Ship;

fn main() {
    let orders = Repository::<Order>::new(Arc::new(MemoryStore::new()));
    let _ = orders.execute(&1, Ship);
}
