// Old versions without `Upcast`: each missing step has an error with both types.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed", version = 3, upcast(1 = OrderPlacedV1, 2 = OrderPlacedV2))]
    Placed { customer: String },
}

#[derive(Serialize, Deserialize)]
struct OrderPlacedV1;

#[derive(Serialize, Deserialize)]
struct OrderPlacedV2;

fn main() {}
