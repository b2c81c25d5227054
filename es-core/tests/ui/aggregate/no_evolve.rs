// A repository requires `Evolve`.
use std::sync::Arc;

use es_core::store::memory::MemoryStore;
use es_core::{Aggregate, Event, Repository};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced)]
struct Order;

fn main() {
    let _ = Repository::<Order>::new(Arc::new(MemoryStore::new()));
}
