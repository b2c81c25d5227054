// Each version between the oldest and the current one must be listed.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed", version = 4, upcast(1 = V1, 3 = V3))]
    Placed,
    #[event(name = "order-shipped", version = 4, upcast(1 = V1, 2 = V2))]
    Shipped,
    #[event(name = "order-paid", version = 9, upcast(2 = V2), oldest = 2)]
    Paid,
}

struct V1;
struct V2;
struct V3;

fn main() {}
