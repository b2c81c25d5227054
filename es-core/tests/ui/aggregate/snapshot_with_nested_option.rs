// `None` and `Some(None)` have the same encoding, so a snapshot would give another state.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced;

#[derive(Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced, snapshot(every = 100))]
enum Order {
    Open { answer: Option<Option<bool>> },
    Closed(Vec<Option<Option<bool>>>),
}

fn main() {}
