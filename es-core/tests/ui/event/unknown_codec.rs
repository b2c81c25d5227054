// An unknown codec.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(codec = "bincode")]
enum OrderEvent {
    #[event(name = "order-placed", codec = "Json")]
    Placed,
    #[event(name = "order-shipped", codec = "messagepack")]
    Shipped,
}

fn main() {}
