// Trailing commas, several attributes, and keywords as names.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(codec = "json",)]
#[event(retired("a", "b",),)]
#[event()]
enum OrderEvent {
    #[event(name = "order-placed",)]
    #[event(alias("order-made",), version = 1,)]
    Placed {
        #[event(tag,)]
        r#type: String,
    },
    #[event(name = "Order/Ship ped: ä")]
    r#Shipped,
}

#[derive(Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "order", id = u64,)]
#[aggregate(event = OrderEvent, snapshot(every = 1_000, load_cost = "1 s",),)]
enum Order {
    Open,
}

fn main() {
    let _ = (OrderEvent::Placed { r#type: String::new() }, OrderEvent::Shipped, Order::Open);
}
