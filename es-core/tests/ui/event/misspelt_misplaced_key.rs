// A misspelt key that is allowed at another place.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed", tagg = "order")]
    Placed(String),
}

fn main() {}
