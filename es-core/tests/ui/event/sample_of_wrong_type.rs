// A sample must be an event of the type.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed", sample = sample)]
    Placed(String),
}

fn sample() -> String {
    String::new()
}

fn main() {}
