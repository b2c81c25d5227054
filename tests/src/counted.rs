//! A projection of the number of events per stream. Its view can be compared with any log.

use std::collections::BTreeMap;
use std::sync::Arc;

use es_core::prelude::*;
use es_core::projection::view::{Order, View, Views};
use es_core::{LogRead, RecordedEvent};
use serde::{Deserialize, Serialize};

/// The number of events of a stream, and the position of its last event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Number of events.
    pub events: u64,
    /// Position of the last event.
    pub last: u64,
}

/// The counts by stream.
pub const COUNTS: View<String, Count> = View::new("counts").ordered_by(&BY_EVENTS);
/// The counts in ascending order of events.
pub const BY_EVENTS: Order<String, Count, u64> = Order::new("by-events", |_, count| count.events);

/// The projection, with its version as a parameter. It fails on the payload `"refused"` and panics on `"panic"`.
#[derive(Debug, Clone, Copy)]
pub struct EventsOfStreams<const VERSION: u32 = 1>;

impl<const VERSION: u32> Projection for EventsOfStreams<VERSION> {
    type Source = RawEvents;
    const NAME: &'static str = "events-of-streams";
    const VERSION: u32 = VERSION;

    fn apply(&self, event: &RecordedEvent, context: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        if event.data.payload == "\"refused\"" {
            return Err(ApplyError::new("injected error"));
        }
        assert!(event.data.payload != "\"panic\"", "injected panic");
        rows.view(&COUNTS)?.update(&context.stream().as_str().to_owned(), |count| {
            count.events += 1;
            count.last = context.position().get();
        })
    }
}

/// Compares the view with the log up to the checkpoint of the view. Returns the checkpoint.
///
/// # Panics
/// If the view differs from the log.
pub async fn check(store: &Arc<dyn EventStore>) -> Option<Position> {
    let views = Views::of::<EventsOfStreams>(store.clone());
    let as_of = views.as_of().await.expect("read the checkpoint");
    let log = store.read_log(LogRead::all()).await.expect("open the log").collect().await.expect("read the log");
    let mut expected = BTreeMap::<String, Count>::new();
    let is_projected = |event: &&RecordedEvent| !event.stream.as_str().starts_with("es.");
    for event in log.iter().filter(|event| Some(event.position) <= as_of).filter(is_projected) {
        let count = expected.entry(event.stream.as_str().to_owned()).or_default();
        count.events += 1;
        count.last = event.position.get();
    }
    let expected: Vec<(String, Count)> = expected.into_iter().collect();
    let found = views.view(&COUNTS).scan().limit(7).read_all().await.expect("read the view");
    assert_eq!(found, expected, "the view at {as_of:?} differs from the log");
    let mut sorted = expected;
    sorted.sort_by(|(a, x), (b, y)| (x.events, a).cmp(&(y.events, b)));
    let ordered = views.view(&COUNTS).scan().by(&BY_EVENTS).limit(5).read_all().await.expect("read the order");
    assert_eq!(ordered, sorted, "the order differs from the sorted view");
    as_of
}
