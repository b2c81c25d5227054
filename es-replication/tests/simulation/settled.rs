//! [`Applied`]: a view of each node that remembers the events in the order in which they were applied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use es_core::model::CanonicalKey;
use es_core::prelude::*;
use es_core::projection::view::{View, Views};
use es_core::projection::{HandlesLateEvents, ProjectionOptions, Settled, SettledStatus, Supervisor};
use es_core::{EventId, RecordedEvent};

use crate::coverage::Coverage;
use crate::domain::{Trace, TraceEvent};
use crate::node::Node;

const APPLIED: View<u64, String> = View::new("applied");
const COUNT: View<(), u64> = View::new("count");

/// The ids of all events in the order in which they were applied.
struct Applied;

impl Projection for Applied {
    type Source = Trace;
    const NAME: &'static str = "applied";

    fn apply(&self, _: &TraceEvent, at: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let number = rows.view(&COUNT)?.get(&())?.unwrap_or_default();
        rows.view(&COUNT)?.put(&(), &(number + 1))?;
        rows.view(&APPLIED)?.put(&number, &at.id().to_string())
    }
}

impl HandlesLateEvents for Applied {
    type Mode = Settled;
}

/// What a run of the view has found.
#[derive(Debug)]
pub(crate) struct Run {
    /// The number of events of the log that are not applied yet.
    pub(crate) waiting: usize,
    pub(crate) settled: SettledStatus,
}

/// Runs the view of a node until it waits, stops it, and checks that it has the first events of the log of the node in
/// canonical order.
pub(crate) async fn run(node: &Node, batch: u32, coverage: &mut Coverage) -> Run {
    let store: Arc<dyn EventStore> = Arc::new(node.store.clone());
    let options = ProjectionOptions::new().batch(batch).keep_retired(Duration::ZERO);
    let running = Supervisor::new().projection(Applied, options).start(Arc::clone(&store)).await.expect("started");
    // The time of the runtime advances when all tasks wait.
    tokio::time::sleep(Duration::from_millis(400)).await;
    let status = running.projection(Applied::NAME).expect("it was added").status();
    running.shutdown(Duration::from_secs(60)).await.expect("stopped");
    assert!(status.last_error.is_none(), "node {}: {status:?}", node.number);
    let settled = status.settled.clone().expect("the node has a replica");
    if status.rebuild.is_some() {
        // The view that is replaced lacks the late events. A node that has restarted waits for promises first.
        assert!(settled.late_events > 0, "node {}: {status:?}", node.number);
        coverage.settled_late_events += settled.late_events;
        return Run { waiting: node.events(None).await.len(), settled };
    }
    let views = Views::of::<Applied>(store);
    let rows = views.view(&APPLIED).scan().limit(10_000).read().await.expect("read").rows;
    let found: Vec<String> = rows.into_iter().map(|(_, id)| id).collect();
    let mut events: BTreeMap<CanonicalKey, EventId> = BTreeMap::new();
    let is_trace = |event: &RecordedEvent| event.stream.category_str() == Trace::CATEGORY;
    for event in node.events(None).await.into_iter().filter(is_trace) {
        assert!(events.insert(event.canonical_key(), event.data.id).is_none(), "two events have one key");
    }
    let expected: Vec<String> = events.values().map(ToString::to_string).collect();
    assert!(found.len() <= expected.len(), "node {} has applied an event twice", node.number);
    assert_eq!(found, expected[..found.len()], "node {}: the canonical order", node.number);
    let waiting = expected.len() - found.len();
    coverage.settled_runs += 1;
    coverage.settled_events += found.len() as u64;
    coverage.settled_stalls += u64::from(waiting > 0 && settled.held_back_by.is_some());
    coverage.settled_late_events += settled.late_events;
    Run { waiting, settled }
}
