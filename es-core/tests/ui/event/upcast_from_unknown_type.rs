// An old version whose type does not exist.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed", version = 2, upcast(1 = OrderPlacedV1))]
    Placed { customer: String },
}

fn main() {}
