// Versions start at 1 and fit 32 bits.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed", version = 0)]
    Placed,
    #[event(name = "order-shipped", version = 5_000_000_000)]
    Shipped,
    #[event(name = "order-paid", version = 2, upcast(0 = PaidV0))]
    Paid,
    #[event(name = "order-closed", version = 99999999999999999999)]
    Closed,
}

fn main() {}
