// Names, types and numbers from a macro of the user.
macro_rules! order {
    ($name:literal, $version:literal, $old:ty, $tag:ty, $id:ty) => {
        #[derive(serde::Serialize, serde::Deserialize, es_core::Event)]
        enum OrderEvent {
            #[event(name = $name, version = $version, upcast(1 = $old))]
            Placed {
                #[event(tag)]
                customer: $tag,
            },
        }

        #[derive(Clone, serde::Serialize, serde::Deserialize, es_core::Aggregate)]
        #[aggregate(category = $name, id = $id, event = OrderEvent, snapshot(every = $version))]
        struct Order;
    };
}

order!("placed", 2, Old<u8, u8>, Option<String>, String);

#[derive(serde::Serialize, serde::Deserialize)]
struct Old<A, B>(A, B);

impl<A, B> es_core::Upcast<OrderEvent> for Old<A, B> {
    fn upcast(self) -> es_core::Events<OrderEvent> {
        OrderEvent::Placed { customer: None }.into()
    }
}

fn main() {
    let _ = (Order, Old(1, 2));
}
