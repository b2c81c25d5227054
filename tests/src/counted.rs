//! A projection of any log: how many events each stream has. Whatever was committed, its view can be compared with the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use es_core::prelude::*;
use es_core::projection::view::{Order, View, Views};
use es_core::{LogRead, RecordedEvent};
use serde::{Deserialize, Serialize};

/// How many events a stream has, and where the last one stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How many.
    pub events: u64,
    /// The position of the last one.
    pub last: u64,
}

/// The view.
pub const COUNTS: View<String, Count> = View::new("counts").ordered_by(&BY_EVENTS);
/// Its order.
pub const BY_EVENTS: Order<String, Count, u64> = Order::new("by-events", |_, count| count.events);

/// The projection. `VERSION` is its version.
#[derive(Debug, Clone, Copy)]
pub struct EventsOfStreams<const VERSION: u32 = 1>;

impl<const VERSION: u32> Projection for EventsOfStreams<VERSION> {
    type Source = RawEvents;
    const NAME: &'static str = "events-of-streams";
    const VERSION: u32 = VERSION;

    fn apply(&self, event: &RecordedEvent, context: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        if event.data.payload == "\"refused\"" {
            return Err(ApplyError::new("told to refuse"));
        }
        assert!(event.data.payload != "\"panic\"", "told to panic");
        rows.view(&COUNTS)?.update(&context.stream().as_str().to_owned(), |count| {
            count.events += 1;
            count.last = context.position().get();
        })
    }
}

/// Compares the view with the log up to the checkpoint of the view, and returns the checkpoint.
///
/// # Panics
/// Where they differ.
pub async fn check(store: &Arc<dyn EventStore>) -> Option<Position> {
    let views = Views::of::<EventsOfStreams>(store.clone());
    let as_of = views.as_of().await.expect("the checkpoint is read");
    let log = store.read_log(LogRead::all()).await.expect("opened").collect().await.expect("the log is read");
    let mut expected = BTreeMap::<String, Count>::new();
    let is_projected = |event: &&RecordedEvent| !event.stream.as_str().starts_with("es.");
    for event in log.iter().filter(|event| Some(event.position) <= as_of).filter(is_projected) {
        let count = expected.entry(event.stream.as_str().to_owned()).or_default();
        count.events += 1;
        count.last = event.position.get();
    }
    let expected: Vec<(String, Count)> = expected.into_iter().collect();
    let found = views.view(&COUNTS).scan().limit(7).read_all().await.expect("the view is read");
    assert_eq!(found, expected, "the view at {as_of:?} is not the fold of the log");
    let mut sorted = expected;
    sorted.sort_by(|(a, x), (b, y)| (x.events, a).cmp(&(y.events, b)));
    let ordered = views.view(&COUNTS).scan().by(&BY_EVENTS).limit(5).read_all().await.expect("the order is read");
    assert_eq!(ordered, sorted, "the order is not the sorted view");
    as_of
}
