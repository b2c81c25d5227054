//! After the directory of an open store is removed, moved or replaced, the store acknowledges no commit and writes
//! nothing to the new directory.
//!
//! Regression: a store whose directory was removed continued to acknowledge commits, in unlinked files, until RocksDB
//! needed a new file.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{all, append, open, positions, stream};
use es_core::{CommitError, EventReader, EventStore, Revision, StoreError};
use es_rocksdb::{Durability, Options, RocksDbStore};

async fn refused_commit(store: &RocksDbStore) -> String {
    match store.commit(append("a-1")).await {
        Err(CommitError::Store(StoreError::Stopped { reason })) => reason,
        other => panic!("expected that the store has stopped, found {other:?}"),
    }
}

fn names(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn the_next_commit_detects_a_removed_directory_and_reads_continue() {
    for durability in [Durability::Sync, Durability::Buffered] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = Options::new().durability(durability).open(&path).await.unwrap();
        store.commit(append("a-1")).await.unwrap();
        fs::remove_dir_all(&path).unwrap();
        let reason = refused_commit(&store).await;
        assert!(reason.contains("the directory of the log was removed, moved or replaced"), "{reason}");
        assert_eq!(refused_commit(&store).await, reason, "it stays so");
        assert_eq!(positions(&all(&store).await), [1]);
        assert_eq!(store.revision(&stream("a-1")).await.unwrap(), Some(Revision::FIRST));
        // RocksDB may report an error, but closing must end.
        let _ = store.close().await;
        assert!(!path.exists(), "it was made again");
    }
}

#[tokio::test]
async fn a_replaced_directory_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("store"), dir.path().join("moved"));
    let store = open(&path).await;
    store.commit(append("a-1")).await.unwrap();
    fs::rename(&path, &moved).unwrap();
    let other = open(&dir.path().join("other")).await;
    other.commit(append("b-1")).await.unwrap();
    other.close().await.unwrap();
    fs::rename(dir.path().join("other"), &path).unwrap();
    let before = names(&path);

    let reason = refused_commit(&store).await;
    assert!(reason.contains("the directory of the log was removed, moved or replaced"), "{reason}");
    assert_eq!(positions(&all(&store).await), [1]);
    let _ = store.close().await;
    assert_eq!(names(&path), before, "files of the one store are in the directory of the other");

    let other = open(&path).await;
    assert_eq!(all(&other).await[0].stream, stream("b-1"));
    let moved = open(&moved).await;
    assert_eq!(all(&moved).await[0].stream, stream("a-1"), "what was acknowledged is where it was moved to");
}
