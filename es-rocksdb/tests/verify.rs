//! Verification finds what does not agree, wherever it is, and nothing in a store that is sound.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::path::Path;

use common::{append, event, open, stream, tag, tamper};
use es_core::{Commit, EventStore, ExpectedRevision, UniqueKey};
use es_rocksdb::{ReadOnlyStore, Verification};
use tempfile::TempDir;

/// Three commits of four events in two streams, with tags, a key and a row; and the bytes of positions.
async fn sample() -> TempDir {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    store.commit(append("a-1")).await.unwrap();
    let two = [event("other").tagged(tag("x")), event("happened").tagged(tag("y"))];
    let key = UniqueKey::new("email", "ada").unwrap();
    let table = es_core::Table::new("views").unwrap();
    let commit = Commit::to(&stream("b-1"), ExpectedRevision::Any, two);
    store.commit(commit.claim(key, stream("b-1")).put_row(table, "k", "v")).await.unwrap();
    store.commit(append("a-1")).await.unwrap();
    store.close().await.unwrap();
    folder
}

async fn verify(folder: &Path) -> Verification {
    ReadOnlyStore::open(folder).await.unwrap().verify(&mut |_, _, _| {}).unwrap()
}

fn position(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn posting(name: &str, number: u64) -> Vec<u8> {
    [name.as_bytes(), &[0], &position(number)].concat()
}

/// The one finding after an entry was changed.
async fn finding(family: &str, key: &[u8], change: impl FnOnce(Option<Vec<u8>>) -> Option<Vec<u8>>) -> String {
    let folder = sample().await;
    tamper(folder.path(), family, key, change);
    let found = verify(folder.path()).await;
    assert_eq!((found.damage.len(), found.more_damage), (1, 0), "{:?}", found.damage);
    format!("{}: {}", found.damage[0].place, found.damage[0].detail)
}

#[tokio::test]
async fn a_sound_store_has_no_damage() {
    let found = verify(sample().await.path()).await;
    assert!(found.is_sound(), "{:?}", found.damage);
    assert_eq!((found.events, found.streams), (4, 2));
}

#[tokio::test]
async fn an_entry_that_is_missing_is_named() {
    let gone = |_| None;
    let none = |what: &str, at, family| format!("position {at}: expected {what} in the family {family}, found none");
    let posting_of = |name: &str| format!("its entry under {name:?}");
    assert_eq!(finding("categories", &posting("b", 2), gone).await, none(&posting_of("b"), 2, "categories"));
    assert_eq!(finding("types", &posting("other", 2), gone).await, none(&posting_of("other"), 2, "types"));
    assert_eq!(finding("tags", &posting("y", 3), gone).await, none(&posting_of("y"), 3, "tags"));
    assert_eq!(finding("heads", b"b-1", gone).await, "head of stream \"b-1\": expected revision 1, found none",);
}

#[tokio::test]
async fn an_entry_that_nothing_confirms_is_named() {
    let added = |_| Some(Vec::new());
    let stray = finding("tags", &posting("x", 3), added).await;
    assert!(stray.ends_with("expected the event at position 3 to have it, found one without"), "{stray}");
    let stray = finding("types", &posting("other", 99), added).await;
    assert!(stray.contains("position 99"), "{stray}");
    let stray = finding("heads", b"c-1", |_| Some(position(0).to_vec())).await;
    assert!(stray.ends_with("expected an event at revision 0, found none"), "{stray}");
    let stray = finding("ids", &[7; 16], |_| Some(position(1).to_vec())).await;
    assert!(stray.ends_with("expected the event at position 1 to have it, found one without"), "{stray}");
}

#[tokio::test]
async fn a_head_that_lags_is_named() {
    let finding = finding("heads", b"b-1", |_| Some(position(0).to_vec())).await;
    assert_eq!(finding, "head of stream \"b-1\": expected revision 1, found revision 0");
}

#[tokio::test]
async fn a_record_with_a_flipped_bit_is_named() {
    let folder = sample().await;
    tamper(folder.path(), "log", &position(2), |record| {
        let mut record = record.unwrap();
        record[20] ^= 1;
        Some(record)
    });
    let found = verify(folder.path()).await;
    let first = &found.damage[0];
    assert_eq!(first.place, "position 2");
    assert!(first.detail.starts_with("expected checksum"), "{}", first.detail);
}

#[tokio::test]
async fn a_gap_in_log_and_streams_is_named() {
    let folder = sample().await;
    tamper(folder.path(), "log", &position(2), |_| None);
    tamper(folder.path(), "streams", &[b"b-1\0".as_slice(), &position(0)].concat(), |_| None);
    let found = verify(folder.path()).await;
    let texts: Vec<_> = found.damage.iter().map(|damage| format!("{}: {}", damage.place, damage.detail)).collect();
    let has = |text: &str| assert!(texts.iter().any(|found| found == text), "{text} is not in {texts:?}");
    has("position 2: expected an event, found the next at position 3");
    has("stream \"b-1\", revision 0: expected an event, found the next at revision 1");
}

/// RocksDB reads past a broken Bloom filter without an error, and so did verification: of 656 flipped bits it missed 2.
#[tokio::test]
async fn a_flipped_bit_anywhere_in_a_table_is_found() {
    let folder = sample().await;
    let store = open(folder.path()).await;
    store.compact().await.unwrap();
    store.close().await.unwrap();
    assert!(verify(folder.path()).await.is_sound());
    let tables = common::files(folder.path()).into_iter().filter(|(name, _)| name.ends_with(".sst"));
    for (name, whole) in tables {
        for at in (0..whole.len()).step_by(whole.len() / 40) {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            std::fs::write(folder.path().join(&name), bytes).unwrap();
            if let Ok(store) = ReadOnlyStore::open(folder.path()).await {
                let found = store.verify(&mut |_, _, _| {});
                assert!(found.is_err() || !found.unwrap().is_sound(), "byte {at} of {} of {name}", whole.len());
            }
        }
        std::fs::write(folder.path().join(&name), whole).unwrap();
    }
    assert!(verify(folder.path()).await.is_sound());
}
