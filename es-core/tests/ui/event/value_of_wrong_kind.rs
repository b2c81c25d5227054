// Valid keys with values of the wrong kind.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(codec(json), crate = 5, retired = "order-lost")]
enum OrderEvent {
    #[event(name = OrderPlaced, version = "2")]
    Placed,
    #[event(name("order-paid"), version = -1, alias = "order-payed", upcast = OrderPaidV1)]
    Paid,
    #[event(name, sample = "Self::sample", alias(paid), oldest = one, upcast(OrderPaidV1))]
    Shipped(#[event(tag("parcel"))] u64),
    #[event(name = "order-closed", upcast(), alias())]
    Closed,
}

fn main() {}
