// A union cannot be an event.
use es_core::Event;

#[derive(Event)]
#[event(name = "order-placed")]
union OrderEvent {
    placed: u32,
    shipped: f32,
}

fn main() {}
