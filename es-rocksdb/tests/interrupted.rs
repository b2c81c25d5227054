//! What an interrupted process leaves in the index is completed by the next one.
//!
//! The tests change a closed store into what is on disk after a kill between two writes of the index.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{collect, event, files, positions, raw, stream, tag, tamper};
use es_core::model::Table;
use es_core::retention::Scavenge;
use es_core::store::QueryItem;
use es_core::{Commit, EventReader, EventStore, ExpectedRevision, LogRead};
use es_rocksdb::{Options, RocksDbStore};
use tempfile::TempDir;

const MIB: usize = 1 << 20;

/// Commits events one by one, so that a run can end after each of them.
async fn append_tagged(store: &RocksDbStore, events: usize) {
    for _ in 0..events {
        let event = event("happened").tagged(tag("all"));
        store.commit(Commit::to(&stream("a-1"), ExpectedRevision::Any, [event])).await.unwrap();
    }
}

/// Regression: the tables of a run were written, but not the key `applied`, which follows them. An opening with shorter
/// runs wrote some of them again, and kept the rest of the old posting lists between the new ones. Reads by type and
/// tag, and the conditions of appends, missed events.
#[tokio::test]
async fn tables_of_an_unfinished_run_are_replaced_as_a_whole() {
    let dir = TempDir::new().unwrap();
    let store = Options::new().index_run(10_000, 64 * MIB).open(dir.path()).await.unwrap();
    append_tagged(&store, 800).await;
    store.compact().await.unwrap();
    store.close().await.unwrap();
    drop(store);
    for last_write in ["applied", "applied-frame"] {
        tamper(dir.path(), "meta", last_write.as_bytes(), |_| None);
    }

    let store = Options::new().index_run(700, 64 * MIB).open(dir.path()).await.unwrap();
    append_tagged(&store, 700).await;
    store.compact().await.unwrap();
    let read = || LogRead::matching(QueryItem::new().tag(tag("all")));
    let forward = collect(store.read_log(read()).await).await.unwrap();
    let mut backward = positions(&collect(store.read_log(read().backward()).await).await.unwrap());
    backward.reverse();
    let all: Vec<u64> = (1..=1500).collect();
    assert_eq!(positions(&forward), all);
    assert_eq!(backward, all);
    let from_the_middle = collect(store.read_log(read().after(Some(forward[849].position))).await).await.unwrap();
    assert_eq!(positions(&from_the_middle), all[850..]);
    store.close().await.unwrap();
}

fn has_text(dir: &Path, text: &str) -> bool {
    files(dir).iter().any(|(_, content)| content.windows(text.len()).any(|window| window == text.as_bytes()))
}

/// Regression: a scavenge that ended between the removal of the keys and the compaction of their tables was reported as
/// completed by the next one, which found nothing to remove. The content stayed in the tables.
#[tokio::test]
async fn the_next_scavenge_compacts_the_tables_of_an_interrupted_one() {
    const CONTENT: &str = "the content of an erased event";
    let dir = TempDir::new().unwrap();
    let store = RocksDbStore::open(dir.path()).await.unwrap();
    append_tagged(&store, 3).await;
    store.close().await.unwrap();
    drop(store);
    let key = [b"b-1\0".as_slice(), &0_u64.to_be_bytes()].concat();
    tamper(dir.path(), "streams", &key, |_| Some(CONTENT.into()));
    tamper(dir.path(), "streams", &key, |_| None);
    tamper(dir.path(), "meta", b"uncompacted", |_| Some(Vec::new()));
    assert!(has_text(dir.path(), CONTENT), "a deleted key is in the tables until a compaction");

    let store = RocksDbStore::open(dir.path()).await.unwrap();
    assert!(store.scavenge(&Scavenge::default()).await.unwrap().is_complete);
    store.close().await.unwrap();
    drop(store);
    assert!(!has_text(dir.path(), CONTENT));
    let index = raw(dir.path());
    assert_eq!(index.get_cf(index.cf_handle("meta").unwrap(), "uncompacted").unwrap(), None);
}

/// Regression: only the frames of the same process counted for the size at which rows are written to tables. A service
/// that wrote less than that and was restarted read more at each opening.
#[tokio::test]
async fn rows_of_earlier_processes_count_for_the_size_of_a_run() {
    let dir = TempDir::new().unwrap();
    let has_rows_in_tables = || {
        let index = raw(dir.path());
        index.get_cf(index.cf_handle("meta").unwrap(), "applied-frame").unwrap().is_some()
    };
    let tables = || files(dir.path()).iter().filter(|(name, _)| name.ends_with(".sst")).count();
    for round in 0..2_u64 {
        let store = Options::new().index_run(1_000, 64 << 10).open(dir.path()).await.unwrap();
        let before = tables();
        for row in 0..40_u64 {
            let key = [round.to_be_bytes(), row.to_be_bytes()].concat();
            store.commit(Commit::new().put_row(Table::new("views").unwrap(), key, vec![7; 1024])).await.unwrap();
        }
        if round == 0 {
            store.close().await.unwrap();
            drop(store);
            assert!(!has_rows_in_tables(), "40 of 64 KiB");
            continue;
        }
        for _ in 0..600 {
            if tables() > before {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        store.close().await.unwrap();
    }
    assert!(has_rows_in_tables(), "80 of 64 KiB");
}

/// Regression: a power failure can take frames of a buffered log whose rows are in tables. The next frames have their
/// numbers, and were not read by the opening after that.
#[tokio::test]
async fn frames_that_the_log_has_lost_are_not_taken_for_the_next_ones() {
    let dir = TempDir::new().unwrap();
    let store = RocksDbStore::open(dir.path()).await.unwrap();
    append_tagged(&store, 3).await;
    store.close().await.unwrap();
    drop(store);
    let lost = [900_u64.to_be_bytes(), 0_u64.to_be_bytes()].concat();
    tamper(dir.path(), "meta", b"applied-frame", |_| Some(lost));
    RocksDbStore::open(dir.path()).await.unwrap().close().await.unwrap();
    tamper(dir.path(), "meta", b"applied-frame", |found| {
        assert_eq!(found, Some(vec![0; 16]), "no frame is in tables");
        found
    });
}
