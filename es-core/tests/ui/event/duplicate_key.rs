// A duplicate key.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed", name = "order-made")]
    Placed,
    #[event(name = "order-shipped", alias("sent"))]
    #[event(alias("dispatched"))]
    Shipped,
}

fn main() {}
