//! Stamps of replicated events on disk: every copy of a log has them, and a scavenge removes them with their events.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::num::NonZeroU64;
use std::path::Path;

use common::{all, close_with_tables, event, flip, frames, open, stream, tag};
use es_core::model::{CommandDigest, CommandId, Dot, HybridTime, OriginId, Stamp, Tags, VectorClock};
use es_core::retention::{Note, Rule, Scavenge, Scope};
use es_core::{Commit, EventReader, EventStore, ExpectedRevision, NewEvent, RecordedEvent, StreamRead};
use es_rocksdb::{Backups, ReadOnlyStore, RocksDbStore, Salvage};
use tempfile::TempDir;

fn dot(origin: u64, sequence: u64) -> Dot {
    Dot { origin: OriginId::new(origin), sequence: NonZeroU64::new(sequence).unwrap() }
}

/// Returns the next event of an origin.
fn stamped(sequence: u64, seen: Option<VectorClock>) -> NewEvent {
    let mut event = event("happened").tagged(tag("t"));
    let command = (CommandId::new(format!("request-{sequence}")).unwrap(), CommandDigest::from_bits(sequence));
    event.data.stamp = Some(Box::new(Stamp {
        dot: dot(u64::MAX, sequence),
        time: HybridTime::from_bits(sequence << 12),
        command: seen.is_some().then_some(command),
        seen,
    }));
    event
}

/// Writes local and foreign commits, with and without stamps. Returns all events.
async fn write(store: &RocksDbStore) -> Vec<RecordedEvent> {
    let clock: VectorClock = [dot(1, 1), dot(2, u64::MAX), dot(300, 300)].into_iter().collect();
    let largest = (1..=es_core::store::MAX_ORIGINS as u64).map(|origin| dot(origin, origin)).collect();
    let (a, b) = (stream("a-1"), stream("b-1"));
    let local = [stamped(1, Some(clock)), event("local"), stamped(2, None), stamped(3, Some(VectorClock::new()))];
    let commits = vec![
        Commit::to(&a, ExpectedRevision::Any, local),
        Commit::to(&a, ExpectedRevision::Any, [event("local")]),
        Commit::foreign().append(b.clone(), stamped(4, Some(largest))).append(b, stamped(5, None)),
        Commit::to(&a, ExpectedRevision::Any, [stamped(6, Some(VectorClock::new()))]),
    ];
    let given: Vec<_> = commits.iter().flat_map(Commit::events).map(|(_, event)| event.data.clone()).collect();
    for result in store.commit_all(commits).await {
        result.unwrap();
    }
    let events = all(store).await;
    assert!(events.iter().map(|event| &event.data).eq(&given));
    events
}

async fn read_only(dir: &Path) -> Vec<RecordedEvent> {
    all(&ReadOnlyStore::open(dir).await.unwrap()).await
}

#[tokio::test]
async fn a_stamp_survives_reopening_backup_and_restore() {
    let root = TempDir::new().unwrap();
    let [dir, backups, target] = ["store", "backups", "target"].map(|name| root.path().join(name));
    let store = open(&dir).await;
    let events = write(&store).await;
    store.close().await.unwrap();
    assert_eq!(read_only(&dir).await, events);

    let store = open(&dir).await;
    assert_eq!(all(&store).await, events);
    let in_stream = store.read_stream(StreamRead::new(stream("b-1"))).await.unwrap().collect().await.unwrap();
    assert_eq!(in_stream, events[5..7]);
    store.compact().await.unwrap();
    assert_eq!(all(&store).await, events);
    let backups = Backups::new(backups);
    backups.create(&dir, &mut |_, _, _| {}).await.unwrap();
    store.close().await.unwrap();
    backups.restore(None, &target, &mut |_, _, _| {}).await.unwrap();
    let restored = open(&target).await;
    assert_eq!(all(&restored).await, events);
    restored.close().await.unwrap();
}

#[tokio::test]
async fn a_copy_with_added_tags_keeps_the_stamps() {
    let (source, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(source.path()).await;
    let mut events = write(&store).await;
    store.close().await.unwrap();
    let target = open(copy.path()).await;
    let mut tags = |_: es_core::model::EventView<'_>| Ok(Tags::from([tag("added")]));
    ReadOnlyStore::open(source.path()).await.unwrap().retag(&target, &mut tags).await.unwrap();
    for event in &mut events {
        event.data.tags.insert(tag("added"));
    }
    assert_eq!(all(&target).await, events);
    target.close().await.unwrap();
}

#[tokio::test]
async fn a_repair_keeps_the_stamps() {
    let root = TempDir::new().unwrap();
    let [dir, repaired] = ["store", "repaired"].map(|name| root.path().join(name));
    // The tables have the event after the damaged frame, too: rows at the end of that frame would be in them.
    let events = close_with_tables(&dir, 9, write).await;
    flip(&dir, 6);
    flip(&dir, 1);
    let salvage = Salvage::survey(&dir, &mut |_, _, _| {}).unwrap();
    assert_eq!(salvage.report().from_streams, 2);
    assert!(salvage.report().loss.is_none(), "{:?}", salvage.report().loss);
    salvage.write(&repaired, None, &mut |_| Ok(()), &mut |_, _, _| {}).unwrap().complete().unwrap();
    assert_eq!(read_only(&repaired).await[..events.len()], events);
}

#[tokio::test]
async fn a_scavenge_removes_the_stamps_of_removed_events_only() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).await;
    let events = write(&store).await;
    let rule = Rule { max_count: Some(1), ..Rule::default() };
    store.commit(Commit::set_rule(Scope::Stream(stream("a-1")), rule, Note::default())).await.unwrap();
    assert_eq!(store.scavenge(&Scavenge::default()).await.unwrap().events, 5);
    store.compact().await.unwrap();
    store.close().await.unwrap();
    assert_eq!(read_only(dir.path()).await[..3], events[5..]);
    assert_eq!(frames(dir.path()).windows(8).filter(|bytes| bytes == b"request-").count(), 2);
}
