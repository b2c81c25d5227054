//! Verification detects each kind of damage, and reports nothing for a sound store.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::path::Path;

use common::{append, event, open, stream, tag, tamper};
use es_core::model::UniqueKey;
use es_core::{Commit, EventStore, ExpectedRevision};
use es_rocksdb::{ReadOnlyStore, Verification};
use tempfile::TempDir;

/// The prefix of the keys with the first revisions of streams that were not removed.
const FIRST: &str = "first";

/// Creates a closed store with three commits of four events in two streams, with tags, a unique key and a row.
async fn sample() -> TempDir {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).await;
    store.commit(append("a-1")).await.unwrap();
    let key = UniqueKey::new("email", "ada").unwrap();
    let two = [event("other").tagged(tag("x")).claiming(key), event("happened").tagged(tag("y"))];
    let table = es_core::model::Table::new("views").unwrap();
    let commit = Commit::to(&stream("b-1"), ExpectedRevision::Any, two);
    store.commit(commit.put_row(table, "k", "v")).await.unwrap();
    store.commit(append("a-1")).await.unwrap();
    store.close().await.unwrap();
    dir
}

async fn verify(dir: &Path) -> Verification {
    ReadOnlyStore::open(dir).await.unwrap().verify(&mut |_, _, _| {}).unwrap()
}

fn position(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn posting(name: &str, number: u64) -> Vec<u8> {
    [name.as_bytes(), &[0], &position(number)].concat()
}

/// Changes an entry and returns the only finding.
async fn finding(family: &str, key: &[u8], change: impl FnOnce(Option<Vec<u8>>) -> Option<Vec<u8>>) -> String {
    let dir = sample().await;
    tamper(dir.path(), family, key, change);
    let found = verify(dir.path()).await;
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
async fn a_missing_entry_is_named() {
    let gone = |_| None;
    let none = |what: &str, at, family| format!("position {at}: expected {what} in the family {family}, found none");
    let posting_of = |name: &str| format!("its entry under {name:?}");
    assert_eq!(finding("categories", &posting("b", 2), gone).await, none(&posting_of("b"), 2, "categories"));
    assert_eq!(finding("types", &posting("other", 2), gone).await, none(&posting_of("other"), 2, "types"));
    assert_eq!(finding("tags", &posting("y", 3), gone).await, none(&posting_of("y"), 3, "tags"));
    assert_eq!(finding("heads", b"b-1", gone).await, "head of stream \"b-1\": expected revision 1, found none",);
}

#[tokio::test]
async fn an_unconfirmed_entry_is_named() {
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
    let dir = sample().await;
    tamper(dir.path(), "log", &position(2), |record| {
        let mut record = record.unwrap();
        record[20] ^= 1;
        Some(record)
    });
    let found = verify(dir.path()).await;
    let first = &found.damage[0];
    assert_eq!(first.place, "position 2");
    assert!(first.detail.starts_with("expected checksum"), "{}", first.detail);
}

#[tokio::test]
async fn a_gap_in_log_and_streams_is_named() {
    let dir = sample().await;
    tamper(dir.path(), "log", &position(2), |_| None);
    tamper(dir.path(), "streams", &[b"b-1\0".as_slice(), &position(0)].concat(), |_| None);
    let found = verify(dir.path()).await;
    let texts: Vec<_> = found.damage.iter().map(|damage| format!("{}: {}", damage.place, damage.detail)).collect();
    let has = |text: &str| assert!(texts.iter().any(|found| found == text), "{text} is not in {texts:?}");
    has("position 2: expected an event, found the next at position 3");
    has("stream \"b-1\", revision 0: expected an event, found the next at revision 1");
}

/// Regression: RocksDB skips a corrupt Bloom filter without an error, and verification did, too.
#[tokio::test]
async fn a_flipped_bit_anywhere_in_a_table_is_found() {
    let dir = sample().await;
    let store = open(dir.path()).await;
    store.compact().await.unwrap();
    store.close().await.unwrap();
    assert!(verify(dir.path()).await.is_sound());
    let tables = common::files(dir.path()).into_iter().filter(|(name, _)| name.ends_with(".sst"));
    for (name, whole) in tables {
        for at in (0..whole.len()).step_by(whole.len() / 40) {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            std::fs::write(dir.path().join(&name), bytes).unwrap();
            if let Ok(store) = ReadOnlyStore::open(dir.path()).await {
                let found = store.verify(&mut |_, _, _| {});
                assert!(found.is_err() || !found.unwrap().is_sound(), "byte {at} of {} of {name}", whole.len());
            }
        }
        std::fs::write(dir.path().join(&name), whole).unwrap();
    }
    assert!(verify(dir.path()).await.is_sound());
}

/// Creates a store with 2,000 events in 7 streams, in table files of many blocks.
async fn large() -> TempDir {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).await;
    let mut noise = 1_u64;
    for number in 0..2000 {
        // Compressible payloads would be in a few blocks.
        let payload = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            format!("{:x}", noise >> 32)
        });
        let payload = format!("\"{}\"", payload.take(40).collect::<String>());
        let event = es_core::NewEvent::json(es_core::EventType::new("happened").unwrap(), payload).tagged(tag("x"));
        store.commit(Commit::to(&stream(&format!("a-{}", number % 7)), ExpectedRevision::Any, [event])).await.unwrap();
    }
    store.compact().await.unwrap();
    store.close().await.unwrap();
    dir
}

/// Flips a bit of a table file of a closed store at each of these offsets, in percent of its length.
fn flip(dir: &Path, family: &str, places: &[usize]) {
    let tables = common::raw(dir).live_files().unwrap();
    let table = tables.into_iter().filter(|table| table.column_family_name == family).max_by_key(|table| table.size);
    let path = dir.join(table.unwrap().name.trim_start_matches('/'));
    let mut bytes = std::fs::read(&path).unwrap();
    for place in places {
        let at = bytes.len() * place / 100;
        bytes[at] ^= 4;
    }
    std::fs::write(path, bytes).unwrap();
}

/// Regression: the log was read only up to the first corrupt block, and each look-up in the block was a separate
/// finding, so that the list of findings overflowed.
#[tokio::test]
async fn damage_after_corrupt_blocks_is_found_and_each_finding_is_listed_once() {
    let dir = large().await;
    tamper(dir.path(), "tags", &posting("x", 1900), |_| None);
    flip(dir.path(), "log", &[20, 50]);

    let found = verify(dir.path()).await;
    assert_eq!(found.more_damage, 0);
    let findings: Vec<_> =
        found.findings().map(|(found, times)| (format!("{}: {}", found.place, found.detail), times)).collect();
    let different: std::collections::BTreeSet<_> = findings.iter().map(|(text, _)| text).collect();
    assert_eq!(different.len(), findings.len(), "{findings:?}");
    let with = |part: &str| findings.iter().filter(|(text, _)| text.contains(part)).collect::<Vec<_>>();
    let blocks = with("column family log: Corruption: block checksum mismatch");
    assert_eq!(blocks.len(), 2, "{findings:?}");
    assert!(blocks.iter().all(|(_, times)| *times > 1), "{findings:?}");
    let unread = with("cannot be read: this part was not verified");
    assert_eq!(unread.len(), 2, "{findings:?}");
    assert!(unread.iter().all(|(text, times)| text.starts_with("positions ") && *times == 1), "{findings:?}");
    let tampered = "position 1900: expected its entry under \"x\" in the family tags, found none";
    assert_eq!(with("position 1900"), [&(tampered.to_owned(), 1)], "{findings:?}");
    // Exactly two blocks of 16 KiB are missing.
    assert!((1800..2000).contains(&found.events), "{}", found.events);
}

/// Regression: a scan that ended at a corrupt block treated the last event that it had read as the last event of its
/// stream, and did not report its end.
#[tokio::test]
async fn a_corrupt_block_of_streams_is_no_damage_of_heads_and_its_end_is_reported() {
    let dir = large().await;
    flip(dir.path(), "streams", &[50]);
    let found = verify(dir.path()).await;
    let findings: Vec<_> = found.damage.iter().map(|found| format!("{}: {}", found.place, found.detail)).collect();
    assert!(findings[0].starts_with("column family streams: Corruption: block checksum mismatch"), "{findings:?}");
    assert!(findings[1].starts_with("column family streams, keys after a-"), "{findings:?}");
    assert!(findings[1].ends_with("were not searched from there on"), "{findings:?}");
    assert_eq!(findings.len(), 2, "{findings:?}");
}

/// Regression: the largest numbers on disk overflowed in sums. In a release build, an unconfirmed head was accepted as
/// the head of a stream without retained events.
#[tokio::test]
async fn the_largest_numbers_are_reported_as_damage() {
    let stray = finding("heads", b"c-1", |_| Some(vec![0xff; 8])).await;
    assert!(stray.starts_with("column family heads, key c-1: expected a number below 18446744073709551615"), "{stray}");

    let dir = sample().await;
    for stream in ["a-1", "b-1"] {
        let key = [FIRST.as_bytes(), &[0], stream.as_bytes()].concat();
        tamper(dir.path(), "meta", &key, |_| Some((u64::MAX - 1).to_be_bytes().to_vec()));
    }
    let found = verify(dir.path()).await;
    let sums = found.damage.iter().filter(|damage| damage.place == "beginnings of streams");
    let sums: Vec<_> = sums.map(|damage| damage.detail.as_str()).collect();
    assert_eq!(sums, ["expected 18446744073709551615 events that were removed in the log, found 0"]);
}
