// `oldest` must agree with the listed versions.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed", version = 2, oldest = 3)]
    Placed,
    #[event(name = "order-shipped", version = 3, oldest = 2)]
    Shipped,
    #[event(name = "order-paid", version = 3, upcast(2 = V2), oldest = 1)]
    Paid,
    #[event(name = "order-closed", version = 3, upcast(2 = V2), oldest = 3)]
    Closed,
}

struct V1;
struct V2;
struct V3;

fn main() {}
