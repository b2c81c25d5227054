//! Helpers of the cases: create, commit and read events.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::{Category, EventType, StreamId, Table, Tag, UniqueKey};
use crate::model::{ExpectedRevision, Position, Revision};
use crate::model::{NewEvent, RecordedEvent};
use crate::store::{Commit, CommitError, Committed, Conflict, EventStore, FailedCheck, LogRead, StreamRead};

pub(super) use super::Harness;
pub(super) use ExpectedRevision::{Any, Exact, NoStream, StreamExists};

pub(super) type Store = Arc<dyn EventStore>;

pub(super) fn stream(name: &str) -> StreamId {
    StreamId::new(name).expect("a valid stream id")
}

pub(super) fn event_type(name: &str) -> EventType {
    EventType::new(name).expect("a valid event type")
}

pub(super) fn tag(name: &str) -> Tag {
    Tag::new(name).expect("a valid tag")
}

pub(super) fn category(name: &str) -> Category {
    Category::new(name).expect("a valid category")
}

pub(super) fn table(name: &str) -> Table {
    Table::new(name).expect("a valid table")
}

pub(super) fn key(value: &str) -> UniqueKey {
    UniqueKey::new("scope", value).expect("a valid unique key")
}

pub(super) fn at(number: u64) -> Position {
    Position::new(number).expect("a position is at least 1")
}

pub(super) const fn rev(number: u64) -> Revision {
    Revision::new(number)
}

/// Returns an event of a type, with a new id.
pub(super) fn event(name: &str) -> NewEvent {
    NewEvent::json(event_type(name), r#"{"a":1}"#)
}

/// Returns an event of a type with tags.
pub(super) fn tagged(name: &str, tags: &[&str]) -> NewEvent {
    tags.iter().fold(event(name), |event, name| event.tagged(tag(name)))
}

/// Returns several events of one type.
pub(super) fn events(count: usize) -> Vec<NewEvent> {
    (0..count).map(|_| event("happened")).collect()
}

pub(super) async fn commit(store: &Store, commit: Commit) -> Committed {
    store.commit(commit).await.expect("the commit is written")
}

/// Appends events of these types to a stream.
pub(super) async fn append(store: &Store, name: &str, types: &[&str]) -> Committed {
    commit(store, Commit::to(&stream(name), Any, types.iter().map(|name| event(name)))).await
}

pub(super) async fn conflict(store: &Store, commit: Commit) -> Vec<FailedCheck> {
    match store.commit(commit).await {
        Err(CommitError::Conflict(Conflict { failed })) => failed,
        other => panic!("expected a conflict, found {other:?}"),
    }
}

pub(super) async fn log(store: &Store) -> Vec<RecordedEvent> {
    read(store, LogRead::all()).await
}

pub(super) async fn read(store: &Store, read: LogRead) -> Vec<RecordedEvent> {
    store.read_log(read).await.expect("the read is opened").collect().await.expect("the log is read")
}

pub(super) async fn read_stream(store: &Store, read: StreamRead) -> Vec<RecordedEvent> {
    store.read_stream(read).await.expect("the read is opened").collect().await.expect("the stream is read")
}

/// Returns the positions of the events of a read.
pub(super) async fn positions(store: &Store, log_read: LogRead) -> Vec<u64> {
    numbers(&read(store, log_read).await)
}

/// Returns the revisions of the events of a read.
pub(super) async fn revisions(store: &Store, stream_read: StreamRead) -> Vec<u64> {
    read_stream(store, stream_read).await.iter().map(|event| event.revision.get()).collect()
}

/// Returns the positions of events.
pub(super) fn numbers(events: &[RecordedEvent]) -> Vec<u64> {
    events.iter().map(|event| event.position.get()).collect()
}

pub(super) async fn row(store: &Store, table_name: &str, key: &str) -> Option<Bytes> {
    store.row(&table(table_name), key.as_bytes()).await.expect("the row is read")
}

/// Returns a failed check of a revision.
pub(super) fn revision_check(name: &str, expected: ExpectedRevision, actual: Option<u64>) -> FailedCheck {
    FailedCheck::Revision { stream: stream(name), expected, actual: actual.map(rev) }
}
