// The expectations of a unit of work need a total order, too.
use std::sync::Arc;

use es_core::store::memory::MemoryStore;
use es_core::{Aggregate, CommandContext, Decide, Decision, Event, EventContext, Evolve};
use es_core::{EventStore, ExpectedRevision, Repository, Revision, UnitOfWork};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced, consistency = "causal")]
struct Order;

impl Evolve for Order {
    fn initial(_: &u64) -> Self {
        Self
    }
    fn evolve(&mut self, _: &OrderPlaced, _: &EventContext<'_>) {}
}

#[derive(Clone)]
struct Place;

impl Decide<Place> for Order {
    type Rejection = ();
    fn decide(&self, _: Place, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, ()> {
        Ok(OrderPlaced.into())
    }
}

fn main() {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let orders = Repository::<Order>::new(Arc::clone(&store));
    let _ = UnitOfWork::new(&store).execute(&orders, 1, Place).at_revision(Revision::FIRST);
    let _ = UnitOfWork::new(&store).execute(&orders, 1, Place).expecting(ExpectedRevision::NoStream);
}
