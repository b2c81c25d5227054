// An event without `Serialize` and `Deserialize`.
use es_core::Event;

#[derive(Event)]
enum OrderEvent {
    #[event(name = "order-placed")]
    Placed { customer: String },
    #[event(name = "order-shipped")]
    Shipped,
}

fn main() {}
