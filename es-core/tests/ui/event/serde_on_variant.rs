// Serde attributes that prevent the encoding or decoding of a variant.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed")]
    #[serde(skip)]
    Placed,
    #[event(name = "order-shipped")]
    #[serde(skip_deserializing)]
    Shipped,
    #[event(name = "order-anything")]
    #[serde(other)]
    Anything,
    #[event(name = "order-noted")]
    #[serde(untagged)]
    Noted(String),
}

fn main() {}
