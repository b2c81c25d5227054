//! A read-only store is a consistent snapshot during concurrent writes, and writes nothing.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use common::{all, append, event, files, open, positions, stream};
use es_core::{Commit, EventReader, EventStore, ExpectedRevision, Position};
use es_rocksdb::{Durability, OpenError, Options, ReadOnlyStore};
use tempfile::TempDir;

#[tokio::test]
async fn a_snapshot_does_not_change_and_a_refreshed_one_is_newer() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).await;
    store.commit(append("a-1")).await.unwrap();

    let first = ReadOnlyStore::open(dir.path()).await.unwrap();
    assert_eq!((first.log_id(), first.created()), (store.log_id(), store.created()));
    assert!(first.refresh().await.unwrap().is_none());
    let mut reader = first.clone();
    for round in 2..=30 {
        store.commit(append("a-1")).await.unwrap();
        if round % 10 == 0 {
            // The data moves into other files, and the old files are removed.
            store.compact().await.unwrap();
        }
        reader = reader.refresh().await.unwrap().expect("new events were written");
        assert_eq!(all(&reader).await, all(&store).await);
    }
    assert_eq!(first.head().await.unwrap(), Some(Position::FIRST));
    assert_eq!(positions(&all(&first).await), [1]);
    assert!(reader.verify(&mut |_, _, _| {}).unwrap().is_sound());
    store.close().await.unwrap();
}

/// With a write buffer this small, log files and table files are created and removed while readers open the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_during_writes_each_see_a_consistent_snapshot() {
    let dir = TempDir::new().unwrap();
    let store = Options::new().durability(Durability::Buffered).write_buffer_bytes(64 * 1024).open(dir.path()).await;
    let store = store.unwrap();
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for number in 0..6000 {
                store.commit(append(&format!("a-{}", number % 50))).await.unwrap();
            }
        }
    });
    let mut last = None;
    while !writer.is_finished() {
        let before = store.head().await.unwrap();
        let reader = ReadOnlyStore::open(dir.path()).await.unwrap();
        let head = reader.head().await.unwrap();
        assert!(head >= before && head >= last, "{head:?} {before:?} {last:?}");
        let found = tokio::task::spawn_blocking(move || reader.verify(&mut |_, _, _| {}).unwrap()).await.unwrap();
        assert!(found.is_sound(), "{:?}", found.damage.first());
        last = head;
    }
    writer.await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn reading_changes_no_file() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).await;
    store.commit(append("a-1")).await.unwrap();
    store.close().await.unwrap();
    let before = files(dir.path());
    let reader = ReadOnlyStore::open(dir.path()).await.unwrap();
    assert_eq!(all(&reader).await.len(), 1);
    assert!(reader.verify(&mut |_, _, _| {}).unwrap().is_sound());
    assert!(reader.refresh().await.unwrap().is_none());
    drop(reader);
    assert!(files(dir.path()) == before, "a file was changed");
}

#[tokio::test]
async fn a_directory_without_a_store_is_an_error() {
    let dir = TempDir::new().unwrap();
    let refused = ReadOnlyStore::open(dir.path()).await.unwrap_err();
    assert!(matches!(refused, OpenError::NoSuchDirectory { .. }), "{refused}");
    let refused = ReadOnlyStore::open(dir.path().join("nowhere")).await.unwrap_err();
    assert!(matches!(refused, OpenError::NoSuchDirectory { .. }), "{refused}");
    assert_eq!(files(dir.path()), []);
}

#[tokio::test]
async fn streams_are_listed_in_pages() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).await;
    for name in ["b-2", "a-1", "b-1", "b-10"] {
        let events = [event("happened"), event("happened")];
        store.commit(Commit::to(&stream(name), ExpectedRevision::NoStream, events)).await.unwrap();
    }
    let reader = ReadOnlyStore::open(dir.path()).await.unwrap();
    let names = |page: Vec<(es_core::StreamId, es_core::Revision)>| -> Vec<String> {
        page.into_iter().map(|(stream, revision)| format!("{stream}:{revision}")).collect()
    };
    assert_eq!(names(reader.streams("", None, 10).await.unwrap()), ["a-1:1", "b-1:1", "b-10:1", "b-2:1"]);
    assert_eq!(names(reader.streams("b-", None, 2).await.unwrap()), ["b-1:1", "b-10:1"]);
    assert_eq!(names(reader.streams("b-", Some(&stream("b-10")), 2).await.unwrap()), ["b-2:1"]);
    store.close().await.unwrap();
}
