//! What can be saved of a damaged store is saved, and what is lost is said exactly.
//!
//! Each test damages a copy of one store: its first half is in tables, its second in the write-ahead log. `ES_FLIPS=2000` for
//! long; `ES_SEED` for the same flips again.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{all, stream, tag, tamper};
use es_core::model::LogId;
use es_core::model::{Table, UniqueKey};
use es_core::retention::{DeleteKind, Note, Rule, Scavenge, Scope};
use es_core::store::delete_stream;
use es_core::store::{Row, RowScan};
use es_core::{
    Commit, EventReader, EventStore, EventType, ExpectedRevision, NewEvent, RecordedEvent, StreamId, StreamRead,
};
use es_rocksdb::{Options, ReadOnlyStore, RepairError, Repaired, Report, RocksDbStore, Salvage};
use tempfile::TempDir;
use uuid::Uuid;

/// How many commits there are; every third has three events.
const COMMITS: u64 = 600;

/// The store before it is damaged.
struct Original {
    dir: TempDir,
    id: LogId,
    events: Vec<RecordedEvent>,
    rows: Vec<Row>,
}

fn table() -> Table {
    Table::new("views").unwrap()
}

fn key(number: u64) -> UniqueKey {
    UniqueKey::new("number", number.to_string()).unwrap()
}

async fn rows(store: &dyn EventReader) -> Vec<Row> {
    store.rows(RowScan::new(table(), "", 10_000)).await.unwrap()
}

impl Original {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = RocksDbStore::open(dir.path()).await.unwrap();
        for number in 0..COMMITS {
            if number == COMMITS / 2 {
                store.compact().await.unwrap();
            }
            let name = stream(&format!("order-{}", number % 17));
            let events = (0..if number % 3 == 0 { 3 } else { 1 }).map(|part| {
                let text = format!(
                    r#"{{"number":{number},"part":{part},"text":"{}"}}"#,
                    Uuid::from_u128(u128::from(number) << 64)
                );
                let event = NewEvent::json(EventType::new("happened").unwrap(), text);
                let event = event.tagged(tag(&format!("a:{}", number % 5)));
                if part == 0 { event.claiming(key(number)) } else { event }
            });
            let commit = Commit::to(&name, ExpectedRevision::Any, events);
            let row = Row { key: number.to_be_bytes().to_vec().into(), value: vec![7; 40].into() };
            store.commit(commit.put_row(table(), row.key, row.value)).await.unwrap();
        }
        let (id, events, rows) = (store.log_id(), all(&store).await, rows(&store).await);
        store.close().await.unwrap();
        Self { dir, id, events, rows }
    }

    fn copy(&self) -> TempDir {
        let copy = TempDir::new().unwrap();
        let store = copy.path().join("store");
        fs::create_dir(&store).unwrap();
        for entry in fs::read_dir(self.dir.path()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), store.join(entry.file_name())).unwrap();
        }
        copy
    }

    /// The table of a family; the oldest where there are several.
    fn table_of(&self, family: &str) -> String {
        self.tables_of(family).swap_remove(0)
    }

    /// The tables of a family, the oldest first.
    fn tables_of(&self, family: &str) -> Vec<String> {
        let (dir, options) = (self.dir.path(), rocksdb::Options::default());
        let names = rocksdb::DB::list_cf(&options, dir).unwrap();
        let files = rocksdb::DB::open_cf_for_read_only(&options, dir, names, false).unwrap().live_files().unwrap();
        let mut of_family: Vec<_> = files.into_iter().filter(|file| file.column_family_name == family).collect();
        of_family.sort_by_key(|file| file.name.clone());
        of_family.iter().map(|file| file.name.trim_start_matches('/').to_owned()).collect()
    }

    fn largest(&self, contains: &str) -> String {
        let entries = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap());
        let named = entries.filter(|entry| entry.file_name().to_str().unwrap().contains(contains));
        let largest = named.max_by_key(|entry| entry.metadata().unwrap().len()).unwrap();
        largest.file_name().into_string().unwrap()
    }
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Overwrites bytes at a third of a file, so that no single bit explains it.
fn overwrite(path: &Path) {
    change(path, |bytes| {
        let at = bytes.len() / 3;
        bytes[at..at + 40].fill(0xa5);
    });
}

fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    common::files(dir).into_iter().filter(|(name, _)| !name.starts_with("LOG") && name != "LOCK").collect()
}

/// What a repair came to.
struct RepairedStore {
    report: Report,
    outcome: Repaired,
    set_aside: Vec<RecordedEvent>,
    events: Vec<RecordedEvent>,
    rows: Vec<Row>,
    dir: PathBuf,
    _copy: TempDir,
}

/// Damages a copy, repairs it, and checks what holds for every repair; `None` where nothing was found to be damaged.
async fn repair(original: &Original, damage: impl FnOnce(&Path)) -> Option<RepairedStore> {
    let copy = original.copy();
    let (store, target) = (copy.path().join("store"), copy.path().join("new"));
    damage(&store);
    let before = contents(&store);
    let salvage = Salvage::survey(&store, &mut |_, _, _| {}).unwrap_or_else(|error| panic!("{error}"));
    let report = salvage.report().clone();
    if report.is_sound() {
        drop(salvage);
        let store = RocksDbStore::open(&store).await.unwrap();
        assert!(all(&store).await == original.events, "a store that is said to be sound has other events");
        store.close().await.unwrap();
        return None;
    }
    let mut set_aside = Vec::new();
    let mut keep = |event: &RecordedEvent| {
        set_aside.push(event.clone());
        Ok(())
    };
    let events = report.loss.events;
    if !report.loss.is_none() {
        for wrong in [None, Some(events + 1)] {
            let error = salvage.write(&target, wrong, &mut keep, &mut |_, _, _| {}).unwrap_err();
            assert!(matches!(error, RepairError::Loss { events: named, .. } if named == events), "{error}");
            assert!(error.to_string().contains(&format!("--accept-loss {events}")), "{error}");
        }
    }
    let accept = (!report.loss.is_none()).then_some(events);
    let outcome =
        salvage.write(&target, accept, &mut keep, &mut |_, _, _| {}).unwrap_or_else(|error| panic!("{error}"));
    drop(salvage);
    assert!(before == contents(&store), "the damaged store was changed");
    let names: Vec<_> = fs::read_dir(copy.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");

    // It opens as any other store, for writing, too; and again.
    let opened = RocksDbStore::open(&target).await.unwrap();
    let (found, found_rows) = (all(&opened).await, rows(&opened).await);
    assert_eq!(opened.log_id(), outcome.id);
    opened.close().await.unwrap();
    let verified = ReadOnlyStore::open(&target).await.unwrap().verify(&mut |_, _, _| {}).unwrap();
    assert!(verified.is_sound(), "{:?}", verified.damage);

    // A prefix, and the loss is said exactly.
    assert!(original.events.starts_with(&found), "not a prefix of {} events: {}", original.events.len(), found.len());
    assert!(found.last().is_none_or(|last| last.part.is_last()), "a commit was cut");
    assert_eq!(found.len() as u64 + events, original.events.len() as u64);
    assert_eq!((outcome.events, outcome.set_aside), (found.len() as u64, report.loss.set_aside));
    assert_eq!(set_aside.len() as u64, report.loss.set_aside);
    let unreadable: u64 = report.loss.unreadable.iter().map(|(from, to)| to.get() - from.get() + 1).sum();
    assert_eq!(unreadable + report.loss.set_aside, events);
    let mut lost = original.events[found.len()..].iter();
    for event in &set_aside {
        assert!(
            lost.any(|original| original.data.id == event.data.id && original.data.payload == event.data.payload),
            "{event:?}"
        );
    }
    assert_eq!(outcome.is_new_id, events > 0 || outcome.id != original.id);
    Some(RepairedStore { report, outcome, set_aside, events: found, rows: found_rows, dir: target, _copy: copy })
}

/// The same, where nothing is lost, not even an id.
async fn repair_all(original: &Original, damage: impl FnOnce(&Path)) -> RepairedStore {
    let repaired = repair(original, damage).await.expect("damage that is found");
    assert!(repaired.report.loss.is_none(), "{:?}", repaired.report.loss);
    assert_eq!((repaired.outcome.id, repaired.outcome.is_new_id), (original.id, false));
    assert!(repaired.events == original.events && repaired.rows == original.rows);
    let store = RocksDbStore::open(&repaired.dir).await.unwrap();
    assert_eq!(store.owner(&key(COMMITS - 1)).await.unwrap(), Some(stream(&format!("order-{}", (COMMITS - 1) % 17))));
    store.close().await.unwrap();
    repaired
}

/// What was removed stays removed, what rules hide stays hidden, and nothing else does.
#[tokio::test]
async fn retention_survives_a_repair() {
    let original = Original::new().await;
    let dir = original.dir.path();
    let store = RocksDbStore::open(dir).await.unwrap();
    let keep = async |store: &RocksDbStore, name: &str, count| {
        let rule = Rule { max_count: Some(count), ..Rule::default() };
        store.commit(Commit::set_rule(Scope::Stream(stream(name)), rule, Note::default())).await.unwrap();
    };
    keep(&store, "order-3", 5).await;
    for (name, kind) in [("order-5", DeleteKind::Soft), ("order-6", DeleteKind::Soft), ("order-7", DeleteKind::Hard)] {
        let expected = ExpectedRevision::Any;
        delete_stream(&store, &stream(name), kind, expected, Note::default()).await.unwrap();
    }
    let removed = store.scavenge(&Scavenge::default()).await.unwrap().events;
    assert!(removed > 150, "{removed}");
    store.commit(common::append("order-5")).await.unwrap();
    keep(&store, "order-4", 2).await;
    let visible = all(&store).await;
    store.close().await.unwrap();
    // NOTE: what stood in the write-ahead log goes into tables of its own when the store is opened again.
    RocksDbStore::open(dir).await.unwrap().close().await.unwrap();
    // NOTE: the newest table of the log has what stands in the place of removed events, which stands nowhere else.
    assert!(original.tables_of("log").len() > 1);
    let families = ["log", "streams", "ids", "heads", "categories"].map(|family| original.table_of(family));
    for gone in families.into_iter().chain(["CURRENT".to_owned()]) {
        let copy = original.copy();
        let (damaged, target) = (copy.path().join("store"), copy.path().join("new"));
        fs::remove_file(damaged.join(&gone)).unwrap();
        let salvage = Salvage::survey(&damaged, &mut |_, _, _| {}).unwrap();
        assert!(salvage.report().loss.is_none(), "{gone}: {:?}", salvage.report());
        salvage
            .write(&target, None, &mut |_| Ok(()), &mut |_, _, _| {})
            .unwrap_or_else(|error| panic!("{gone}: {error}"));
        let repaired = ReadOnlyStore::open(&target).await.unwrap();
        let verified = repaired.verify(&mut |_, _, _| {}).unwrap();
        assert!(verified.is_sound(), "{gone}: {:?}", verified.damage);
        assert_eq!(verified.removed, removed, "{gone}");
        assert!(all(&repaired).await == visible, "{gone}: other events are visible");
        drop(repaired);
        let store = RocksDbStore::open(&target).await.unwrap();
        for (number, owner) in [(3, Some("order-3")), (5, None), (6, None), (7, None), (8, Some("order-8"))] {
            assert_eq!(store.owner(&key(number)).await.unwrap(), owner.map(stream), "{gone}: key {number}");
        }
        assert!(store.commit(common::append("order-7")).await.is_err(), "{gone}: it was deleted for ever");
        // Without the rule, what it hid and nobody removed is there again; what was removed is not.
        for name in ["order-3", "order-4"] {
            store.commit(Commit::clear_rule(Scope::Stream(stream(name)), Note::default())).await.unwrap();
        }
        let count = async |name: &str| {
            common::collect(store.read_stream(StreamRead::new(stream(name))).await).await.unwrap().len()
        };
        let had = original.events.iter().filter(|event| event.stream == stream("order-4")).count();
        assert_eq!((count("order-3").await, count("order-4").await, count("order-5").await), (5, had, 1), "{gone}");
        store.scavenge(&Scavenge::default()).await.unwrap();
        store.close().await.unwrap();
        let verified = ReadOnlyStore::open(&target).await.unwrap().verify(&mut |_, _, _| {}).unwrap();
        assert!(verified.is_sound(), "{gone}: {:?}", verified.damage);
    }
}

#[tokio::test]
async fn a_sound_store_is_left_alone() {
    let original = Original::new().await;
    assert!(repair(&original, |_| {}).await.is_none());
    let salvage = Salvage::survey(original.dir.path(), &mut |_, _, _| {}).unwrap();
    let target = original.dir.path().with_extension("new");
    let error = salvage.write(&target, None, &mut |_| Ok(()), &mut |_, _, _| {}).unwrap_err();
    assert!(matches!(error, RepairError::Sound { .. }), "{error}");
    assert!(!target.exists());
}

/// A broken block is not read where the other copy is whole: RocksDB believed what such a block said of its length and asked for
/// more memory than there is, which ended the process in about one of ten runs of this test.
#[tokio::test]
async fn damage_of_one_copy_or_of_an_index_costs_nothing() {
    let original = Original::new().await;
    for family in ["log", "streams", "ids", "categories", "types", "tags"] {
        let name = original.table_of(family);
        let repaired = repair_all(&original, |store| overwrite(&store.join(&name))).await;
        assert_eq!(repaired.report.from_streams > 0, family == "log", "{family}: {:?}", repaired.report);
    }
}

#[tokio::test]
async fn a_table_that_is_gone_or_cut_is_made_up_for_by_the_other_copy() {
    let original = Original::new().await;
    let log = original.table_of("log");
    let repaired = repair_all(&original, |store| fs::remove_file(store.join(&log)).unwrap()).await;
    assert!(repaired.report.from_streams > 100, "{:?}", repaired.report);
    repair_all(&original, |store| change(&store.join(&log), |bytes| bytes.truncate(1000))).await;
    let streams = original.table_of("streams");
    repair_all(&original, |store| fs::remove_file(store.join(&streams)).unwrap()).await;
}

#[tokio::test]
async fn whole_records_of_broken_blocks_are_saved() {
    let original = Original::new().await;
    let names = ["log", "streams"].map(|family| original.table_of(family));
    let repaired = repair(&original, |store| {
        for name in &names {
            change(&store.join(name), |bytes| {
                let at = bytes.len() / 4;
                bytes[at] ^= 1;
            });
        }
    });
    let repaired = repaired.await.expect("damage that is found");
    // NOTE: how much of a block can be read depends on what the bit meant to the compression.
    assert!(
        repaired.outcome.events + repaired.report.loss.set_aside >= original.events.len() as u64 - 200,
        "{:?}",
        repaired.report
    );
}

#[tokio::test]
async fn the_log_ends_before_the_first_event_that_is_whole_nowhere() {
    let original = Original::new().await;
    let names = ["log", "streams"].map(|family| original.table_of(family));
    let repaired = repair(&original, |store| names.iter().for_each(|name| fs::remove_file(store.join(name)).unwrap()));
    let repaired = repaired.await.expect("damage that is found");
    assert_eq!(repaired.outcome.events, 0);
    assert!(repaired.outcome.is_new_id && repaired.outcome.id != original.id);
    assert!(repaired.set_aside.len() > 100, "what stands in the write-ahead log is set aside");
    assert_eq!(repaired.report.loss.streams.len(), 17);
    let by_stream = |stream: &StreamId| original.events.iter().filter(|event| event.stream == *stream).count() as u64;
    assert!(repaired.report.loss.streams.iter().all(|(stream, lost)| *lost == by_stream(stream)));
}

#[tokio::test]
async fn a_hole_in_the_write_ahead_log_cuts_there_and_sets_aside_what_is_behind() {
    let original = Original::new().await;
    let log = original.largest(".log");
    let repaired = repair(&original, |store| overwrite(&store.join(&log))).await.expect("damage that is found");
    assert!(repaired.outcome.events > 300, "{:?}", repaired.report);
    assert!(repaired.report.loss.events > repaired.report.loss.set_aside);
    assert!(!repaired.report.loss.other.is_empty(), "rows stood there, too");
}

#[tokio::test]
async fn a_flipped_bit_of_the_write_ahead_log_or_the_manifest_is_set_right() {
    let original = Original::new().await;
    for kind in [".log", "MANIFEST-"] {
        let name = original.largest(kind);
        for part in [3, 5, 9] {
            let flip = |bytes: &mut Vec<u8>| {
                let at = bytes.len() / part;
                bytes[at] ^= 0x20;
            };
            let repaired = repair_all(&original, |store| change(&store.join(&name), flip)).await;
            assert!(
                repaired.report.notes[0].starts_with("one bit of the record at byte "),
                "{:?}",
                repaired.report.notes
            );
        }
    }
}

/// One flipped bit outcome a whole record of the manifest one of a file that is used again, a kind that the store never
/// writes, and RocksDB read on for ever: opening hung, and with it all that opens. Now it is damage like any other, and
/// is set right.
#[tokio::test]
async fn a_flipped_type_of_a_log_record_is_refused_and_set_right() {
    const TYPE_AT: usize = 6;
    let original = Original::new().await;
    for kind in [".log", "MANIFEST-"] {
        let name = original.largest(kind);
        for bit in 2..8 {
            let flip = |bytes: &mut Vec<u8>| bytes[TYPE_AT] ^= 1 << bit;
            let repaired = repair_all(&original, |store| change(&store.join(&name), flip)).await;
            let expected = format!("the type of the record at byte 0 of {name}, a ");
            assert!(repaired.report.damage[0].detail.starts_with(&expected), "{:?}", repaired.report.damage);
            assert!(
                repaired.report.notes[0].starts_with("one bit of the record at byte 0 "),
                "{:?}",
                repaired.report.notes
            );
        }
    }
}

/// What stood behind a broken record in its block of 32 KiB was lost with it, because RocksDB reads no further there.
#[tokio::test]
async fn only_the_record_that_is_broken_is_lost_and_not_its_block() {
    let original = Original::new().await;
    let log = original.largest(".log");
    let repaired = repair(&original, |store| overwrite(&store.join(&log))).await.expect("damage that is found");
    assert!((1..=6).contains(&repaired.report.loss.unreadable.len()), "{:?}", repaired.report.loss.unreadable);
    let unreadable: u64 = repaired.report.loss.unreadable.iter().map(|(from, to)| to.get() - from.get() + 1).sum();
    assert!((1..=6).contains(&unreadable), "{:?}", repaired.report.loss);
}

/// A file of the write-ahead log that is gone is a loss that is said, of rows as well, and cuts the log there.
#[tokio::test]
async fn a_file_of_the_write_ahead_log_that_is_gone_is_a_loss_that_is_said() {
    let dir = TempDir::new().unwrap();
    let store = Options::new().write_buffer_bytes(256 << 10).open(dir.path()).await.unwrap();
    for number in 0..24_u64 {
        let payload = format!("\"{}\"", "x".repeat(64 << 10));
        let event = NewEvent::json(EventType::new("happened").unwrap(), payload).claiming(key(number));
        let commit = Commit::to(&stream(&format!("order-{}", number % 3)), ExpectedRevision::Any, [event]);
        let row = Row { key: number.to_be_bytes().to_vec().into(), value: vec![7; 40].into() };
        store.commit(commit.put_row(table(), row.key, row.value)).await.unwrap();
    }
    let (id, events, rows) = (store.log_id(), all(&store).await, rows(&store).await);
    store.close().await.unwrap();
    let original = Original { dir, id, events, rows };
    let logs = contents(original.dir.path());
    let logs: Vec<_> = logs.into_iter().filter(|(name, bytes)| name.ends_with(".log") && !bytes.is_empty()).collect();
    assert!(logs.len() > 3);
    let gone = &logs[logs.len() / 2].0;
    let repaired =
        repair(&original, |store| fs::remove_file(store.join(gone)).unwrap()).await.expect("damage that is found");
    let detail = &repaired.report.damage[0].detail;
    assert!(detail.starts_with("the write-ahead log is not whole: Missing WAL"), "{detail}");
    assert!(!repaired.report.loss.other.is_empty(), "rows stood there, too");
}

#[tokio::test]
async fn a_write_ahead_log_that_is_cut_loses_its_end() {
    let original = Original::new().await;
    let log = original.largest(".log");
    let repaired = repair(&original, |store| change(&store.join(&log), |bytes| bytes.truncate(bytes.len() / 2)));
    let repaired = repaired.await.expect("damage that is found");
    assert!(repaired.outcome.events > 300 && repaired.report.loss.events > 100, "{:?}", repaired.report);
    assert_eq!(
        repaired.report.last.map(es_core::Position::get),
        Some(original.events.len() as u64),
        "the mark says so"
    );
}

#[tokio::test]
async fn without_manifest_or_current_nothing_is_lost_of_the_log() {
    let original = Original::new().await;
    repair_all(&original, |store| fs::remove_file(store.join("CURRENT")).unwrap()).await;
    repair_all(&original, |store| fs::write(store.join("CURRENT"), "MANI").unwrap()).await;
    let manifest = original.largest("MANIFEST-");
    for damage in [|path: &Path| fs::remove_file(path).unwrap(), overwrite, |path: &Path| fs::write(path, "").unwrap()]
    {
        let repaired = repair(&original, |store| damage(&store.join(&manifest))).await.expect("damage that is found");
        assert_eq!(repaired.report.loss.events, 0, "{:?}", repaired.report);
        assert!(repaired.events == original.events && repaired.rows == original.rows);
        assert_eq!(repaired.outcome.id, original.id);
    }
}

#[tokio::test]
async fn a_mark_that_is_gone_or_torn_is_no_damage_but_is_missed() {
    let original = Original::new().await;
    let no_mark = |store: &Path| fs::remove_file(store.join("ACKNOWLEDGED")).unwrap();
    assert!(repair(&original, no_mark).await.is_none());
    assert!(repair(&original, |store| change(&store.join("ACKNOWLEDGED"), |bytes| bytes.fill(1))).await.is_none());
    let log = original.table_of("log");
    let repaired = repair_all(&original, |store| {
        no_mark(store);
        fs::remove_file(store.join(&log)).unwrap();
    });
    assert!(repaired.await.report.notes.iter().any(|note| note.contains("ACKNOWLEDGED")));
}

#[tokio::test]
async fn numbers_that_lie_are_not_believed() {
    let original = Original::new().await;
    let far = (u64::MAX - 1).to_be_bytes();
    let repaired = repair_all(&original, |store| {
        tamper(store, "heads", b"order-1", |_| Some(far.to_vec()));
        tamper(store, "log", &far, |_| Some(vec![7; 100]));
        tamper(store, "streams", &[b"order-2\0".as_slice(), &far].concat(), |_| Some(vec![7; 100]));
    });
    assert_eq!(repaired.await.report.last.map(es_core::Position::get), Some(original.events.len() as u64));
    // Nor where something is missing besides, so that it is looked for.
    let repaired = repair_all(&original, |store| {
        tamper(store, "heads", b"order-1", |_| Some(far.to_vec()));
        tamper(store, "log", &5u64.to_be_bytes(), |_| None);
        fs::remove_file(store.join("ACKNOWLEDGED")).unwrap();
    });
    assert_eq!(repaired.await.report.from_streams, 1);
}

#[tokio::test]
async fn what_is_no_store_and_what_is_in_the_way_is_refused() {
    let original = Original::new().await;
    let survey = |dir: &Path| Salvage::survey(dir, &mut |_, _, _| {});
    let copy = original.copy();
    let (store, empty) = (copy.path().join("store"), copy.path().join("empty"));
    fs::create_dir(&empty).unwrap();
    for dir in [&empty, &copy.path().join("nowhere")] {
        let error = survey(dir).unwrap_err().to_string();
        assert!(error.starts_with("expected an event store in "), "{error}");
    }
    fs::write(empty.join("notes.txt"), "hello").unwrap();
    let error = survey(&empty).unwrap_err().to_string();
    assert!(error.contains("found other files, such as notes.txt"), "{error}");

    fs::remove_file(store.join("CURRENT")).unwrap();
    let error = RocksDbStore::open(&store).await.unwrap_err().to_string();
    assert!(error.contains("repair` shows what can be recovered"), "{error}");
    let salvage = survey(&store).unwrap();
    for target in [&empty, &store, &store.join("inside")] {
        let error = salvage.write(target, None, &mut |_| Ok(()), &mut |_, _, _| {}).unwrap_err();
        assert!(matches!(error, RepairError::Target { .. }), "{error}");
    }
    // A failure leaves nothing behind.
    let new = copy.path().join("new");
    fs::create_dir(copy.path().join("new.incomplete")).unwrap();
    assert!(matches!(salvage.write(&new, None, &mut |_| Ok(()), &mut |_, _, _| {}), Err(RepairError::Io { .. })));
    assert!(!new.exists());
}

/// Of any flipped bit, either nothing comes, or a repair gives a prefix and says exactly what is lost.
#[tokio::test]
async fn after_any_flipped_bit_a_store_is_sound_or_repaired() {
    let number =
        |name: &str, otherwise| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let (seed, flips) = (number("ES_SEED", 1), number("ES_FLIPS", 24));
    let original = Original::new().await;
    let names = common::files(original.dir.path()).into_iter().filter(|(name, bytes)| {
        !bytes.is_empty()
            && [".sst", ".log", "MANIFEST-", "CURRENT", "ACKNOWLEDGED"].iter().any(|kind| name.contains(kind))
    });
    let files: Vec<_> = names.map(|(name, bytes)| (name, bytes.len() as u64)).collect();
    let mut state: u64 = seed;
    let mut random = |below: u64| {
        // NOTE: splitmix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    };
    let (mut sound, mut whole, mut cut) = (0, 0, 0);
    for _ in 0..flips {
        let (name, len) = &files[usize::try_from(random(files.len() as u64)).unwrap()];
        let (at, bit) = (random(*len), random(8));
        println!("ES_SEED={seed}: bit {bit} of byte {at} of {name}");
        let damage = |store: &Path| {
            change(&store.join(name), |bytes| bytes[usize::try_from(at).unwrap()] ^= 1 << bit);
        };
        match repair(&original, damage).await {
            None => sound += 1,
            Some(repaired) if repaired.report.loss.events == 0 => whole += 1,
            Some(_) => cut += 1,
        }
    }
    println!(
        "{flips} flips: {sound} changed nothing, {whole} were repaired without loss of an event, {cut} cost events"
    );
    assert!(whole > 0);
}
