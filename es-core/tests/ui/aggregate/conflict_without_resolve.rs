// An aggregate that declares that it answers conflicts with events, and does not.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced, consistency = "causal", conflict = "resolve")]
struct Order;

impl es_core::Evolve for Order {
    fn initial(_: &u64) -> Self {
        Self
    }
    fn evolve(&mut self, _: &OrderPlaced, _: &es_core::EventContext<'_>) {}
}

fn main() {}
