// A new version needs upcasters from the old ones.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed", version = 2)]
    Placed,
    #[event(name = "order-shipped", version = 3)]
    Shipped,
    #[event(name = "order-paid", version = 9)]
    Paid,
}

fn main() {}
