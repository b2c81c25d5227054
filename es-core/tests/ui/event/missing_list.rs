// An attribute without a list.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event]
enum OrderEvent {
    #[event = "order-placed"]
    Placed {
        #[event]
        customer: String,
    },
}

fn main() {}
