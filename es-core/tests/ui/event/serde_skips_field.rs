// A field that serde leaves out: the decoded event would differ from the recorded one.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed")]
    Placed {
        #[serde(skip)]
        cache: u8,
        #[serde(default, skip_deserializing)]
        total: u8,
        #[serde(skip_serializing, default)]
        lines: u8,
    },
    #[event(name = "order-split")]
    Split(u8, #[serde(skip)] u8),
}

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-lost")]
struct OrderLost {
    #[serde(skip)]
    found: u8,
}

fn main() {}
