// The wire name is the recorded name; the names of serde have no effect.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[serde(rename_all = "kebab-case")]
enum OrderEvent {
    #[event(name = "order-placed")]
    #[serde(rename = "placed")]
    Placed,
    #[event(name = "order-shipped")]
    #[serde(alias = "sent")]
    Shipped,
}

#[derive(Serialize, Deserialize, Event)]
#[event(name = "product-received")]
#[serde(rename = "received")]
struct Received;

fn main() {}
