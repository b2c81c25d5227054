//! Opening drops a torn end of the write-ahead log. It rejects damage that would lose acknowledged commits, with a
//! description of the loss, before it changes the directory.
//!
//! `src/recovery.rs` documents why RocksDB's own recovery is not sufficient.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{all, append, event, files, open, positions, refused, stream, tag};
use es_core::model::Table;
use es_core::{Commit, EventStore, EventType, ExpectedRevision, NewEvent, Position};
use es_rocksdb::{Durability, OpenError, Options, ReadOnlyStore};

/// The file with the high-water mark. Without it, the store is as after a power failure before the system wrote the
/// file.
const MARK: &str = "ACKNOWLEDGED";

/// A closed store with five events at positions 1 to 5 of one stream, each in a commit of its own.
async fn five(dir: &Path) {
    let store = open(dir).await;
    for _ in 0..5 {
        let commit = Commit::to(&stream("order-1"), ExpectedRevision::Any, [event("happened").tagged(tag("a:1"))]);
        store.commit(commit).await.unwrap();
    }
    store.close().await.unwrap();
}

/// Returns the write-ahead log of a closed store: the largest one, because opening creates empty ones.
fn write_ahead_log(dir: &Path) -> PathBuf {
    let logs = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).unwrap();
    change(&mut bytes);
    fs::write(file, bytes).unwrap();
}

/// Returns the offsets of the records in a write-ahead log that is smaller than a block.
fn records(log: &Path) -> Vec<usize> {
    let bytes = fs::read(log).unwrap();
    let (mut starts, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        starts.push(at);
        at += 7 + usize::from(u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]));
    }
    starts
}

async fn damage(dir: &Path) -> String {
    let before = files(dir);
    let error = refused(dir).await;
    let OpenError::Damaged { detail, .. } = &error else { panic!("expected damage, found {error}") };
    let looked = ReadOnlyStore::open(dir).await.expect_err("who only looks must see it, too");
    assert_eq!(looked.to_string(), error.to_string());
    let of =
        |files: &[(String, Vec<u8>)]| files.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect::<Vec<_>>();
    let after = files(dir);
    assert_eq!(of(&after), of(&before), "nothing is written to a damaged store ({detail})");
    assert!(after == before, "nothing is written to a damaged store");
    detail.clone()
}

async fn seen_by_who_only_looks(dir: &Path) -> Vec<u64> {
    positions(&all(&ReadOnlyStore::open(dir).await.unwrap()).await)
}

#[tokio::test]
async fn a_torn_end_of_the_write_ahead_log_loses_only_the_torn_commit() {
    type Tear = fn(&mut Vec<u8>);
    let cut: Tear = |bytes| bytes.truncate(bytes.len() - 10);
    let zeros: Tear = |bytes| {
        let end = bytes.len();
        bytes[end - 64..].fill(0);
    };
    for tear in [cut, zeros] {
        let dir = tempfile::tempdir().unwrap();
        five(dir.path()).await;
        change(&write_ahead_log(dir.path()), tear);
        fs::remove_file(dir.path().join(MARK)).unwrap();
        assert_eq!(seen_by_who_only_looks(dir.path()).await, [1, 2, 3, 4]);
        let store = open(dir.path()).await;
        assert_eq!(positions(&all(&store).await), [1, 2, 3, 4]);
        let committed = store.commit(append("order-1")).await.unwrap();
        assert_eq!(committed.position().map(Position::get), Some(5));
        store.close().await.unwrap();
        assert_eq!(positions(&all(&open(dir.path()).await).await), [1, 2, 3, 4, 5]);
    }
}

/// The same truncation, but according to the mark the commit was acknowledged.
#[tokio::test]
async fn a_write_ahead_log_that_ends_before_an_acknowledged_commit_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    five(dir.path()).await;
    let log = write_ahead_log(dir.path());
    let starts = records(&log);
    change(&log, |bytes| bytes.truncate(starts[starts.len() - 2]));
    let detail = damage(dir.path()).await;
    assert!(detail.ends_with("the events at positions 4 to 5 are lost (2)"), "{detail}");
}

/// RocksDB treats a record with a length beyond the end of the file as torn, in every mode, and drops the rest of the
/// log.
#[tokio::test]
async fn a_flipped_bit_in_the_length_of_a_record_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    five(dir.path()).await;
    let log = write_ahead_log(dir.path());
    let starts = records(&log);
    change(&log, |bytes| bytes[starts[starts.len() - 4] + 5] ^= 0x40);
    let detail = damage(dir.path()).await;
    assert!(detail.ends_with("the events at positions 2 to 5 are lost (4)"), "{detail}");

    fs::remove_file(dir.path().join(MARK)).unwrap();
    let detail = damage(dir.path()).await;
    assert!(detail.starts_with("one bit of the record at byte "), "{detail}");
}

/// Regression: RocksDB drops the rest of a block with an unreadable record, in every mode. Without a mark, a store
/// opened with one event of five; if the record was the first one, a new store replaced the old one.
#[tokio::test]
async fn damage_in_the_last_block_is_damage_also_without_a_mark() {
    for (record, damage_of) in [(0, "bit"), (0, "bytes"), (2, "bit"), (2, "bytes"), (5, "bit")] {
        let dir = tempfile::tempdir().unwrap();
        five(dir.path()).await;
        fs::remove_file(dir.path().join(MARK)).unwrap();
        let log = write_ahead_log(dir.path());
        let at = records(&log)[record] + 20;
        change(&log, |bytes| match damage_of {
            "bit" => bytes[at] ^= 1,
            _ => bytes[at..at + 10].fill(0xaa),
        });
        let detail = damage(dir.path()).await;
        let place = format!("at byte {} of ", at - 20);
        assert!(detail.contains(&place), "{record}, {damage_of}: {detail}");
    }
}

/// Creates a store with several files of the write-ahead log that are not in table files yet, as during normal
/// operation.
async fn with_many_logs(dir: &Path, durability: Durability) -> Vec<PathBuf> {
    let options = Options::new().durability(durability).write_buffer_bytes(256 << 10);
    let store = options.open(dir).await.unwrap();
    for number in 0..24 {
        let payload = format!("\"{}\"", "x".repeat(64 << 10));
        let event = NewEvent::json(EventType::new("happened").unwrap(), payload);
        let stream = stream(&format!("order-{}", number % 3));
        store.commit(Commit::to(&stream, ExpectedRevision::Any, [event])).await.unwrap();
    }
    store.close().await.unwrap();
    let mut logs: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    logs.retain(|path| {
        path.extension().is_some_and(|extension| extension == "log") && path.metadata().unwrap().len() > 0
    });
    logs.sort();
    assert!(logs.len() > 3, "{logs:?}");
    logs
}

/// Regression: a missing or empty file of the write-ahead log, other than the last one, was no error of RocksDB. The
/// store opened, assigned revisions twice, and accepted repeated commits as new ones.
#[tokio::test]
async fn a_missing_file_of_the_write_ahead_log_is_damage() {
    for durability in [Durability::Sync, Durability::Buffered] {
        let dir = tempfile::tempdir().unwrap();
        let logs = with_many_logs(dir.path(), durability).await;
        for log in &logs[..logs.len() - 1] {
            let whole = fs::read(log).unwrap();
            fs::remove_file(log).unwrap();
            let detail = damage(dir.path()).await;
            assert!(detail.starts_with("the write-ahead log is not whole: Missing WAL"), "{detail}");
            fs::write(log, b"").unwrap();
            let detail = damage(dir.path()).await;
            assert!(detail.starts_with("the write-ahead log is not whole: Size mismatch"), "{detail}");
            fs::write(log, whole).unwrap();
        }
        assert_eq!(all(&open(dir.path()).await).await.len(), 24);
    }
}

/// RocksDB ignores a block of zeros that starts and ends at the boundaries of records; otherwise it is a hole in the
/// log.
#[tokio::test]
async fn a_block_of_zeros_in_the_middle_of_the_write_ahead_log_is_damage() {
    const BLOCK: usize = 32 * 1024;
    for has_mark in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).await;
        for _ in 0..400 {
            store.commit(append("order-1")).await.unwrap();
        }
        store.close().await.unwrap();
        if !has_mark {
            fs::remove_file(dir.path().join(MARK)).unwrap();
        }
        change(&write_ahead_log(dir.path()), |bytes| bytes[BLOCK..2 * BLOCK].fill(0));
        damage(dir.path()).await;
    }
}

/// The manifest lists the table files: RocksDB would open the store without one of them.
#[tokio::test]
async fn a_flipped_bit_in_the_length_of_the_last_record_of_the_manifest_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    five(dir.path()).await;
    open(dir.path()).await.close().await.unwrap();
    let current = fs::read_to_string(dir.path().join("CURRENT")).unwrap();
    let manifest = dir.path().join(current.trim_end());
    let last = *records(&manifest).last().unwrap();
    change(&manifest, |bytes| bytes[last + 5] ^= 0x20);
    let detail = damage(dir.path()).await;
    assert!(detail.contains(" of MANIFEST-"), "{detail}");
}

#[tokio::test]
async fn a_flipped_bit_within_the_write_ahead_log_is_damage_and_the_error_describes_the_loss() {
    for has_mark in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        five(dir.path()).await;
        // Longer than a block, because RocksDB drops the rest of the block with the record.
        let store = open(dir.path()).await;
        for _ in 0..400 {
            store.commit(append("order-2")).await.unwrap();
        }
        store.close().await.unwrap();
        if !has_mark {
            fs::remove_file(dir.path().join(MARK)).unwrap();
        }
        change(&write_ahead_log(dir.path()), |bytes| bytes[1000] ^= 1);
        let detail = damage(dir.path()).await;
        assert!(detail.starts_with("a record in the middle of the write-ahead log cannot be read"), "{detail}");
        assert!(detail.contains(" to 405, ") && detail.ends_with(" can be read"), "{detail}");
    }
}

/// The first record has the identity of the store. Without it, the directory looks unused.
#[tokio::test]
async fn a_store_without_its_write_ahead_log_is_not_opened_as_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    five(dir.path()).await;
    let log = write_ahead_log(dir.path());
    change(&log, Vec::clear);
    let detail = damage(dir.path()).await;
    assert!(detail.ends_with("the events at positions 1 to 5 are lost (5)"), "{detail}");
    fs::remove_file(log).unwrap();
    let detail = damage(dir.path()).await;
    assert!(detail.ends_with("the events at positions 1 to 5 are lost (5)"), "{detail}");
}

#[tokio::test]
async fn a_lost_change_of_a_row_is_damage_without_a_lost_event() {
    let dir = tempfile::tempdir().unwrap();
    five(dir.path()).await;
    let store = open(dir.path()).await;
    for value in ["1", "2"] {
        let commit = Commit::new().put_row(Table::new("t").unwrap(), "key", value.to_owned());
        store.commit(commit).await.unwrap();
    }
    store.close().await.unwrap();
    let log = write_ahead_log(dir.path());
    let starts = records(&log);
    change(&log, |bytes| bytes.truncate(starts[starts.len() - 1]));
    let detail = damage(dir.path()).await;
    assert!(detail.contains("after position 5 are lost, but no event"), "{detail}");
}

#[tokio::test]
async fn closing_a_buffered_store_writes_the_mark() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().durability(Durability::Buffered).open(dir.path()).await.unwrap();
    store.commit(append("order-1")).await.unwrap();
    store.commit(append("order-1")).await.unwrap();
    store.close().await.unwrap();
    change(&write_ahead_log(dir.path()), |bytes| bytes.truncate(bytes.len() - 1));
    let detail = damage(dir.path()).await;
    assert!(detail.ends_with("the events at positions 2 to 2 are lost (1)"), "{detail}");
}

/// The mark can be missing after a manual restore, and it can be torn.
#[tokio::test]
async fn a_store_without_a_readable_mark_opens() {
    let dir = tempfile::tempdir().unwrap();
    five(dir.path()).await;
    for content in [None, Some(vec![]), Some(vec![0xff; 5000])] {
        let mark = dir.path().join(MARK);
        match content {
            None => fs::remove_file(mark).unwrap(),
            Some(content) => fs::write(mark, content).unwrap(),
        }
        let store = open(dir.path()).await;
        assert_eq!(positions(&all(&store).await), [1, 2, 3, 4, 5]);
        store.close().await.unwrap();
    }
}
