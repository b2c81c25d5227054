// Valid keys at the wrong place.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order", version = 2)]
enum OrderEvent {
    #[event(name = "order-placed", tag = "customer", retired("order-lost"), crate = "es_core")]
    Placed {
        #[event(alias("client"))]
        customer: String,
    },
}

fn main() {}
