// Unknown keys on fields.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed")]
    Placed {
        #[event(tags)]
        customer: String,
        #[event(index)]
        total: u64,
    },
}

fn main() {}
