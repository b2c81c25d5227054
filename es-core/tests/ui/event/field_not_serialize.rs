// A field without `Serialize`: the error names its type and no generated item.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed")]
    Placed { customer: Customer },
}

struct Customer;

fn main() {}
