// Unknown keys on the enum.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(codecs = "json", retire("order-lost"))]
enum OrderEvent {
    #[event(name = "order-placed")]
    Placed,
}

fn main() {}
