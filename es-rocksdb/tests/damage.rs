//! Reads of damaged data fail with an error that names the place.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::path::Path;

use common::{all, append, close_with_tables, collect, event, flip, open, positions, refused, stream, tag, tamper};
use es_core::model::{Table, UniqueKey};
use es_core::store::QueryItem;
use es_core::store::{Direction, RowScan};
use es_core::{Commit, CommitError, EventReader, EventStore, ExpectedRevision, LogRead, StoreError, StreamRead};
use es_rocksdb::{OpenError, Options, RocksDbStore};

/// A closed store with five events at positions 1 to 5, revisions 0 to 4 of one stream, all with one tag, in tables.
async fn five(dir: &Path) {
    let store = open(dir).await;
    for _ in 0..5 {
        let commit = Commit::to(&stream("order-1"), ExpectedRevision::Any, [event("happened").tagged(tag("a:1"))]);
        store.commit(commit).await.unwrap();
    }
    store.compact().await.unwrap();
    store.close().await.unwrap();
}

fn position(position: u64) -> [u8; 8] {
    position.to_be_bytes()
}

fn in_stream(revision: u64) -> Vec<u8> {
    [b"order-1\0".as_slice(), &revision.to_be_bytes()].concat()
}

fn flipped(value: Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut value = value.unwrap();
    let middle = value.len() / 2;
    value[middle] ^= 0x10;
    Some(value)
}

fn damage<T: std::fmt::Debug>(result: Result<T, StoreError>) -> (String, String) {
    match result {
        Err(StoreError::Damaged { place, detail }) => (place, detail),
        other => panic!("expected damage, found {other:?}"),
    }
}

async fn read_log(store: &RocksDbStore, read: LogRead) -> Result<Vec<u64>, StoreError> {
    collect(store.read_log(read).await).await.map(|events| positions(&events))
}

#[tokio::test]
async fn a_record_with_a_flipped_bit_names_its_position() {
    let dir = tempfile::tempdir().unwrap();
    let tagged = || Commit::to(&stream("order-1"), ExpectedRevision::Any, [event("happened").tagged(tag("a:1"))]);
    close_with_tables(dir.path(), 5, async |store| {
        for _ in 0..5 {
            store.commit(tagged()).await.unwrap();
        }
    })
    .await;
    flip(dir.path(), 3);
    let store = open(dir.path()).await;
    for read in [LogRead::all(), LogRead::all().backward(), LogRead::tag(tag("a:1"))] {
        let (place, detail) = damage(read_log(&store, read).await);
        assert!(format!("{place}: {detail}").contains("position 3"), "{place}: {detail}");
        assert!(detail.contains("expected checksum"), "{detail}");
    }
    assert_eq!(read_log(&store, LogRead::tag(tag("a:1")).limit(2)).await.unwrap(), [1, 2]);
    let stream = collect(store.read_stream(StreamRead::new(stream("order-1"))).await).await.unwrap();
    assert_eq!(positions(&stream), [1, 2, 3, 4, 5], "the copy under the stream is intact");
    store.commit(append("order-2")).await.unwrap();
}

#[tokio::test]
async fn a_record_of_a_stream_with_a_flipped_bit_names_its_revision() {
    let dir = tempfile::tempdir().unwrap();
    five(dir.path()).await;
    tamper(dir.path(), "streams", &in_stream(2), flipped);
    let store = open(dir.path()).await;
    for read in [StreamRead::new(stream("order-1")), StreamRead::new(stream("order-1")).backward()] {
        let (place, _) = damage(collect(store.read_stream(read).await).await);
        assert_eq!(place, "stream \"order-1\", revision 2");
    }
}

#[tokio::test]
async fn a_record_under_another_key_is_detected() {
    let dir = tempfile::tempdir().unwrap();
    five(dir.path()).await;
    let mut other = None;
    tamper(dir.path(), "streams", &in_stream(3), |value| {
        other.clone_from(&value);
        value
    });
    tamper(dir.path(), "streams", &in_stream(2), |_| other);
    let store = open(dir.path()).await;
    let (place, _) = damage(collect(store.read_stream(StreamRead::new(stream("order-1"))).await).await);
    assert_eq!(place, "stream \"order-1\", revision 2");
}

#[tokio::test]
async fn a_missing_record_is_detected() {
    let dir = tempfile::tempdir().unwrap();
    five(dir.path()).await;
    tamper(dir.path(), "streams", &in_stream(2), |_| None);
    let store = open(dir.path()).await;
    for read in [StreamRead::new(stream("order-1")), StreamRead::new(stream("order-1")).backward()] {
        let (place, _) = damage(collect(store.read_stream(read).await).await);
        assert_eq!(place, "stream \"order-1\", revision 2");
    }
}

/// Batches of one event, so that the missing record is between two batches.
#[tokio::test]
async fn a_missing_record_between_two_batches_is_detected() {
    let dir = tempfile::tempdir().unwrap();
    five(dir.path()).await;
    tamper(dir.path(), "streams", &in_stream(0), |_| None);
    tamper(dir.path(), "streams", &in_stream(2), |_| None);
    let store = Options::new().read_batch(1, 1).open(dir.path()).await.unwrap();
    let (place, _) = damage(collect(store.read_stream(StreamRead::new(stream("order-1"))).await).await);
    assert_eq!(place, "stream \"order-1\", revision 0");
    let backward = StreamRead::new(stream("order-1")).backward();
    let (place, _) = damage(collect(store.read_stream(backward.clone()).await).await);
    assert_eq!(place, "stream \"order-1\", revision 2");
    let from_below = backward.from(es_core::Revision::new(1));
    let (place, _) = damage(collect(store.read_stream(from_below).await).await);
    assert_eq!(place, "stream \"order-1\", revision 0");
}

#[tokio::test]
async fn an_index_entry_of_a_missing_or_other_event_is_detected() {
    let dir = tempfile::tempdir().unwrap();
    five(dir.path()).await;
    let other_tag = [b"b:1\0".as_slice(), &position(2)].concat();
    tamper(dir.path(), "tags", &other_tag, |_| Some(Vec::new()));
    tamper(dir.path(), "types", b"short\0\xff\xff", |_| Some(Vec::new()));
    let store = open(dir.path()).await;
    let (place, detail) = damage(read_log(&store, LogRead::tag(tag("b:1"))).await);
    assert_eq!(place, "position 2");
    assert!(detail.contains("found type \"happened\" in stream \"order-1\""), "{detail}");
    let short = LogRead::event_type(es_core::EventType::new("short").unwrap());
    let (place, detail) = damage(read_log(&store, short).await);
    assert_eq!(
        (place.as_str(), detail.as_str()),
        ("column family types, key short\\x00\\xff\\xff", "expected 8 bytes, found 2")
    );
}

#[tokio::test]
async fn an_index_entry_after_the_head_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    five(dir.path()).await;
    let entry_after_head = [b"a:1\0".as_slice(), &position(9)].concat();
    tamper(dir.path(), "tags", &entry_after_head, |_| Some(Vec::new()));
    let store = open(dir.path()).await;
    assert_eq!(read_log(&store, LogRead::tag(tag("a:1"))).await.unwrap(), [1, 2, 3, 4, 5]);
    assert_eq!(read_log(&store, LogRead::tag(tag("a:1")).backward()).await.unwrap(), [5, 4, 3, 2, 1]);
    let after = all(&store).await.last().map(|event| event.position);
    let commit = append("order-2").append_if_none(QueryItem::new().tag(tag("a:1")), after);
    store.commit(commit).await.unwrap();
}

#[tokio::test]
async fn invalid_values_are_detected() {
    let dir = tempfile::tempdir().unwrap();
    five(dir.path()).await;
    tamper(dir.path(), "heads", b"order-2", |_| Some(vec![1, 2, 3]));
    let key = UniqueKey::new("scope", "value").unwrap();
    tamper(dir.path(), "keys", &common::key_hash(dir.path(), &key), |_| Some(vec![0xff]));
    let store = open(dir.path()).await;
    let (place, detail) = damage(store.revision(&stream("order-2")).await);
    assert_eq!((place.as_str(), detail.as_str()), ("head of stream \"order-2\"", "expected 16 bytes, found 3"));
    let (place, _) = damage(store.owner(&key).await);
    assert!(place.starts_with("owner of unique key "), "{place}");
    store.commit(append("order-3")).await.unwrap();
}

#[tokio::test]
async fn rows_of_another_table_are_not_returned() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let table = |name: &str| Table::new(name).unwrap();
    let mut commit = Commit::new();
    for (name, key) in [("a", "x"), ("ab", "x"), ("a ", "x"), ("b", "x")] {
        commit = commit.put_row(table(name), key, name.to_owned());
    }
    store.commit(commit).await.unwrap();
    for direction in [Direction::Forward, Direction::Backward] {
        let rows = store.rows(RowScan { direction, ..RowScan::new(table("a"), "", 10) }).await.unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].value, "a");
    }
}

/// Returns the files of a closed store whose names contain a text.
fn files_named(dir: &Path, contains: &str) -> Vec<std::path::PathBuf> {
    let paths = std::fs::read_dir(dir.join("index")).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.file_name().unwrap().to_str().unwrap().contains(contains)).collect()
}

/// Reads the whole log in every way. Each read returns the written events or an error.
async fn read_everything(dir: &Path) -> Result<(), String> {
    let text = |error: StoreError| error.to_string();
    let store = RocksDbStore::open(dir).await.map_err(|error| error.to_string())?;
    for read in [LogRead::all(), LogRead::all().backward(), LogRead::tag(tag("a:1"))] {
        assert_eq!(read_log(&store, read).await.map_err(text)?.len(), 5);
    }
    let of_stream = store.read_stream(StreamRead::new(stream("order-1"))).await;
    assert_eq!(collect(of_stream).await.map_err(text)?.len(), 5);
    assert_eq!(store.revision(&stream("order-1")).await.map_err(text)?.map(es_core::Revision::get), Some(4));
    Ok(())
}

#[tokio::test]
async fn a_flipped_bit_in_a_file_is_an_error_or_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    five(dir.path()).await;
    read_everything(dir.path()).await.unwrap();
    let mut refused = 0;
    for file in files_named(dir.path(), ".sst") {
        let whole = std::fs::read(&file).unwrap();
        for part in 0..16 {
            let mut bytes = whole.clone();
            bytes[part * whole.len() / 16] ^= 1;
            std::fs::write(&file, bytes).unwrap();
            if let Err(error) = read_everything(dir.path()).await {
                assert!(error.contains("is damaged: "), "{error}");
                refused += 1;
            }
        }
        std::fs::write(&file, whole).unwrap();
    }
    assert!(refused > 20, "only {refused} flips were found out");
}

#[tokio::test]
async fn a_missing_file_is_damage() {
    for name in [".sst", "MANIFEST-"] {
        let dir = tempfile::tempdir().unwrap();
        five(dir.path()).await;
        std::fs::remove_file(&files_named(dir.path(), name)[0]).unwrap();
        let error = refused(dir.path()).await;
        assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    }
}

/// Regression: a head of all ones was accepted. The next revision overflowed to 0, so that the next event replaced the
/// first event of the stream, or the writer panicked if overflow checks were enabled.
#[tokio::test]
async fn a_head_without_a_next_revision_is_damage_and_rejects_commits() {
    for number in [u64::MAX, u64::MAX - 1] {
        let dir = tempfile::tempdir().unwrap();
        five(dir.path()).await;
        let head = [number.to_be_bytes(), 5u64.to_be_bytes()].concat();
        tamper(dir.path(), "heads", b"order-1", |_| Some(head));
        let store = open(dir.path()).await;
        let committed = store.commit(append("order-1")).await;
        let CommitError::Store(error) = committed.unwrap_err() else { panic!("expected damage") };
        let (place, detail) = damage::<()>(Err(error));
        assert_eq!(place, "head of stream \"order-1\"");
        assert!(detail.starts_with("expected a "), "{detail}");
        let stream = collect(store.read_stream(StreamRead::new(stream("order-1"))).await).await.unwrap();
        assert_eq!(positions(&stream), [1, 2, 3, 4, 5], "something was written");
        store.commit(append("order-2")).await.unwrap();
    }
}
