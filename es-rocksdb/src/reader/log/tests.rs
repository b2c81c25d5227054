use std::ops::ControlFlow;

use es_core::retention::{Note, Rule, Scavenge, Scope};
use es_core::{Commit, EventReader, EventStore, EventType, ExpectedRevision, NewEvent, Revision, StreamId};

use super::*;
use crate::read_only::ReadOnlyStore;
use crate::store::RocksDbStore;

/// A retention rule and a scavenge may run between the check whether any event is hidden and the scan. The scan then
/// finds tombstones, although it was started as a scan without hidden events.
#[tokio::test]
async fn a_scan_without_hidden_events_skips_events_that_were_removed_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = RocksDbStore::open(directory.path()).await.unwrap();
    let stream = StreamId::new("order-1").unwrap();
    let event = || NewEvent::json(EventType::new("happened").unwrap(), "1");
    store.commit(Commit::to(&stream, ExpectedRevision::Any, [event(), event(), event()])).await.unwrap();
    let rule = Rule { truncate_before: Some(Revision::new(2)), ..Rule::default() };
    store.commit(Commit::set_rule(Scope::Stream(stream), rule, Note::default())).await.unwrap();
    store.scavenge(&Scavenge::default()).await.unwrap();

    let database = store.shared().database().unwrap();
    let third = Position::new(3).unwrap();
    for (direction, next) in [(Direction::Forward, Position::FIRST), (Direction::Backward, third)] {
        let read = LogRead { direction, ..LogRead::all() };
        let scan = LogScan { read, head: third, next, remaining: None, hidden: None };
        let fetched = scan.copy_records(&database, FIRST_BATCH).unwrap();
        assert_eq!((fetched.len(), fetched.last(), fetched.next()), (1, Some(third), None), "{direction:?}");
    }
}

#[tokio::test]
async fn a_visit_of_the_whole_log_returns_the_events_of_a_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = RocksDbStore::open(directory.path()).await.unwrap();
    let stream = StreamId::new("order-1").unwrap();
    let event = || NewEvent::json(EventType::new("happened").unwrap(), "1");
    let rule = |first| {
        let rule = Rule { truncate_before: Some(Revision::new(first)), ..Rule::default() };
        Commit::set_rule(Scope::Stream(stream.clone()), rule, Note::default())
    };
    store.commit(Commit::to(&stream, ExpectedRevision::Any, [event(), event(), event()])).await.unwrap();
    // Tombstones of each form: (none), (hidden), (removed and hidden).
    let mut tombstones = Vec::new();
    for step in 0..3 {
        if step == 1 {
            store.commit(rule(1)).await.unwrap();
        } else if step == 2 {
            store.scavenge(&Scavenge::default()).await.unwrap();
            store.commit(rule(2)).await.unwrap();
        }
        let reader = ReadOnlyStore::open(directory.path()).await.unwrap();
        for hidden in [HiddenEvents::WithContent, HiddenEvents::AsTombstones] {
            let mut visited = Vec::new();
            let mut visitor = |event: EventView<'_>| {
                visited.push(event.to_recorded());
                ControlFlow::Continue(())
            };
            let scanned = reader.visit_log_with_hidden(LogRead::all(), hidden, &mut visitor).await.unwrap();
            assert_eq!(visited, reader.read_log_with_hidden(LogRead::all(), hidden).collect().await.unwrap());
            assert_eq!(scanned, reader.head().await.unwrap());
            tombstones.push(visited.iter().filter(|event| event.is_removed()).count());
        }
    }
    assert_eq!(tombstones, [0, 0, 0, 1, 1, 2]);
}
