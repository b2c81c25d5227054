//! Readers beside commits, and beside the thread that writes index tables: runs of two events fill all the time.

use std::sync::{Arc, Mutex};

use es_core::model::{Table, Tag, UniqueKey};
use es_core::{
    Commit, CommitError, EventId, EventReader, EventStore, ExpectedRevision, LogRead, NewEvent, RecordedEvent,
    StreamId, StreamRead,
};
use es_rocksdb_schedules::RocksDbStore;
use shuttle::future::block_on;
use shuttle::thread;

use crate::schedules::{append, assert_events, callers, event, events, explore_tables, joined};

fn tag() -> Tag {
    Tag::new("red").expect("a tag")
}

fn tagged() -> NewEvent {
    event().tagged(tag())
}

fn log_of(store: &RocksDbStore, read: LogRead) -> Vec<RecordedEvent> {
    block_on(async { store.read_log(read).await?.collect().await }).expect("read")
}

/// Whatever part of the index a read finds in memory and in tables, it returns each acknowledged event once, in order.
#[test]
fn each_read_returns_each_acknowledged_event_once_while_tables_are_written() {
    explore_tables(|world, stream| {
        let store = world.start(&world.small_runs());
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let reading = thread::spawn({
            let (store, stream, acknowledged) = (store.clone(), stream.clone(), Arc::clone(&acknowledged));
            move || {
                for _ in 0..2 {
                    assert_reads(&store, &stream, &acknowledged);
                }
            }
        });
        let committing = callers(&store, &stream, {
            let acknowledged = Arc::clone(&acknowledged);
            move |_, store, stream| {
                for _ in 0..2 {
                    let commit = Commit::to(&stream, ExpectedRevision::Any, [tagged()]);
                    let committed = block_on(store.commit(commit)).expect("committed");
                    let id = committed.events[0].data.id;
                    acknowledged.lock().expect("not poisoned").push(id);
                }
            }
        });
        joined(committing);
        reading.join().expect("the reader does not panic");
        assert_reads(&store, &stream, &acknowledged);
        block_on(store.close()).expect("closed");
        let store = world.start(&world.small_runs());
        assert_reads(&store, &stream, &acknowledged);
        block_on(store.close()).expect("closed");
    });
}

/// Checks all kinds of reads against the commits that were acknowledged before them.
fn assert_reads(store: &RocksDbStore, stream: &StreamId, acknowledged: &Mutex<Vec<EventId>>) {
    let expected = acknowledged.lock().expect("not poisoned").clone();
    let of_stream =
        |read: StreamRead| block_on(async { store.read_stream(read).await?.collect().await }).expect("read");
    let whole = StreamRead::new(stream.clone());
    assert_complete("the stream", &of_stream(whole.clone()), &expected);
    assert_complete("a category", &log_of(store, LogRead::category(stream.category())), &expected);
    assert_complete("a tag", &log_of(store, LogRead::tag(tag())), &expected);
    assert_complete("the log", &log_of(store, LogRead::all()), &expected);
    let reversed = |mut events: Vec<RecordedEvent>| {
        events.reverse();
        events
    };
    assert_complete("the stream, backward", &reversed(of_stream(whole.backward())), &expected);
    assert_complete("a tag, backward", &reversed(log_of(store, LogRead::tag(tag()).backward())), &expected);
    for id in expected {
        let found = block_on(store.find(id)).expect("read");
        assert_eq!(found.map(|event| event.data.id), Some(id), "an acknowledged event is not found by its id");
    }
}

/// Checks that events have all revisions from the first on, and include the expected ones.
fn assert_complete(read: &str, events: &[RecordedEvent], expected: &[EventId]) {
    let revisions: Vec<_> = events.iter().map(|event| event.revision.get()).collect();
    assert_eq!(revisions, (0..events.len() as u64).collect::<Vec<_>>(), "{read} has other revisions");
    assert!(events.is_sorted_by(|one, next| one.position < next.position), "{read} is out of order");
    let has = |id: &EventId| events.iter().any(|event| event.data.id == *id);
    assert!(expected.iter().all(has), "{read} lacks an acknowledged event");
}

/// A row has the id of the event of its commit: a reader that sees the row also finds the event. Each caller sees its
/// own row and its unique key when its commit is answered.
#[test]
fn rows_and_unique_keys_are_visible_with_their_events() {
    explore_tables(|world, stream| {
        let store = world.start(&world.small_runs());
        let table = || Table::new("views").expect("a table");
        let reading = thread::spawn({
            let (store, stream) = (store.clone(), stream.clone());
            move || {
                for caller in 0..3_u8 {
                    let row = block_on(store.row(&table(), &[caller])).expect("read");
                    let Some(row) = row else { continue };
                    let id: EventId = std::str::from_utf8(&row).expect("a text").parse().expect("an id");
                    assert!(block_on(store.find(id)).expect("read").is_some(), "a row is visible before its event");
                    let has_event = events(&store, &stream).iter().any(|event| event.data.id == id);
                    assert!(has_event, "the stream lacks the event of a visible row");
                }
            }
        });
        let answers = joined(callers(&store, &stream, move |caller, store, stream| {
            let key = |number: usize| UniqueKey::new("number", format!("{caller}-{number}")).expect("a key");
            let ids = (0..2).map(|number| {
                let row = [u8::try_from(caller).expect("small")];
                let event = event().claiming(key(number));
                let event = if number > 0 { event.releasing(key(number - 1)) } else { event };
                let id = event.data.id;
                let commit = Commit::to(&stream, ExpectedRevision::Any, [event]);
                let commit = commit.put_row(table(), row.to_vec(), id.to_string());
                block_on(store.commit(commit)).expect("committed");
                let found = block_on(store.row(&table(), &row)).expect("read");
                assert_eq!(found.as_deref(), Some(id.to_string().as_bytes()), "the row of an answered commit");
                assert_eq!(block_on(store.owner(&key(number))).expect("read").as_ref(), Some(&stream));
                if number > 0 {
                    assert_eq!(block_on(store.owner(&key(number - 1))).expect("read"), None);
                }
                id
            });
            ids.collect::<Vec<_>>()
        }));
        reading.join().expect("the reader does not panic");
        block_on(store.close()).expect("closed");
        assert_events(world, &stream, &answers.concat());
    });
}

/// Commits of several streams that claim the same key: one of them gets it, whether the claim of the other is pending,
/// in memory or in a table.
#[test]
fn a_unique_key_has_exactly_one_owner() {
    explore_tables(|world, stream| {
        let store = world.start(&world.small_runs());
        let key = || UniqueKey::new("email", "ada").expect("a key");
        let wins = joined(callers(&store, &stream, move |caller, store, stream| {
            let own = StreamId::of("customer", caller).expect("a name");
            block_on(store.commit(append(&stream, ExpectedRevision::Any))).expect("committed");
            let claim = Commit::to(&own, ExpectedRevision::Any, [event().claiming(key())]);
            match block_on(store.commit(claim)) {
                Ok(_) => Some(own),
                Err(CommitError::Conflict(_)) => {
                    let owner = block_on(store.owner(&key())).expect("read");
                    assert!(owner.is_some_and(|owner| owner != own), "a refused claim, and no other owner is visible");
                    None
                }
                Err(error) => panic!("expected a winner or a conflict, found {error}"),
            }
        }));
        let owners: Vec<_> = wins.into_iter().flatten().collect();
        assert_eq!(owners.len(), 1, "{owners:?} own the key");
        assert_eq!(block_on(store.owner(&key())).expect("read").as_ref(), owners.first());
        block_on(store.close()).expect("closed");
    });
}
