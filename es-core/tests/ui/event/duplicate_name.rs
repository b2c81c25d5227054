// Two events with one wire name.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(retired("order-lost", "sent"))]
enum OrderEvent {
    #[event(name = "order-placed")]
    Placed,
    #[event(name = "order-placed")]
    Ordered,
    #[event(name = "order-shipped", alias("sent", "order-placed"))]
    Shipped,
}

fn main() {}
