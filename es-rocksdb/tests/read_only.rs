//! A read-only store is a consistent snapshot during concurrent writes, and writes nothing.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::time::SystemTime;

use common::stores::{content, files as paths, fill, filled, open as small, scavenged};
use common::{all, append, event, files, open, positions, stream};
use es_core::store::{Query, QueryItem};
use es_core::{Commit, EventReader, EventStore, ExpectedRevision, LogRead, Position};
use es_rocksdb::{Durability, HiddenEvents, OpenError, Options, ReadOnlyStore};
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

/// A snapshot has the content of the store: in tables, in runs and in the log only, with rows after the last event.
#[tokio::test]
async fn a_snapshot_has_all_acknowledged_commits() {
    let directory = tempfile::tempdir().unwrap();
    let store = small(directory.path()).await;
    for round in 0..8 {
        fill(&store, round * 9, 9).await;
        let reader = ReadOnlyStore::open(directory.path()).await.unwrap();
        let expected = content(&store).await;
        assert_eq!(content(&reader).await, expected, "round {round}");
        assert_eq!(reader.log_id(), store.log_id());
        fill(&store, round * 9, 1).await;
        assert_eq!(content(&reader).await, expected, "a snapshot does not change");
        let newer = reader.refresh().await.unwrap().expect("the store has changed");
        assert_eq!(content(&newer).await, content(&store).await);
        assert!(newer.refresh().await.unwrap().is_none());
    }
    store.close().await.unwrap();
}

/// The store is compacted and scavenged while snapshots are open.
#[tokio::test]
async fn a_snapshot_survives_a_compaction() {
    let directory = tempfile::tempdir().unwrap();
    let store = small(directory.path()).await;
    fill(&store, 0, 40).await;
    let reader = ReadOnlyStore::open(directory.path()).await.unwrap();
    let before = content(&reader).await;
    store.compact().await.unwrap();
    fill(&store, 40, 40).await;
    store.compact().await.unwrap();
    assert_eq!(content(&reader).await, before);
    let reader = ReadOnlyStore::open(directory.path()).await.unwrap();
    assert_eq!(content(&reader).await, content(&store).await);
    store.close().await.unwrap();
    assert_eq!(content(&ReadOnlyStore::open(directory.path()).await.unwrap()).await, content(&reader).await);
}

#[tokio::test]
async fn reading_changes_no_file() {
    let directory = tempfile::tempdir().unwrap();
    scavenged(directory.path(), 40).await;
    let all = || -> Vec<(std::path::PathBuf, Vec<u8>, SystemTime)> {
        let state = |path: std::path::PathBuf| {
            let modified = path.metadata().unwrap().modified().unwrap();
            (path.clone(), std::fs::read(&path).unwrap(), modified)
        };
        paths(directory.path()).into_iter().map(state).collect()
    };
    let before = all();
    let reader = ReadOnlyStore::open(directory.path()).await.unwrap();
    content(&reader).await;
    assert!(reader.verify(&mut |_, _, _| {}).unwrap().is_sound());
    drop(reader);
    assert!(all() == before, "a file was changed");
}

#[tokio::test]
async fn hidden_events_are_read_in_each_form() {
    let directory = tempfile::tempdir().unwrap();
    scavenged(directory.path(), 40).await;
    let reader = ReadOnlyStore::open(directory.path()).await.unwrap();
    let head = reader.head().await.unwrap().unwrap().get();
    for hidden in [HiddenEvents::AsTombstones, HiddenEvents::WithContent] {
        let read = |read| reader.read_log_with_hidden(read, hidden).collect();
        let all = read(LogRead::all()).await.unwrap();
        assert_eq!(all.iter().map(|event| event.position.get()).collect::<Vec<_>>(), (1..=head).collect::<Vec<_>>());
        assert!(all.iter().any(|event| event.is_removed() && event.stream == stream("order-1")));
        let mut backward = read(LogRead::all().backward()).await.unwrap();
        backward.reverse();
        assert_eq!(backward, all);
        let from = all[20].position;
        assert_eq!(read(LogRead::all().from(from).limit(3)).await.unwrap(), all[20..23]);
        let mut visited = Vec::new();
        let mut visit = |event: es_core::model::EventView<'_>| {
            visited.push(event.position());
            std::ops::ControlFlow::Continue(())
        };
        let scanned = reader.visit_log_with_hidden(LogRead::all(), hidden, &mut visit).await.unwrap();
        assert_eq!((visited.len(), scanned), (all.len(), all.last().map(|event| event.position)));
        let of_type = Query::from(QueryItem::new().event_type(all[20].data.event_type.clone()));
        let matching = read(LogRead::matching(of_type.clone())).await.unwrap();
        let expected = all.iter().filter(|event| !event.is_removed() && of_type.matches_event(event)).cloned();
        assert_eq!(matching, expected.collect::<Vec<_>>());
    }
    let claims = reader.claims_of_hidden_events().await.unwrap();
    assert!(claims.keys().all(|(name, _)| *name == stream("order-1")), "{claims:?}");
}

/// Regression: a store whose creation was interrupted was reported as damaged.
#[tokio::test]
async fn an_unfinished_store_is_no_store_and_one_without_its_log_is_damaged() {
    let directory = TempDir::new().unwrap();
    let [unfinished, damaged] = ["unfinished", "damaged"].map(|name| directory.path().join(name));
    std::fs::create_dir_all(unfinished.join("index")).unwrap();
    assert!(matches!(ReadOnlyStore::open(&unfinished).await, Err(OpenError::NoSuchDirectory { .. })));
    // The process ended before it had created all column families, which was reported as damage, too.
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    drop(rocksdb::DB::open_cf(&options, unfinished.join("index"), ["meta"]).unwrap());
    assert!(matches!(ReadOnlyStore::open(&unfinished).await, Err(OpenError::NoSuchDirectory { .. })));
    Options::new().open(&unfinished).await.unwrap().close().await.unwrap();
    assert_eq!(ReadOnlyStore::open(&unfinished).await.unwrap().head().await.unwrap(), None);
    filled(&damaged, 20).await;
    std::fs::remove_dir_all(damaged.join("log")).unwrap();
    assert!(matches!(ReadOnlyStore::open(&damaged).await, Err(OpenError::Damaged { .. })));
    let error = Options::new().open(&damaged).await.unwrap_err();
    assert!(error.to_string().contains("expected the directory of the log, found none"), "{error}");
}

#[tokio::test]
async fn a_store_without_an_index_is_damaged() {
    let dir = TempDir::new().unwrap();
    filled(dir.path(), 20).await;
    std::fs::remove_file(dir.path().join("index/CURRENT")).unwrap();
    assert!(matches!(ReadOnlyStore::open(dir.path()).await, Err(OpenError::Damaged { .. })));
}
