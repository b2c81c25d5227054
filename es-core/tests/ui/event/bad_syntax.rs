// Attributes that cannot be parsed.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event("order-placed")]
    Placed,
    #[event(name: "order-paid")]
    Paid,
    #[event(name "order-packed")]
    Packed,
    #[event(name = "order-shipped" version = 2)]
    Shipped,
    #[event(name = "order-closed", , version =)]
    Closed,
    #[event(name = "order-opened", alias("a") "b")]
    Opened,
}

fn main() {}
