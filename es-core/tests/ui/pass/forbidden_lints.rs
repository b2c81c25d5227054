// A crate may forbid a lint: generated code does not allow it.
#![forbid(deprecated)]

#[derive(serde::Serialize, serde::Deserialize, es_core::Event)]
enum OrderEvent {
    #[event(name = "order-placed")]
    Placed {
        #[event(tag)]
        customer: String,
    },
}

#[derive(Clone, es_core::Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderEvent)]
struct Order;

fn main() {
    let _ = (OrderEvent::Placed { customer: String::new() }, Order);
}
