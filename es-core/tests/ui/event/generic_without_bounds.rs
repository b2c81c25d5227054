// A generic event requires parameters with `Serialize` and `Deserialize`.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "changed")]
struct Changed<T> {
    to: T,
}

struct Price;

fn is_event<E: Event>() {}

fn main() {
    is_event::<Changed<Price>>();
}
