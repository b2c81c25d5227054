//! Reading of a segmented store without writing, beside a process that writes it and alone.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::time::SystemTime;

use common::segmented::{content, files, fill, filled, open, scavenged};
use common::stream;
use es_core::store::{Query, QueryItem};
use es_core::{EventReader, EventStore, LogRead};
use es_rocksdb::{HiddenEvents, OpenError, Options, ReadOnlyStore};

/// A snapshot has the content of the store: in tables, in runs and in the log only, with rows after the last event.
#[tokio::test]
async fn a_snapshot_has_all_acknowledged_commits() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
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
    let store = open(directory.path()).await;
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
        files(directory.path()).into_iter().map(state).collect()
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

#[tokio::test]
async fn a_directory_without_a_store_and_one_without_an_index_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let [empty, damaged] = ["empty", "damaged"].map(|name| directory.path().join(name));
    std::fs::create_dir(&empty).unwrap();
    assert!(matches!(ReadOnlyStore::open(&empty).await, Err(OpenError::NoSuchDirectory { .. })));
    filled(&damaged, 20).await;
    std::fs::remove_file(damaged.join("index/CURRENT")).unwrap();
    assert!(matches!(ReadOnlyStore::open(&damaged).await, Err(OpenError::Damaged { .. })));
}

/// Regression: a store whose creation was interrupted was reported as damaged.
#[tokio::test]
async fn an_unfinished_store_is_no_store_and_one_without_its_log_is_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let [unfinished, damaged] = ["unfinished", "damaged"].map(|name| directory.path().join(name));
    std::fs::create_dir_all(unfinished.join("index")).unwrap();
    assert!(matches!(ReadOnlyStore::open(&unfinished).await, Err(OpenError::NoSuchDirectory { .. })));
    filled(&damaged, 20).await;
    std::fs::remove_dir_all(damaged.join("log")).unwrap();
    assert!(matches!(ReadOnlyStore::open(&damaged).await, Err(OpenError::Damaged { .. })));
    let error = Options::new().open_segmented(&damaged).await.unwrap_err();
    assert!(error.to_string().contains("expected the directory of the log, found none"), "{error}");
}
