// The tag of an unnamed field needs a key.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed")]
    Placed(#[event(tag)] String),
}

fn main() {}
