// Names that are reserved for the framework.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "es.order-placed")]
    Placed,
    #[event(name = "escorted")]
    Escorted,
}

fn main() {}
