// One compilation reports several errors, and no errors that follow from them.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = "sales-order", event = "OrderPlaced", consistancy = "causal", id = 5)]
#[aggregate(snapshot(load_cost = "soon", keep = 0))]
struct Order {
    #[aggregate(skip)]
    total: u64,
}

fn is_aggregate<A: Aggregate>() {}

fn main() {
    is_aggregate::<Order>();
}
