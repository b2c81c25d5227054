// An event must own its content.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent<'a> {
    #[event(name = "order-placed")]
    Placed { customer: &'a str },
}

fn main() {}
