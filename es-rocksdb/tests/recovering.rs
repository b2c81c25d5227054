//! A torn end of the write-ahead log is dropped in peace; damage that would lose what was acknowledged is refused, with
//! what is lost, before anything in the folder is touched.
//!
//! Why this is not RocksDB's own business stands in `src/recovery.rs`.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{all, append, event, files, open, positions, refused, stream, tag};
use es_core::{Commit, EventStore, ExpectedRevision, Position, Table};
use es_rocksdb::{Durability, OpenError, Options};

/// The file with the high-water mark. Where it is gone, the store is as after a power failure that came before the system
/// wrote it.
const MARK: &str = "ACKNOWLEDGED";

/// A closed store with five events at positions 1 to 5 of one stream, each in a commit of its own.
async fn five(folder: &Path) {
    let store = open(folder).await;
    for _ in 0..5 {
        let commit = Commit::to(&stream("order-1"), ExpectedRevision::Any, [event("happened").tagged(tag("a:1"))]);
        store.commit(commit).await.unwrap();
    }
    store.close().await.unwrap();
}

/// The write-ahead log of a closed store: the largest, because opening leaves empty ones.
fn write_ahead_log(folder: &Path) -> PathBuf {
    let logs = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).unwrap();
    change(&mut bytes);
    fs::write(file, bytes).unwrap();
}

/// Where the records of a write-ahead log that is smaller than a block begin.
fn records(log: &Path) -> Vec<usize> {
    let bytes = fs::read(log).unwrap();
    let (mut starts, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        starts.push(at);
        at += 7 + usize::from(u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]));
    }
    starts
}

async fn damage(folder: &Path) -> String {
    let before = files(folder);
    let error = refused(folder).await;
    let OpenError::Damaged { detail, .. } = &error else { panic!("expected damage, found {error}") };
    assert!(files(folder) == before, "nothing is written to a damaged store");
    detail.clone()
}

#[tokio::test]
async fn a_torn_end_of_the_write_ahead_log_loses_only_the_commit_that_was_torn() {
    type Tear = fn(&mut Vec<u8>);
    let cut: Tear = |bytes| bytes.truncate(bytes.len() - 10);
    let zeros: Tear = |bytes| {
        let end = bytes.len();
        bytes[end - 64..].fill(0);
    };
    for tear in [cut, zeros] {
        let folder = tempfile::tempdir().unwrap();
        five(folder.path()).await;
        change(&write_ahead_log(folder.path()), tear);
        fs::remove_file(folder.path().join(MARK)).unwrap();
        let store = open(folder.path()).await;
        assert_eq!(positions(&all(&store).await), [1, 2, 3, 4]);
        let committed = store.commit(append("order-1")).await.unwrap();
        assert_eq!(committed.position().map(Position::get), Some(5));
        store.close().await.unwrap();
        assert_eq!(positions(&all(&open(folder.path()).await).await), [1, 2, 3, 4, 5]);
    }
}

/// The same cut, but the commit was acknowledged: the mark says so.
#[tokio::test]
async fn a_write_ahead_log_that_ends_before_what_was_acknowledged_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    five(folder.path()).await;
    let log = write_ahead_log(folder.path());
    let starts = records(&log);
    change(&log, |bytes| bytes.truncate(starts[starts.len() - 2]));
    let detail = damage(folder.path()).await;
    assert!(detail.ends_with("the events at positions 4 to 5 are lost (2)"), "{detail}");
}

/// RocksDB takes a length that reaches beyond the end of the file for a torn record, in every mode, and drops what is
/// behind.
#[tokio::test]
async fn a_flipped_bit_in_the_length_of_a_record_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    five(folder.path()).await;
    let log = write_ahead_log(folder.path());
    let starts = records(&log);
    change(&log, |bytes| bytes[starts[starts.len() - 4] + 5] ^= 0x40);
    let detail = damage(folder.path()).await;
    assert!(detail.ends_with("the events at positions 2 to 5 are lost (4)"), "{detail}");

    fs::remove_file(folder.path().join(MARK)).unwrap();
    let detail = damage(folder.path()).await;
    assert!(detail.starts_with("the length of the record at byte "), "{detail}");
}

/// It would lose a table with what its family needs: the manifest says which tables there are.
#[tokio::test]
async fn a_flipped_bit_in_the_length_of_the_last_record_of_the_manifest_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    five(folder.path()).await;
    open(folder.path()).await.close().await.unwrap();
    let current = fs::read_to_string(folder.path().join("CURRENT")).unwrap();
    let manifest = folder.path().join(current.trim_end());
    let last = *records(&manifest).last().unwrap();
    change(&manifest, |bytes| bytes[last + 5] ^= 0x20);
    let detail = damage(folder.path()).await;
    assert!(detail.contains(" of MANIFEST-"), "{detail}");
}

#[tokio::test]
async fn a_flipped_bit_within_the_write_ahead_log_is_damage_and_says_what_is_lost() {
    for has_mark in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        five(folder.path()).await;
        // NOTE: longer than a block, because RocksDB drops the rest of the block with the record.
        let store = open(folder.path()).await;
        for _ in 0..400 {
            store.commit(append("order-2")).await.unwrap();
        }
        store.close().await.unwrap();
        if !has_mark {
            fs::remove_file(folder.path().join(MARK)).unwrap();
        }
        change(&write_ahead_log(folder.path()), |bytes| bytes[1000] ^= 1);
        let detail = damage(folder.path()).await;
        assert!(detail.starts_with("a record in the middle of the write-ahead log cannot be read"), "{detail}");
        assert!(detail.contains(" to 405, ") && detail.ends_with(" can be read"), "{detail}");
    }
}

/// The first record says what the store is. Without it the folder looks like one that was never used.
#[tokio::test]
async fn a_store_whose_whole_write_ahead_log_is_gone_is_not_taken_for_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    five(folder.path()).await;
    change(&write_ahead_log(folder.path()), Vec::clear);
    let detail = damage(folder.path()).await;
    assert!(detail.ends_with("the events at positions 1 to 5 are lost (5)"), "{detail}");
}

#[tokio::test]
async fn a_lost_change_of_a_row_is_damage_without_a_lost_event() {
    let folder = tempfile::tempdir().unwrap();
    five(folder.path()).await;
    let store = open(folder.path()).await;
    for value in ["1", "2"] {
        let commit = Commit::new().put_row(Table::new("t").unwrap(), "key", value.to_owned());
        store.commit(commit).await.unwrap();
    }
    store.close().await.unwrap();
    let log = write_ahead_log(folder.path());
    let starts = records(&log);
    change(&log, |bytes| bytes.truncate(starts[starts.len() - 1]));
    let detail = damage(folder.path()).await;
    assert!(detail.contains("behind position 5 are lost, but no event"), "{detail}");
}

#[tokio::test]
async fn a_buffered_store_that_was_closed_is_marked_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = Options::new().durability(Durability::Buffered).open(folder.path()).await.unwrap();
    store.commit(append("order-1")).await.unwrap();
    store.commit(append("order-1")).await.unwrap();
    store.close().await.unwrap();
    change(&write_ahead_log(folder.path()), |bytes| bytes.truncate(bytes.len() - 1));
    let detail = damage(folder.path()).await;
    assert!(detail.ends_with("the events at positions 2 to 2 are lost (1)"), "{detail}");
}

/// Whoever restores files by hand may leave the mark out, and a mark may be torn.
#[tokio::test]
async fn a_store_without_a_mark_that_can_be_read_opens() {
    let folder = tempfile::tempdir().unwrap();
    five(folder.path()).await;
    for content in [None, Some(vec![]), Some(vec![0xff; 5000])] {
        let mark = folder.path().join(MARK);
        match content {
            None => fs::remove_file(mark).unwrap(),
            Some(content) => fs::write(mark, content).unwrap(),
        }
        let store = open(folder.path()).await;
        assert_eq!(positions(&all(&store).await), [1, 2, 3, 4, 5]);
        store.close().await.unwrap();
    }
}
