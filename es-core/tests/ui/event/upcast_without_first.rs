// The first version must be listed, or `oldest` must say that it was never recorded.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed", version = 3, upcast(2 = PlacedV2))]
    Placed,
    #[event(name = "order-shipped", version = 4, upcast(3 = ShippedV3))]
    Shipped,
}

struct PlacedV2;
struct ShippedV3;

fn main() {}
