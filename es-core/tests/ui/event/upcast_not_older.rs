// An old version must be older than the current one.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed", upcast(1 = V1))]
    Placed,
    #[event(name = "order-shipped", version = 2, upcast(1 = V1, 2 = V2, 3 = V3))]
    Shipped,
}

struct V1;
struct V2;
struct V3;

fn main() {}
