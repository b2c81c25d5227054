//! Repair of stores: what is lost, what is not, and that the report tells it.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::path::{Path, PathBuf};

use common::stores::{Content, content, copy, files, fill, filled, open, scavenged, verify};
use common::stream;
use es_core::retention::{DeleteKind, Note, Rule, Scavenge, Scope};
use es_core::store::delete_stream;
use es_core::{Commit, EventReader, EventStore, ExpectedRevision, RecordedEvent, StreamRead};
use es_rocksdb::{OpenError, ReadOnlyStore, RepairError, Repaired, Report, RocksDbStore, Salvage};

/// A repaired store.
struct Outcome {
    report: Report,
    repaired: Repaired,
    content: Content,
    set_aside: Vec<RecordedEvent>,
}

/// Repairs a store into another directory, accepts the loss, and verifies and opens the result.
async fn repair(damaged: &Path) -> Outcome {
    let target = damaged.with_extension("repaired");
    let before: Vec<_> = files(damaged).into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect();
    let salvage = Salvage::survey(damaged, &mut |_, _, _| {}).expect("a survey");
    let report = salvage.report().clone();
    assert!(!report.is_sound());
    let loss = &report.loss;
    if !loss.is_none() {
        let refused = salvage.write(&target, None, &mut |_| Ok(()), &mut |_, _, _| {}).unwrap_err();
        assert!(matches!(refused, RepairError::Loss { .. }), "{refused}");
    }
    let mut set_aside = Vec::new();
    let mut add = |event: &RecordedEvent| {
        set_aside.push(event.clone());
        Ok(())
    };
    let accept = (!loss.is_none()).then_some(loss.events);
    let draft = salvage.write(&target, accept, &mut add, &mut |_, _, _| {}).expect("a repaired store");
    assert!(!target.exists() && draft.incomplete_directory().is_dir(), "the store has its name before it is complete");
    let repaired = draft.complete().expect("a complete store");
    drop(salvage);
    assert!(before.iter().all(|(file, bytes)| std::fs::read(file).unwrap() == *bytes), "the damaged store was changed");
    assert_eq!(files(damaged).len(), before.len());
    let found = verify(&target).await;
    assert!(found.is_sound(), "{:?}", found.damage);
    let store = open(&target).await;
    let content = content(&store).await;
    fill(&store, 150, 10).await;
    store.close().await.unwrap();
    assert!(verify(&target).await.is_sound());
    std::fs::remove_dir_all(target).unwrap();
    Outcome { report, repaired, content, set_aside }
}

async fn content_of(store: &Path) -> Content {
    content(&ReadOnlyStore::open(store).await.unwrap()).await
}

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(file).unwrap();
    change(&mut bytes);
    std::fs::write(file, bytes).unwrap();
}

/// Returns where the nth occurrence of a text is in a file.
fn offset(file: &Path, text: &str, occurrence: usize) -> usize {
    let bytes = std::fs::read(file).unwrap();
    let mut found = bytes.windows(text.len()).enumerate().filter(|(_, bytes)| *bytes == text.as_bytes());
    found.nth(occurrence).expect("the text").0
}

fn tables(store: &Path) -> Vec<PathBuf> {
    files(store).into_iter().filter(|file| file.extension() == Some("sst".as_ref())).collect()
}

#[tokio::test]
async fn a_sound_or_open_store_is_not_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let [store, target] = ["store", "target"].map(|name| directory.path().join(name));
    filled(&store, 30).await;
    let salvage = Salvage::survey(&store, &mut |_, _, _| {}).unwrap();
    assert!(salvage.report().is_sound());
    let refused = salvage.write(&target, None, &mut |_| Ok(()), &mut |_, _, _| {}).unwrap_err();
    assert!(matches!(refused, RepairError::Sound { .. }), "{refused}");
    drop(salvage);
    let opened = open(&store).await;
    let refused = Salvage::survey(&store, &mut |_, _, _| {}).unwrap_err();
    assert!(matches!(refused, RepairError::Open(OpenError::AlreadyOpen { .. })), "{refused}");
    opened.close().await.unwrap();
}

/// The copy in the stream replaces a damaged record of a sealed segment. In a compressed one, a flipped bit is
/// corrected.
#[tokio::test]
async fn a_damaged_record_is_taken_from_its_stream() {
    let directory = tempfile::tempdir().unwrap();
    for (name, is_scavenged) in [("filled", false), ("scavenged", true)] {
        let store = directory.path().join(name);
        if is_scavenged {
            scavenged(&store, 40).await;
        } else {
            filled(&store, 40).await;
        }
        let expected = content_of(&store).await;
        let log_id = ReadOnlyStore::open(&store).await.unwrap().log_id();
        let segment = store.join("log/00000001.seg");
        // The text of a compressed segment can be encoded. Its first chunk follows the header.
        let at = if is_scavenged { 100 } else { offset(&segment, "{\"number\":", 0) };
        change(&segment, |bytes| bytes[at] ^= 1);
        let outcome = repair(&store).await;
        let found = (outcome.report.from_streams, outcome.report.loss.events);
        assert_eq!(found, (u64::from(!is_scavenged), 0), "{:?}", outcome.report);
        assert!(outcome.report.loss.is_none(), "{:?}", outcome.report);
        assert!(outcome.content == expected, "{name}");
        assert_eq!((outcome.repaired.id, outcome.repaired.is_new_id), (log_id, false));
    }
}

/// Nothing is lost if the index, the manifest, a footer, a header, the high-water mark or a segment below the last
/// table is damaged or missing, and the log was never compacted.
#[tokio::test]
async fn what_the_log_has_is_never_lost() {
    let directory = tempfile::tempdir().unwrap();
    let whole = directory.path().join("whole");
    filled(&whole, 40).await;
    let expected = content_of(&whole).await;
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 9] = [
        ("an empty manifest", |store| {
            let is_manifest = |file: &&PathBuf| file.to_string_lossy().contains("MANIFEST-");
            let manifest = files(store).iter().find(is_manifest).cloned().expect("a manifest");
            change(&manifest, |bytes| bytes.truncate(bytes.len() / 3));
        }),
        ("no file CURRENT", |store| std::fs::remove_file(store.join("index/CURRENT")).unwrap()),
        ("garbage in all tables", |store| {
            for table in tables(store) {
                change(&table, |bytes| bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(7).wrapping_add(1)));
            }
        }),
        ("no tables", |store| tables(store).iter().for_each(|table| std::fs::remove_file(table).unwrap())),
        ("no index", |store| std::fs::remove_dir_all(store.join("index")).unwrap()),
        ("a damaged footer", |store| {
            change(&store.join("log/00000001.seg"), |bytes| *bytes.last_mut().unwrap() ^= 1);
        }),
        ("a damaged header of a segment", |store| change(&store.join("log/00000002.seg"), |bytes| bytes[..64].fill(7))),
        ("a flipped bit in the header of the first segment", |store| {
            change(&store.join("log/00000001.seg"), |bytes| bytes[20] ^= 4);
        }),
        ("no high-water mark", |store| std::fs::remove_file(store.join("log/ACKNOWLEDGED")).unwrap()),
    ];
    for (name, damage) in damages {
        let damaged = directory.path().join("damaged");
        copy(&whole, &damaged);
        damage(&damaged);
        let outcome = repair(&damaged).await;
        assert_eq!(outcome.report.loss.events, 0, "{name}: {:?}", outcome.report);
        // Without the index, the secret of the unique keys is lost. The events claim their keys again.
        assert!(outcome.report.loss.is_none(), "{name}: {:?}", outcome.report);
        assert!(outcome.content == expected, "{name}");
        std::fs::remove_dir_all(damaged).unwrap();
    }
    // A whole segment is in the streams, except for its rows, which are in the index.
    let damaged = directory.path().join("segment");
    copy(&whole, &damaged);
    std::fs::remove_file(damaged.join("log/00000001.seg")).unwrap();
    let outcome = repair(&damaged).await;
    assert_eq!(outcome.report.loss.events, 0, "{:?}", outcome.report);
    assert!(outcome.report.from_streams > 1);
    assert!(outcome.content == expected);
}

/// Damage after the last table: the log ends before it, later events are set aside, and the loss is reported.
#[tokio::test]
async fn the_log_ends_before_a_lost_event() {
    let directory = tempfile::tempdir().unwrap();
    let whole = directory.path().join("whole");
    filled(&whole, 43).await;
    let expected = content_of(&whole).await;
    let segment = files(&whole).into_iter().rfind(|file| file.extension() == Some("seg".as_ref())).unwrap();
    // 86 events, of which the last six are not in a table.
    let at = offset(&segment, "{\"number\":41", 0);
    change(&segment, |bytes| bytes[at] ^= 1);
    assert!(ReadOnlyStore::open(&whole).await.is_err(), "the damage is found when the store is opened");
    let outcome = repair(&whole).await;
    let loss = &outcome.report.loss;
    assert_eq!((loss.events, loss.set_aside, loss.unreadable.len()), (4, 3, 1), "{:?}", outcome.report);
    assert_eq!(outcome.report.head.map(es_core::Position::get), Some(82));
    assert_eq!(outcome.report.last.map(es_core::Position::get), Some(86));
    assert_eq!(outcome.content.log, expected.log[..82]);
    let positions: Vec<_> = outcome.set_aside.iter().map(|event| event.position.get()).collect();
    assert_eq!(positions, [84, 85, 86]);
    assert!(outcome.repaired.is_new_id, "the store will give the lost positions to other events");
}

/// The end of the log and the high-water mark: an end that was acknowledged and is missing is a loss.
#[tokio::test]
async fn a_cut_log_is_a_loss() {
    let directory = tempfile::tempdir().unwrap();
    let whole = directory.path().join("whole");
    filled(&whole, 43).await;
    let segment = files(&whole).into_iter().rfind(|file| file.extension() == Some("seg".as_ref())).unwrap();
    let at = offset(&segment, "{\"number\":42", 0);
    change(&segment, |bytes| bytes[at - 150..].fill(0));
    let outcome = repair(&whole).await;
    assert_eq!(outcome.report.loss.events, 2, "{:?}", outcome.report);
    assert_eq!(outcome.content.log.len(), 84);
}

/// A compacted log does not have its rows: if the index is lost, so are they, and the report tells it.
#[tokio::test]
async fn lost_rows_of_a_compacted_log_are_reported() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    scavenged(&store, 40).await;
    let expected = content_of(&store).await;
    std::fs::remove_dir_all(store.join("index")).unwrap();
    let outcome = repair(&store).await;
    assert_eq!(outcome.report.loss.events, 0);
    assert!(!outcome.report.loss.other.is_empty(), "{:?}", outcome.report);
    assert!(outcome.content.log == expected.log && outcome.content.streams == expected.streams);
    assert!(outcome.content.rows.iter().all(|(key, value)| expected.rows.get(key) == Some(value)));
}

/// Flips in all files: what a repair loses is what its report tells.
#[tokio::test]
async fn a_repair_loses_what_its_report_tells() {
    let directory = tempfile::tempdir().unwrap();
    for (name, is_scavenged) in [("filled", false), ("scavenged", true)] {
        let whole = directory.path().join(name);
        if is_scavenged {
            scavenged(&whole, 40).await;
        } else {
            filled(&whole, 43).await;
        }
        let expected = content_of(&whole).await;
        let (mut random, mut repaired) = (common::Random::new(11), 0);
        for flip in 0..24 {
            let damaged = directory.path().join("damaged");
            copy(&whole, &damaged);
            let files = files(&damaged);
            let files: Vec<_> = files.iter().filter(|file| file.metadata().unwrap().len() > 0).collect();
            let file = files[random.below(files.len())];
            let used = std::fs::read(file).unwrap().iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
            let at = random.below(used);
            change(file, |bytes| bytes[at] ^= 1 << random.below(8));
            let is_sound = match ReadOnlyStore::open(&damaged).await {
                Err(_) => false,
                Ok(store) => store.verify(&mut |_, _, _| {}).is_ok_and(|found| found.is_sound()),
            };
            if !is_sound {
                repaired += 1;
                let Outcome { report, content, .. } = repair(&damaged).await;
                let place = format!("{name}, flip {flip}, byte {at} of {}: {:?}", file.display(), report);
                let visible = expected.log.iter().filter(|event| Some(event.position) <= report.head);
                assert!(content.log == visible.cloned().collect::<Vec<_>>(), "{place}");
                if report.loss.is_none() {
                    assert_eq!(content.rows, expected.rows, "{place}");
                    assert_eq!(content.owners, expected.owners, "{place}");
                    assert!(content == expected, "{place}");
                }
            }
            std::fs::remove_dir_all(&damaged).unwrap();
        }
        assert!(repaired > 6, "{name}: only {repaired} of the flips were damage");
    }
}

/// Removed events stay removed, hidden events stay hidden, unique keys are free or claimed as before, and a hard
/// deleted stream takes no events.
#[tokio::test]
async fn retention_survives_a_repair() {
    let directory = tempfile::tempdir().unwrap();
    let whole = directory.path().join("whole");
    let store = open(&whole).await;
    fill(&store, 0, 60).await;
    let keep = async |store: &RocksDbStore, name: &str, count| {
        let rule = Rule { max_count: Some(count), ..Rule::default() };
        store.commit(Commit::set_rule(Scope::Stream(stream(name)), rule, Note::default())).await.unwrap();
    };
    keep(&store, "order-3", 5).await;
    for (name, kind) in [("order-1", DeleteKind::Soft), ("order-2", DeleteKind::Hard)] {
        delete_stream(&store, &stream(name), kind, ExpectedRevision::Any, Note::default()).await.unwrap();
    }
    let removed = store.scavenge(&Scavenge::default()).await.unwrap().events;
    assert!(removed > 50, "{removed}");
    store.commit(common::append("order-1")).await.unwrap();
    keep(&store, "order-4", 2).await;
    let expected = content(&store).await;
    store.close().await.unwrap();
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 2] = [
        ("no file CURRENT", |store| std::fs::remove_file(store.join("index/CURRENT")).unwrap()),
        ("a damaged footer", |store| {
            change(&store.join("log/00000001.seg"), |bytes| *bytes.last_mut().unwrap() ^= 1);
        }),
    ];
    for (name, damage) in damages {
        let [damaged, target] = ["damaged", "target"].map(|name| directory.path().join(name));
        copy(&whole, &damaged);
        damage(&damaged);
        let salvage = Salvage::survey(&damaged, &mut |_, _, _| {}).unwrap();
        assert_eq!(salvage.report().loss.events, 0, "{name}: {:?}", salvage.report());
        let accept = (!salvage.report().loss.is_none()).then_some(0);
        salvage.write(&target, accept, &mut |_| Ok(()), &mut |_, _, _| {}).unwrap().complete().unwrap();
        drop(salvage);
        let found = verify(&target).await;
        assert!(found.is_sound() && found.removed == removed, "{name}: {:?}", found.damage);
        let store = open(&target).await;
        let repaired = content(&store).await;
        assert!(repaired.log == expected.log && repaired.streams == expected.streams, "{name}: others are visible");
        assert_eq!(repaired.owners, expected.owners, "{name}");
        assert!(store.commit(common::append("order-2")).await.is_err(), "{name}: it was hard deleted");
        // Without the rules, hidden events are visible again; removed events are not.
        let visible = async |name: &str| {
            let read = store.read_stream(StreamRead::new(stream(name))).await.unwrap();
            read.collect().await.unwrap().len()
        };
        for name in ["order-3", "order-4"] {
            store.commit(Commit::clear_rule(Scope::Stream(stream(name)), Note::default())).await.unwrap();
        }
        assert_eq!((visible("order-3").await, visible("order-1").await), (5, 1), "{name}");
        assert!(visible("order-4").await > 2, "{name}");
        store.close().await.unwrap();
        for directory in [damaged, target] {
            std::fs::remove_dir_all(directory).unwrap();
        }
    }
}

#[tokio::test]
async fn directories_without_a_store_and_occupied_targets_are_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let [store, empty, new] = ["store", "empty", "new"].map(|name| directory.path().join(name));
    filled(&store, 20).await;
    let survey = |dir: &Path| Salvage::survey(dir, &mut |_, _, _| {});
    std::fs::create_dir(&empty).unwrap();
    for dir in [&empty, &directory.path().join("nowhere")] {
        let error = survey(dir).unwrap_err().to_string();
        assert!(error.starts_with("expected an event store in "), "{error}");
    }
    std::fs::write(empty.join("notes.txt"), "hello").unwrap();
    let error = survey(&empty).unwrap_err().to_string();
    assert!(error.contains("found other files, such as notes.txt"), "{error}");

    std::fs::remove_file(store.join("index/CURRENT")).unwrap();
    let error = RocksDbStore::open(&store).await.unwrap_err().to_string();
    assert!(error.contains("repair` shows what can be recovered"), "{error}");
    let salvage = survey(&store).unwrap();
    for target in [&empty, &store, &store.join("inside")] {
        let error = salvage.write(target, None, &mut |_| Ok(()), &mut |_, _, _| {}).unwrap_err();
        assert!(matches!(error, RepairError::Target { .. }), "{error}");
    }
    // A repair that is not completed leaves no files.
    let draft = salvage.write(&new, None, &mut |_| Ok(()), &mut |_, _, _| {}).unwrap();
    let incomplete = draft.incomplete_directory().to_owned();
    assert!(incomplete.is_dir());
    // A second repair to the same target does not remove the first one.
    for refused in
        [Salvage::check_target(&store, &new), salvage.write(&new, None, &mut |_| Ok(()), &mut |_, _, _| {}).map(drop)]
    {
        let refused = refused.unwrap_err();
        assert!(matches!(&refused, RepairError::Interrupted { directory } if *directory == incomplete), "{refused}");
    }
    assert!(incomplete.is_dir());
    drop(draft);
    assert!(!incomplete.exists() && !new.exists());
}
