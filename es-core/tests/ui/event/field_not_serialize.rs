// A field that serde does not know: the type of the field is named, and nothing that is generated.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed")]
    Placed { customer: Customer },
}

struct Customer;

fn main() {}
