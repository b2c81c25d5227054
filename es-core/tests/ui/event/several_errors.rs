// One compilation reports several errors, and no errors that follow from them.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(codec = "bson", version = 2)]
#[serde(tag = "type")]
enum OrderEvent {
    Placed,
    #[event(name = "order-shipped", verison = 2)]
    Shipped,
    #[event(name = "order-shipped", version = 3)]
    Sent {
        #[event(tags)]
        parcel: u64,
    },
    #[event(name = 5, upcast(1 = V1))]
    Paid,
    #[event(name = "", codec = json)]
    Closed(#[event(tag)] u64),
}

fn is_event<E: Event>() {}

fn main() {
    is_event::<OrderEvent>();
}
