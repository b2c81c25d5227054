// Many mistakes are reported in one compilation, and nothing follows from them elsewhere.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = "sales-order", event = "OrderPlaced", consistancy = "causal", snapshot(load_cost = "soon", keep = 0), id = 5)]
struct Order {
    #[aggregate(skip)]
    total: u64,
}

fn is_aggregate<A: Aggregate>() {}

fn main() {
    is_aggregate::<Order>();
}
