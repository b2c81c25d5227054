//! Cases: a visit returns exactly the events of a read.

use std::ops::ControlFlow;

use super::tools::*;
use crate::model::{ContentType, EventView, Metadata, NewEvent, RecordedEvent};
use crate::retention::{Note, Rule, Scavenge, Scope};
use crate::store::{Commit, Direction, LogRead, Query, QueryItem, StreamRead};

/// Writes a log in which consecutive events differ in some fields only, each time in others.
async fn sample(harness: &dyn Harness) -> Store {
    let store = harness.open().await;
    let other = ContentType::from("text/plain");
    let long = vec![b'x'; 5000];
    let events: [(&str, NewEvent); 7] = [
        ("order-1", tagged("placed", &["customer:1", "product:a"])),
        ("order-1", event("placed").with_metadata(Metadata::new().with("user", "ada"))),
        ("order-2", tagged("placed", &["customer:1"])),
        ("order-2", NewEvent::new(event_type("noted"), 3, other, long).tagged(tag("customer:2"))),
        ("stock-a", event("taken").claiming(key("a"))),
        ("order-1", event("shipped").occurred_at("2001-01-01T00:00:00Z".parse().expect("a time"))),
        ("order-1", event("shipped")),
    ];
    for (name, event) in events {
        commit(&store, Commit::to(&stream(name), Any, [event])).await;
    }
    let ada = || tagged("placed", &["customer:1"]).with_metadata(Metadata::new().with("user", "ada"));
    let bob = tagged("placed", &["customer:1"]).with_metadata(Metadata::new().with("user", "bob"));
    let claims = [ada().claiming(key("b")), ada().claiming(key("c"))];
    commit(&store, Commit::to(&stream("order-2"), Any, [ada(), ada(), bob, event("placed"), ada()])).await;
    commit(&store, Commit::to(&stream("order-2"), Any, claims)).await;
    append(&store, "stock-b", &["taken", "returned"]).await;
    store
}

fn log_reads() -> Vec<LogRead> {
    let placed_or_a = Query::any_of([
        QueryItem::new().event_type(event_type("placed")),
        QueryItem::new().category(category("stock")),
    ]);
    let queries = [
        LogRead::all(),
        LogRead::category(category("order")),
        LogRead::event_type(event_type("taken")),
        LogRead::tag(tag("customer:1")),
        LogRead::tag(tag("nobody")),
        LogRead::matching(placed_or_a),
    ];
    let mut reads = Vec::new();
    for read in queries {
        for from in [None, Some(at(4)), Some(at(100))] {
            for limit in [None, Some(0), Some(2)] {
                for direction in [Direction::Forward, Direction::Backward] {
                    reads.push(LogRead { from, limit, direction, ..read.clone() });
                }
            }
        }
    }
    reads
}

/// Returns a visitor that collects events and breaks at the event number `count`.
fn collect(events: &mut Vec<RecordedEvent>, count: usize) -> impl FnMut(EventView<'_>) -> ControlFlow<()> + Send {
    move |event| {
        events.push(event.to_recorded());
        if events.len() == count { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

async fn check_log(store: &Store, log_read: LogRead) {
    let mut read = store.read_log(log_read.clone()).await.expect("the read is opened");
    let mut expected = Vec::new();
    while let Some(batch) = read.next_batch().await.expect("the log is read") {
        expected.extend(batch);
    }
    for count in [usize::MAX, 1, 2, expected.len()] {
        let mut visited = Vec::new();
        let scanned =
            store.visit_log(log_read.clone(), &mut collect(&mut visited, count)).await.expect("the log is visited");
        let is_broken = count <= expected.len() && count > 0;
        let (events, end) = match is_broken {
            true => (&expected[..count], expected.get(count - 1).map(|event| event.position)),
            false => (&expected[..], read.scanned()),
        };
        assert_eq!(visited, events, "{log_read:?}, break after {count}");
        assert_eq!(scanned, end, "{log_read:?}, break after {count}");
    }
}

async fn check_stream(store: &Store, stream_read: StreamRead) {
    let expected = read_stream(store, stream_read.clone()).await;
    for count in [usize::MAX, 1, 2] {
        let mut visited = Vec::new();
        store
            .visit_stream(stream_read.clone(), &mut collect(&mut visited, count))
            .await
            .expect("the stream is visited");
        assert_eq!(visited, expected[..count.min(expected.len())], "{stream_read:?}, break after {count}");
    }
}

async fn check(store: &Store) {
    for log_read in log_reads() {
        check_log(store, log_read).await;
    }
    for name in ["order-1", "order-2", "nothing"] {
        for from in [None, Some(rev(1)), Some(rev(100))] {
            for limit in [None, Some(0), Some(2)] {
                for direction in [Direction::Forward, Direction::Backward] {
                    check_stream(store, StreamRead { stream: stream(name), from, limit, direction }).await;
                }
            }
        }
    }
}

/// A visit returns the events of a read in the same order and the same scanned position, also if the visitor breaks.
pub(super) async fn a_visit_returns_the_events_of_a_read(harness: &dyn Harness) {
    let store = sample(harness).await;
    check(&store).await;
    if let Some(reopened) = harness.reopen(store).await {
        check(&reopened).await;
    }
}

/// A visit of a long log or stream is as complete as a read.
pub(super) async fn a_long_visit_returns_the_events_of_a_read(harness: &dyn Harness) {
    let store = harness.open().await;
    for _ in 0..4 {
        commit(&store, Commit::to(&stream("a-1"), Any, events(1_000))).await;
        commit(&store, Commit::to(&stream("b-1"), Any, events(500))).await;
    }
    check_log(&store, LogRead::all()).await;
    for direction in [Direction::Forward, Direction::Backward] {
        check_stream(&store, StreamRead { direction, ..StreamRead::new(stream("a-1")) }).await;
    }
    if let Some(reopened) = harness.reopen(store).await {
        check_log(&reopened, LogRead::all()).await;
        check_log(&reopened, LogRead::all().backward()).await;
        check_log(&reopened, LogRead::category(category("b"))).await;
        check_stream(&reopened, StreamRead::new(stream("a-1")).limit(3_000)).await;
    }
}

/// A visit skips events that retention hides.
pub(super) async fn a_visit_skips_hidden_events(harness: &dyn Harness) {
    let store = sample(harness).await;
    let rule = Rule { truncate_before: Some(rev(2)), ..Rule::default() };
    commit(&store, Commit::set_rule(Scope::Stream(stream("order-1")), rule, Note::default())).await;
    check(&store).await;
    scavenge(&store).await;
    check(&store).await;
    if let Some(reopened) = harness.reopen(store).await {
        check(&reopened).await;
    }
}

async fn scavenge(store: &Store) {
    store.scavenge(&Scavenge::default()).await.expect("the hidden events are removed");
}
