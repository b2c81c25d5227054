// Old versions must be listed in ascending order, without duplicates.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed", version = 3, upcast(2 = V2, 1 = V1))]
    Placed,
    #[event(name = "order-shipped", version = 3, upcast(1 = V1, 1 = V1, 2 = V2))]
    Shipped,
}

struct V1;
struct V2;
struct V3;

fn main() {}
