// Invalid categories.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Aggregate)]
#[aggregate(category = "sales-order", id = u64, event = OrderPlaced)]
struct Order;

#[derive(Clone, Aggregate)]
#[aggregate(category = "", id = u64, event = OrderPlaced)]
struct Cart;

#[derive(Clone, Aggregate)]
#[aggregate(category = "ca\nrt", id = u64, event = OrderPlaced)]
struct OtherCart;

fn main() {}
