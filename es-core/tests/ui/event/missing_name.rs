// Each event needs an explicit wire name.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    OrderPlaced { customer: String },
    #[event(version = 1)]
    Shipped,
}

#[derive(Serialize, Deserialize, Event)]
struct PriceChanged {
    cents: u64,
}

fn main() {}
