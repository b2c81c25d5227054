// A misspelt key, and one that is similar to no key.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(nmae = "order-placed")]
    Placed,
    #[event(name = "order-shipped", kind = "shipment")]
    Shipped,
}

fn main() {}
