// Invalid wire names and tag keys.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(retired("order\tlost"))]
enum OrderEvent {
    #[event(name = "")]
    Placed(#[event(tag = "")] u64),
    #[event(name = "order\nshipped", alias("order\0sent"))]
    Shipped,
}

fn main() {}
