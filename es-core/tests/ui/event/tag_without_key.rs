// A field without a name cannot name its tag.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed")]
    Placed(#[event(tag)] String),
}

fn main() {}
