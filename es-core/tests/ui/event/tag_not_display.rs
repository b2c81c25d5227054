// A tag whose value does not implement `Display`.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Customer;

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed")]
    Placed {
        #[event(tag)]
        customer: Customer,
        #[event(tag)]
        other: Option<Customer>,
    },
}

fn main() {}
