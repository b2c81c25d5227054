//! Scavenges beside commits and reads.

use es_core::retention::{Note, Rule, Scavenge, Scope};
use es_core::store::EventStream;
use es_core::{
    Commit, CommitError, EventReader, EventStore, ExpectedRevision, LogRead, RecordedEvent, Revision, StoreError,
    StreamId, StreamRead,
};
use es_rocksdb_schedules::{OnWriteFailure, Options, RocksDbStore};
use shuttle::future::block_on;
use shuttle::thread;

use crate::schedules::{CALLERS, World, append, callers, events, explore_tables, joined};
use crate::simulated::disk::Fault;

/// Starts a store with a stream of 3 events, of which the last 2 are visible.
fn with_rule(world: &World, stream: &StreamId) -> RocksDbStore {
    let store = world.start(&world.small_runs().on_write_failure(OnWriteFailure::Stop));
    for _ in 0..3 {
        block_on(store.commit(append(stream, ExpectedRevision::Any))).expect("committed");
    }
    let rule = Rule { max_count: Some(2), ..Rule::default() };
    let commit = Commit::set_rule(Scope::Stream(stream.clone()), rule, Note::default());
    block_on(store.commit(commit)).expect("the rule is set");
    store
}

/// A scavenge runs between commits. Removed events are not read afterwards, neither from memory nor from disk.
#[test]
fn a_scavenge_runs_concurrently_with_callers_and_readers() {
    explore_tables(|world, stream| {
        let store = with_rule(world, &stream);
        let scavenging = thread::spawn({
            let store = store.clone();
            move || block_on(store.scavenge(&Scavenge::default())).expect("scavenged").events
        });
        let reading = thread::spawn({
            let (store, stream) = (store.clone(), stream.clone());
            move || {
                let mut last = 0;
                for _ in 0..2 {
                    let head = block_on(store.head()).expect("read").expect("the log has events");
                    let read = LogRead::category(stream.category()).from(head);
                    let log = block_on(async { store.read_log(read).await?.collect().await }).expect("read");
                    assert!(log.iter().all(|event: &RecordedEvent| event.position >= head && !event.is_removed()));
                    let visible: Vec<_> = events(&store, &stream).iter().map(|event| event.revision.get()).collect();
                    assert!(visible.len() <= 2, "more events are visible than the rule allows: {visible:?}");
                    assert!(visible.is_sorted() && visible.last().is_some_and(|newest| *newest >= last), "{visible:?}");
                    last = visible.last().copied().unwrap_or_default();
                }
            }
        });
        let committed = joined(callers(&store, &stream, |_, store, stream| {
            block_on(store.commit(append(&stream, ExpectedRevision::Any))).expect("committed").events[0].data.id
        }));
        reading.join().expect("the reader does not panic");
        let removed = scavenging.join().expect("the scavenge does not panic");
        assert!((1..=4).contains(&removed), "{removed} were removed");
        assert_eq!(events(&store, &stream).len(), 2);
        assert_eq!(committed.len(), CALLERS);
        let clear = Commit::clear_rule(Scope::Stream(stream.clone()), Note::default());
        block_on(store.commit(clear)).expect("the rule is cleared");
        assert_eq!(events(&store, &stream).len() as u64, 6 - removed, "removed events are visible again");
        block_on(store.close()).expect("closed");
        let store = world.start(&Options::new());
        assert_eq!(events(&store, &stream).len() as u64, 6 - removed, "removed events are visible after a restart");
        block_on(store.close()).expect("closed");
    });
}

/// Reads that were opened before a scavenge return the events that are left of theirs, without a gap. The stream always
/// has events, so none of its reads is empty.
#[test]
fn a_read_that_was_opened_before_a_scavenge_has_no_gap_and_is_not_empty() {
    explore_tables(|world, stream| {
        let store = with_rule(world, &stream);
        let whole = StreamRead::new(stream.clone());
        let open_stream = |read: StreamRead| block_on(store.read_stream(read)).expect("opened");
        let opened = [open_stream(whole.clone()), open_stream(whole.clone().backward()), open_stream(whole.limit(1))];
        let log = block_on(store.read_log(LogRead::category(stream.category()))).expect("opened");
        let scavenging = thread::spawn({
            let store = store.clone();
            move || block_on(store.scavenge(&Scavenge::default())).expect("scavenged").events
        });
        let reading = opened.map(|read| thread::spawn(move || revisions(read)));
        let reading_log = thread::spawn(move || revisions(log));
        joined(callers(&store, &stream, |_, store, stream| {
            block_on(store.commit(append(&stream, ExpectedRevision::Any))).expect("committed");
        }));
        for read in joined(reading.into()) {
            assert!(!read.is_empty(), "a stream that always has events was read as empty");
            assert_no_gap(&read);
        }
        assert_no_gap(&reading_log.join().expect("the reader does not panic"));
        scavenging.join().expect("the scavenge does not panic");
        block_on(store.close()).expect("closed");
    });
}

fn revisions(read: EventStream) -> Vec<u64> {
    let events = block_on(read.collect()).expect("read");
    assert!(events.iter().all(|event| !event.is_removed()), "a tombstone was returned");
    events.iter().map(|event| event.revision.get()).collect()
}

fn assert_no_gap(revisions: &[u64]) {
    let is_adjacent = |pair: &[u64]| pair[0].abs_diff(pair[1]) == 1;
    assert!(revisions.windows(2).all(is_adjacent), "a gap: {revisions:?}");
    assert!(revisions.is_sorted() || revisions.iter().rev().is_sorted(), "out of order: {revisions:?}");
}

/// Regression: a scavenge that had committed its point when another commit failed waited until the store was closed.
/// The events of the failed commit were in the same run as the point, and such a run is never written to tables.
#[test]
fn a_scavenge_ends_after_the_disk_failed() {
    explore_tables(|world, stream| {
        let store = with_rule(world, &stream);
        world.disk.simulated.fail_after(world.number % 16, Fault::Fail);
        let scavenging = thread::spawn({
            let store = store.clone();
            move || match block_on(store.scavenge(&Scavenge::default())) {
                Ok(_) | Err(CommitError::Store(StoreError::Stopped { .. } | StoreError::Io { .. })) => {}
                Err(error) => panic!("expected a report or the failure of the disk, found {error}"),
            }
        });
        joined(callers(&store, &stream, |_, store, stream| {
            match block_on(store.commit(append(&stream, ExpectedRevision::Any))) {
                Ok(_) | Err(CommitError::Store(StoreError::Stopped { .. })) => {}
                Err(error) => panic!("expected a commit or `Stopped`, found {error}"),
            }
        }));
        scavenging.join().expect("the scavenge does not panic");
        let _ = block_on(store.close());
        world.disk.simulated.heal();
        let store = world.start(&Options::new());
        assert_eq!(events(&store, &stream).len(), 2);
        block_on(store.close()).expect("closed");
    });
}

/// Closing the store during a scavenge ends it.
#[test]
fn a_scavenge_ends_when_the_store_is_closed() {
    explore_tables(|world, stream| {
        let store = with_rule(world, &stream);
        let scavenging = thread::spawn({
            let store = store.clone();
            move || match block_on(store.scavenge(&Scavenge::default())) {
                Ok(_) | Err(CommitError::Store(StoreError::Closed)) => {}
                Err(error) => panic!("expected a report or `Closed`, found {error}"),
            }
        });
        let committing = callers(&store, &stream, |_, store, stream| {
            match block_on(store.commit(append(&stream, ExpectedRevision::Any))) {
                Ok(_) => 1,
                Err(CommitError::Store(StoreError::Closed)) => 0,
                Err(error) => panic!("expected a commit or `Closed`, found {error}"),
            }
        });
        block_on(store.close()).expect("closed");
        let acknowledged: u64 = joined(committing).into_iter().sum();
        scavenging.join().expect("the scavenge does not panic");
        let store = world.start(&Options::new());
        let last = block_on(store.revision(&stream)).expect("read");
        assert_eq!(
            last,
            Some(Revision::new(2 + acknowledged)),
            "an acknowledged commit is lost, or a refused one is written"
        );
        assert_eq!(events(&store, &stream).len(), 2);
        block_on(store.close()).expect("closed");
    });
}
