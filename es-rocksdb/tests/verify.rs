//! Verification of stores: sound ones, and each kind of damage.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::path::Path;

use common::stores::{copy, files, fill, filled, open, scavenged, verify};
use es_core::EventStore;
use es_rocksdb::{ReadOnlyStore, Verification};
use rocksdb::{ColumnFamilyDescriptor, DB, Options, WriteOptions};

/// Changes the index of a closed store, without RocksDB's own log.
fn change(directory: &Path, change: impl FnOnce(&DB)) {
    let index = directory.join("index");
    let names = DB::list_cf(&Options::default(), &index).unwrap();
    let families = names.into_iter().map(|name| ColumnFamilyDescriptor::new(name, Options::default()));
    let db = DB::open_cf_descriptors(&Options::default(), &index, families).unwrap();
    change(&db);
    for name in ["heads", "streams", "ids", "categories", "types", "tags", "keys", "rows", "meta"] {
        db.flush_cf(db.cf_handle(name).unwrap()).unwrap();
    }
}

/// Returns the first key and value of a family that fulfil a condition.
fn entry(db: &DB, family: &str, accept: impl Fn(&[u8], &[u8]) -> bool) -> (Vec<u8>, Vec<u8>) {
    let mut entries = db.raw_iterator_cf(db.cf_handle(family).unwrap());
    entries.seek_to_first();
    while let Some((key, value)) = entries.item() {
        if accept(key, value) {
            return (key.to_vec(), value.to_vec());
        }
        entries.next();
    }
    panic!("no entry in {family}");
}

fn put(db: &DB, family: &str, key: &[u8], value: &[u8]) {
    db.put_cf_opt(db.cf_handle(family).unwrap(), key, value, &WriteOptions::default()).unwrap();
}

fn delete(db: &DB, family: &str, key: &[u8]) {
    db.delete_cf(db.cf_handle(family).unwrap(), key).unwrap();
}

fn places(found: &Verification) -> Vec<String> {
    found.damage.iter().map(|damage| format!("{}: {}", damage.place, damage.detail)).collect()
}

#[tokio::test]
async fn sound_stores_are_sound() {
    let directory = tempfile::tempdir().unwrap();
    for (name, count) in [("few", 3), ("some", 17), ("many", 90)] {
        for is_scavenged in [false, true] {
            let store = directory.path().join(format!("{name}-{is_scavenged}"));
            if is_scavenged {
                scavenged(&store, count).await;
            } else {
                filled(&store, count).await;
            }
            let found = verify(&store).await;
            assert!(found.is_sound(), "{name}, scavenged {is_scavenged}: {:?}", places(&found));
            let head = es_core::EventReader::head(&ReadOnlyStore::open(&store).await.unwrap()).await.unwrap();
            assert_eq!(found.events + found.removed, head.unwrap().get());
            assert_eq!(found.removed > 0, is_scavenged);
            assert!(found.streams >= 3 && found.entries > found.events);
        }
    }
}

/// A verification beside a process that writes, seals, compacts and scavenges finds nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_written_is_sound() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    fill(&store, 0, 20).await;
    let writer = tokio::spawn(async move {
        for round in 1..12 {
            fill(&store, round * 20, 20).await;
            if round % 3 == 0 {
                store.compact().await.unwrap();
            }
        }
        store.close().await.unwrap();
    });
    let mut rounds = 0;
    while !writer.is_finished() || rounds == 0 {
        let found = verify(directory.path()).await;
        assert!(found.is_sound(), "round {rounds}: {:?}", places(&found));
        rounds += 1;
    }
    writer.await.unwrap();
}

/// Each change of an entry of the index is found, and named.
#[tokio::test]
async fn changed_entries_of_the_index_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let whole = directory.path().join("whole");
    filled(&whole, 40).await;
    type Change = fn(&DB);
    let changes: [(&str, &str, Change); 14] = [
        ("an id is missing", "its id", |db| delete(db, "ids", &entry(db, "ids", |_, _| true).0)),
        ("an id of no event", "column family ids", |db| put(db, "ids", &[7; 16], &1_u64.to_be_bytes())),
        ("a category is missing", "under \"order\"", |db| {
            delete(db, "categories", &entry(db, "categories", |key, _| key.starts_with(b"order")).0);
        }),
        ("a tag is missing", "under \"customer:1\"", |db| {
            delete(db, "tags", &entry(db, "tags", |key, _| key.starts_with(b"customer:1")).0);
        }),
        ("a tag of no event", "column family tags", |db| {
            put(db, "tags", &[b"other\0".as_slice(), &1_u64.to_be_bytes()].concat(), &[]);
        }),
        ("a type with another position", "column family types", |db| {
            let (key, mut value) = entry(db, "types", |key, value| key.starts_with(b"paid") && value.len() > 1);
            value[0] ^= 1;
            put(db, "types", &key, &value);
        }),
        ("a copy is missing", "in stream \"order-0\"", |db| {
            delete(db, "streams", &entry(db, "streams", |key, _| key.starts_with(b"order-0\0")).0);
        }),
        ("a copy with another byte", "stream \"order-2\"", |db| {
            let (key, mut value) = entry(db, "streams", |key, _| key.starts_with(b"order-2\0"));
            let last = value.len() - 1;
            value[last] ^= 1;
            put(db, "streams", &key, &value);
        }),
        ("a head is missing", "head of stream \"order-3\"", |db| delete(db, "heads", b"order-3")),
        ("a head of no stream", "head of stream \"other-1\"", |db| {
            put(db, "heads", b"other-1", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        }),
        ("a claim is missing", "unique key", |db| delete(db, "keys", &entry(db, "keys", |_, _| true).0)),
        ("a claim of no event", "unique key", |db| {
            put(db, "keys", &[7; 16], &[1_u64.to_be_bytes().as_slice(), b"order-1"].concat());
        }),
        ("a row has another value", "column family rows", |db| put(db, "rows", b"views\0only-0", b"other")),
        ("a row that no frame names", "column family rows", |db| put(db, "rows", b"views\0stray", b"")),
    ];
    for (name, expected, damage) in changes {
        let damaged = directory.path().join("damaged");
        copy(&whole, &damaged);
        change(&damaged, damage);
        let found = verify(&damaged).await;
        let places = places(&found);
        assert!(places.iter().any(|place| place.contains(expected)), "{name}: expected {expected:?} in {places:?}");
        std::fs::remove_dir_all(damaged).unwrap();
    }
    // The change of a row that the log after the tables writes again has no effect, and one without a change neither.
    let unchanged = directory.path().join("unchanged");
    copy(&whole, &unchanged);
    change(&unchanged, |_| {});
    assert!(verify(&unchanged).await.is_sound());
}

/// A row that is missing after the log was compacted is not known; one that a later frame names is.
#[tokio::test]
async fn a_missing_row_is_found_if_a_frame_names_it() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 40).await;
    change(directory.path(), |db| delete(db, "rows", b"views\0only-10"));
    let found = verify(directory.path()).await;
    assert!(places(&found).iter().any(|place| place.contains("1 further rows")), "{:?}", places(&found));
}

/// Each flip of a bit in any file is found, or has no effect on what the store returns.
#[tokio::test]
async fn flipped_bits_are_found_or_harmless() {
    let directory = tempfile::tempdir().unwrap();
    for (name, is_scavenged) in [("filled", false), ("scavenged", true)] {
        let whole = directory.path().join(name);
        if is_scavenged {
            scavenged(&whole, 40).await;
        } else {
            filled(&whole, 40).await;
        }
        let expected = common::stores::content(&ReadOnlyStore::open(&whole).await.unwrap()).await;
        let mut random = common::Random::new(7);
        let mut found = 0;
        for flip in 0..120 {
            let damaged = directory.path().join("damaged");
            copy(&whole, &damaged);
            let place = flip_bit(&damaged, &mut random);
            match ReadOnlyStore::open(&damaged).await {
                Err(_) => found += 1,
                Ok(reader) => {
                    let verified = reader.verify(&mut |_, _, _| {});
                    if verified.as_ref().is_ok_and(Verification::is_sound) {
                        let content = common::stores::content(&reader).await;
                        assert!(content == expected, "{name}, flip {flip} of {place}: neither found nor harmless");
                    } else {
                        found += 1;
                    }
                }
            }
            std::fs::remove_dir_all(damaged).unwrap();
        }
        assert!(found > 40, "{name}: only {found} of the flips were found");
    }
}

/// Flips a bit of one of the files, each file with equal probability. Returns the place.
fn flip_bit(directory: &Path, random: &mut common::Random) -> String {
    let files = files(directory);
    let files: Vec<_> = files.iter().filter(|file| file.metadata().unwrap().len() > 0).collect();
    let file = files[random.below(files.len())];
    let mut bytes = std::fs::read(file).unwrap();
    // Most of a segment is zeros after the last frame.
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(bytes.len(), |last| last + 1);
    let (at, bit) = (random.below(used), random.below(8));
    bytes[at] ^= 1 << bit;
    std::fs::write(file, bytes).unwrap();
    format!("bit {bit} of byte {at} of {}", file.display())
}
