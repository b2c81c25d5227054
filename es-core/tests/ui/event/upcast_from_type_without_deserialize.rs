// An old version without `Deserialize`.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed", version = 2, upcast(1 = OrderPlacedV1))]
    Placed { customer: String },
}

struct OrderPlacedV1;

impl es_core::Upcast<OrderEvent> for OrderPlacedV1 {
    fn upcast(self) -> es_core::Events<OrderEvent> {
        es_core::Events::none()
    }
}

fn main() {}
