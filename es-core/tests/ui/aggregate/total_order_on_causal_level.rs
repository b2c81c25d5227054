// A causal aggregate cannot use revisions, unique keys or append conditions, which need a total order.
use std::sync::Arc;

use es_core::store::memory::MemoryStore;
use es_core::model::UniqueKey;
use es_core::store::Query;
use es_core::{Aggregate, CommandContext, Decide, Decision, Event, EventContext, Evolve};
use es_core::{EventStore, ExpectedRevision, Repository, Revision, UnitOfWork};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced, consistency = "causal", conflict = "canonical")]
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
        let key = UniqueKey::new("order", "1").map_err(drop)?;
        let claim: Decision<Self> = Decision::from(OrderPlaced).claiming(key.clone());
        Ok(claim.releasing(key))
    }
}

fn main() {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let orders = Repository::<Order>::new(Arc::clone(&store));
    let _ = orders.load_at_revision(&1, Revision::FIRST);
    let _ = orders.execute(&1, Place).at_revision(Revision::FIRST);
    let _ = orders.execute(&1, Place).expecting(ExpectedRevision::NoStream);
    let _ = orders.execute(&1, Place).append_if_none(Query::all(), None);
    let _ = UnitOfWork::new(&store).execute(&orders, 1, Place).at_revision(Revision::FIRST);
    let _ = UnitOfWork::new(&store).execute(&orders, 1, Place).expecting(ExpectedRevision::NoStream);
}
