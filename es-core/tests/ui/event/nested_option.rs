// `None` and `Some(None)` have the same encoding, so an event with `Some(None)` would be decoded as `None`.
use std::collections::HashMap;

use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed")]
    Placed { note: Option<Option<String>>, boxed: std::option::Option<Box<Option<u8>>> },
    #[event(name = "order-split")]
    Split(Vec<Option<Option<u8>>>, HashMap<String, (u8, Option<Option<u8>>)>, [Box<Option<Option<u8>>>; 1]),
    #[event(name = "order-ticked")]
    Ticked(Option<()>),
}

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-lost")]
struct OrderLost {
    found: Option<Option<u8>>,
}

fn main() {}
