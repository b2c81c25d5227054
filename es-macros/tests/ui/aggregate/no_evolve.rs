// An aggregate says how its state follows from events.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced)]
struct Order;

fn evolves<A: es_core::Evolve>() {}

fn main() {
    evolves::<Order>();
}
