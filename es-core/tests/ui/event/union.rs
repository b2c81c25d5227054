// A union is no event.
use es_core::Event;

#[derive(Event)]
#[event(name = "order-placed")]
union OrderEvent {
    placed: u32,
    shipped: f32,
}

fn main() {}
