//! The files of backups: complete, incremental, verified, and of stores that are written meanwhile.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::stores::{content, files, fill, filled, open, options, scavenged, verify};
use es_core::{EventReader, EventStore};
use es_rocksdb::{BackupError, Backups, OpenError, ReadOnlyStore};

async fn back_up(backups: &Backups, store: &Path) -> es_rocksdb::Backup {
    backups.create(store, &mut |_, _, _| {}).await.expect("a backup")
}

/// Returns the identities of the files of a directory: a link has that of its file.
fn identities(directory: &Path) -> BTreeSet<u64> {
    use std::os::unix::fs::MetadataExt;
    files(directory).iter().map(|file| file.metadata().unwrap().ino()).collect()
}

/// A backup has the content of the store at its time, and is a store that can be read and restored, but not written.
#[tokio::test]
async fn a_backup_has_the_content_of_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let [store, target, restored] = ["store", "backups", "restored"].map(|name| directory.path().join(name));
    let backups = Backups::new(&target);
    scavenged(&store, 40).await;
    let writer = open(&store).await;
    let expected = content(&writer).await;
    let backup = back_up(&backups, &store).await;
    fill(&writer, 60, 20).await;
    assert_eq!((backup.number, backup.head.map(es_core::Position::get)), (1, Some(backup.new_events)));
    assert!(backup.new_rows > 0 && backup.damaged.is_none());
    let reader = ReadOnlyStore::open(&backup.directory).await.unwrap();
    assert_eq!(content(&reader).await, expected);
    assert_eq!(reader.log_id(), writer.log_id());
    let refused = options().open(&backup.directory).await.unwrap_err();
    assert!(matches!(refused, OpenError::Backup { .. }), "{refused}");

    let second = back_up(&backups, &store).await;
    assert_eq!((second.number, second.new_events), (2, 40));
    assert_eq!(content(&ReadOnlyStore::open(&second.directory).await.unwrap()).await, content(&writer).await);
    assert_eq!(content(&reader).await, expected, "the first backup is unchanged");

    let copy = backups.restore(Some(1), &restored, &mut |_, _, _| {}).await.unwrap();
    assert_eq!((copy.directory.as_path(), copy.head), (restored.as_path(), backup.head));
    let store_id = reader.store_id();
    let opened = open(&restored).await;
    assert_eq!(content(&opened).await, expected);
    assert_ne!(opened.log_id(), writer.log_id(), "the histories of the two stores differ from now on");
    fill(&opened, 100, 30).await;
    opened.close().await.unwrap();
    assert!(verify(&restored).await.is_sound());
    assert_eq!(ReadOnlyStore::open(&restored).await.unwrap().store_id(), store_id);
    let other = backups.create(&restored, &mut |_, _, _| {}).await.unwrap_err();
    assert!(matches!(other, BackupError::OtherStore { .. }), "{other}");
    writer.close().await.unwrap();
}

/// A backup links sealed segments and tables, to the store or to the last backup, and nothing else.
#[tokio::test]
async fn a_backup_shares_files_that_never_change() {
    let directory = tempfile::tempdir().unwrap();
    let [store, target] = ["store", "backups"].map(|name| directory.path().join(name));
    filled(&store, 60).await;
    let backups = Backups::new(&target);
    let first = back_up(&backups, &store).await.directory;
    let shared = |one: &Path, other: &Path| identities(one).intersection(&identities(other)).count();
    let of_first = shared(&first, &store);
    assert!(of_first > 5, "{of_first}");
    // Other names of the same content, as on another disk.
    for file in files(&store) {
        let content = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, content).unwrap();
    }
    assert_eq!(shared(&first, &store), 0);
    let second = back_up(&backups, &store).await.directory;
    assert!(shared(&second, &first) >= of_first, "the second backup links the files of the first");
    assert_eq!(shared(&second, &store), 0);
    assert!(verify(&second).await.is_sound());
}

/// The last backup is damaged: its damage is not part of the new one, and is reported.
#[tokio::test]
async fn damage_of_a_backup_is_not_continued() {
    let directory = tempfile::tempdir().unwrap();
    let [store, target] = ["store", "backups"].map(|name| directory.path().join(name));
    filled(&store, 60).await;
    let backups = Backups::new(&target);
    let first = back_up(&backups, &store).await.directory;
    let segment = first.join("log/00000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[300] ^= 1;
    // Not through the link to the file of the store.
    std::fs::remove_file(&segment).unwrap();
    std::fs::write(&segment, bytes).unwrap();
    let second = back_up(&backups, &store).await;
    assert_eq!(second.damaged.as_ref().map(|damaged| damaged.number), Some(1));
    assert_eq!(second.new_events, second.events);
    assert!(verify(&second.directory).await.is_sound());
    let refused = backups.restore(Some(1), &directory.path().join("restored"), &mut |_, _, _| {}).await.unwrap_err();
    assert!(matches!(refused, BackupError::Damaged { number: 1, .. }), "{refused}");
    assert!(!directory.path().join("restored").exists());
}

#[tokio::test]
async fn a_damaged_store_is_not_backed_up() {
    let directory = tempfile::tempdir().unwrap();
    let [store, target] = ["store", "backups"].map(|name| directory.path().join(name));
    filled(&store, 60).await;
    let segment = store.join("log/00000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[300] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let refused = Backups::new(&target).create(&store, &mut |_, _, _| {}).await.unwrap_err();
    assert!(matches!(refused, BackupError::Unsound { .. }), "{refused}");
    assert!(Backups::new(&target).list().unwrap().is_empty());
    let within = Backups::new(store.join("backups")).create(&store, &mut |_, _, _| {}).await.unwrap_err();
    assert!(matches!(within, BackupError::WithinStore { .. }), "{within}");
}

/// Backups of a store that commits, seals, compacts and writes tables. Each has a prefix of the log, with the rows of
/// that time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_of_a_store_that_is_written_are_consistent() {
    let directory = tempfile::tempdir().unwrap();
    let [store, target] = ["store", "backups"].map(|name| directory.path().join(name));
    let writer = open(&store).await;
    fill(&writer, 0, 20).await;
    let writing = tokio::spawn(async move {
        for round in 1..10 {
            fill(&writer, round * 20, 20).await;
            if round % 3 == 0 {
                writer.compact().await.unwrap();
            }
        }
        let log = content(&writer).await.log;
        writer.close().await.unwrap();
        log
    });
    let backups = Backups::new(&target);
    let (mut made, mut acknowledged) = (Vec::new(), None);
    while !writing.is_finished() || made.is_empty() {
        let backup = back_up(&backups, &store).await;
        assert!(backup.head >= acknowledged, "a backup has all that was acknowledged before");
        acknowledged = ReadOnlyStore::open(&store).await.unwrap().head().await.unwrap();
        made.push(backup.directory);
    }
    let log = writing.await.unwrap();
    for backup in made {
        let reader = ReadOnlyStore::open(&backup).await.unwrap();
        let found = content(&reader).await;
        assert_eq!(found.log, log[..found.log.len()]);
        // The last commit of the log with a row: the row has its value.
        if let Some(last) = found.log.iter().rev().find(|event| event.data.event_type.as_str() != "checked") {
            let number: serde_json::Value = serde_json::from_slice(&last.data.payload).unwrap();
            let number = number["number"].as_u64().unwrap();
            let row = &found.rows[format!("row-{}", number % 7).as_bytes()];
            assert_eq!(String::from_utf8_lossy(row), format!("value {number}"));
        }
    }
}
