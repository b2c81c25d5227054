//! Backups are online, incremental, verified, and never incomplete.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::path::{Path, PathBuf};

use common::stores::{Content, content};
use common::{append, event, open, stream, tag};
use es_core::model::{LogPosition, PositionError, Table, UniqueKey};
use es_core::{Commit, EventReader, EventStore, ExpectedRevision, Position};
use es_rocksdb::{Backup, BackupError, Backups, ReadOnlyStore, RocksDbStore};
use tempfile::TempDir;

struct TestDirs {
    _root: TempDir,
    store: PathBuf,
    backups: PathBuf,
    target: PathBuf,
}

impl TestDirs {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        let [store, backups, target] = ["store", "backups", "target"].map(|name| root.path().join(name));
        Self { _root: root, store, backups, target }
    }

    async fn backup(&self) -> Result<Backup, BackupError> {
        Backups::new(&self.backups).create(&self.store, &mut |_, _, _| {}).await
    }

    async fn restore(&self, number: Option<u32>) -> Result<Backup, BackupError> {
        Backups::new(&self.backups).restore(number, &self.target, &mut |_, _, _| {}).await
    }
}

/// Commits events with all optional fields, a unique key and a row.
async fn change(store: &RocksDbStore, round: usize) {
    let (email, views) = (UniqueKey::new("email", "ada").unwrap(), Table::new("views").unwrap());
    let (this, other) = (stream(&format!("a-{round}")), stream(&format!("a-{}", round - 1)));
    let mut commit = Commit::new().expect(this.clone(), ExpectedRevision::NoStream);
    if round > 1 {
        commit = commit.append(other, event("released").releasing(email.clone()));
    }
    let events = [event("happened").tagged(tag("x")).claiming(email), event("other")];
    commit = events.into_iter().fold(commit, |commit, event| commit.append(this.clone(), event));
    commit = commit.append(stream("b-1"), event("happened")).put_row(views.clone(), format!("row {round}"), "value");
    store.commit(commit.put_row(views.clone(), "last", round.to_string())).await.unwrap();
    store.commit(Commit::new().delete_row(views, format!("row {}", round - 1))).await.unwrap();
}

async fn content_of(store: &Path) -> Content {
    content(&ReadOnlyStore::open(store).await.unwrap()).await
}

/// Flips a bit of an event in the first segment of a closed store.
fn flip(store: &Path) {
    let segment = store.join("log/00000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(8).position(|window| window == b"\"amount\"").unwrap();
    bytes[at] ^= 4;
    // Another file of this name: the segment can be a link to that of the store.
    std::fs::remove_file(&segment).unwrap();
    std::fs::write(segment, bytes).unwrap();
}

#[tokio::test]
async fn a_backup_of_an_open_store_is_complete_and_the_next_is_incremental() {
    let dirs = TestDirs::new();
    let store = open(&dirs.store).await;
    change(&store, 1).await;
    let first = dirs.backup().await.unwrap();
    assert_eq!((first.number, first.events, first.new_events), (1, 3, 3));
    for round in 2..5 {
        change(&store, round).await;
    }
    let second = dirs.backup().await.unwrap();
    assert_eq!((second.number, second.events, second.new_events), (2, 15, 12));
    let third = dirs.backup().await.unwrap();
    assert_eq!((third.number, third.new_events, third.new_rows), (3, 0, 0));
    store.close().await.unwrap();

    assert_eq!(dirs.restore(None).await.unwrap().events, 15);
    assert!(content_of(&dirs.target).await == content_of(&dirs.store).await, "the restored store is another");
    let refused = dirs.restore(None).await.unwrap_err();
    assert!(matches!(refused, BackupError::NotEmpty { .. }), "{refused}");
    std::fs::remove_dir_all(&dirs.target).unwrap();
    assert_eq!(dirs.restore(Some(1)).await.unwrap().events, 3);
    // A restored store is a normal store: it can be written to, and backed up to another directory.
    let restored = open(&dirs.target).await;
    change(&restored, 2).await;
    restored.close().await.unwrap();
}

/// Regression (case 09a): a restored store had the id of the store that was backed up, so a position of the lost
/// history was taken for one of the new history.
#[tokio::test]
async fn a_restored_store_has_a_log_id_of_its_own() {
    let dirs = TestDirs::new();
    let store = open(&dirs.store).await;
    change(&store, 1).await;
    dirs.backup().await.unwrap();
    let backup = ReadOnlyStore::open(dirs.backups.join("backup-000001")).await.unwrap();
    let (store_id, log_id) = (store.store_id(), store.log_id());
    assert_eq!((backup.store_id(), backup.log_id()), (store_id, log_id), "a backup is of the same log");
    change(&store, 2).await;
    let lost = LogPosition::in_log(log_id, store.head().await.unwrap());
    let shared = LogPosition::in_log(log_id, Position::new(2));
    store.close().await.unwrap();

    dirs.restore(None).await.unwrap();
    let restored = open(&dirs.target).await;
    let new_log_id = restored.log_id();
    assert!(restored.store_id() == store_id && new_log_id != log_id);
    for given in [lost, shared] {
        let refused = given.resolve(&restored).unwrap_err();
        assert!(matches!(refused, PositionError::OtherLog { .. }), "{refused}");
        let text = refused.to_string();
        assert!(text.contains(&log_id.to_string()) && text.contains(&new_log_id.to_string()), "{text}");
    }
    change(&restored, 2).await;
    restored.close().await.unwrap();
    let reopened = open(&dirs.target).await;
    assert_eq!(reopened.log_id(), new_log_id, "the id is stored");
    reopened.close().await.unwrap();

    // The backups can be continued with the restored store, and then are of its log.
    let next = Backups::new(&dirs.backups).create(&dirs.target, &mut |_, _, _| {}).await.unwrap();
    let backup = ReadOnlyStore::open(&next.directory).await.unwrap();
    assert_eq!((next.new_events > 0, backup.store_id(), backup.log_id()), (true, store_id, new_log_id));
    std::fs::remove_dir_all(&dirs.target).unwrap();
    dirs.restore(None).await.unwrap();
    let again = ReadOnlyStore::open(&dirs.target).await.unwrap().log_id();
    assert!(again != new_log_id && again != log_id);
}

#[tokio::test]
async fn an_incomplete_backup_is_not_listed() {
    let dirs = TestDirs::new();
    let store = open(&dirs.store).await;
    change(&store, 1).await;
    std::fs::create_dir_all(dirs.backups.join("incomplete")).unwrap();
    std::fs::write(dirs.backups.join("incomplete/000009.sst"), "torn").unwrap();
    std::fs::write(dirs.backups.join("lock"), "").unwrap();
    assert_eq!(Backups::new(&dirs.backups).list().unwrap(), []);
    assert!(matches!(dirs.restore(None).await, Err(BackupError::NoBackup { .. })));
    assert_eq!(dirs.backup().await.unwrap().number, 1);
    assert!(!dirs.backups.join("incomplete").exists());
    store.close().await.unwrap();
}

/// Regression: a first backup deleted a directory `incomplete` of another program, or of a restore that was under way.
#[tokio::test]
async fn a_backup_removes_an_incomplete_directory_only_if_a_backup_made_it() {
    let dirs = TestDirs::new();
    let store = open(&dirs.store).await;
    change(&store, 1).await;
    let kept = dirs.backups.join("incomplete/keep.txt");
    std::fs::create_dir_all(dirs.backups.join("incomplete")).unwrap();
    std::fs::write(&kept, "of another program").unwrap();
    let refused = dirs.backup().await.unwrap_err();
    assert!(matches!(refused, BackupError::NotEmpty { .. }), "{refused}");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "of another program");
    store.close().await.unwrap();
}

#[tokio::test]
async fn concurrent_backups_do_not_mix() {
    let dirs = TestDirs::new();
    let store = open(&dirs.store).await;
    change(&store, 1).await;
    std::fs::create_dir(&dirs.backups).unwrap();
    let other = std::fs::File::create(dirs.backups.join("lock")).unwrap();
    other.lock().unwrap();
    let refused = dirs.backup().await.unwrap_err();
    let refused = es_core::model::ErrorChain(&refused).to_string();
    assert!(refused.contains("another backup into this directory is under way"), "{refused}");
    drop(other);
    assert_eq!(dirs.backup().await.unwrap().number, 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn backups_of_another_store_or_history_are_rejected() {
    let dirs = TestDirs::new();
    let store = open(&dirs.store).await;
    store.commit(append("a-1")).await.unwrap();
    dirs.backup().await.unwrap();
    store.commit(append("a-1")).await.unwrap();
    dirs.backup().await.unwrap();
    store.close().await.unwrap();

    // The restored first backup diverges from the history of the store.
    dirs.restore(Some(1)).await.unwrap();
    let fork = open(&dirs.target).await;
    fork.commit(append("other-1")).await.unwrap();
    fork.close().await.unwrap();
    let backups = Backups::new(&dirs.backups);
    let refused = backups.create(&dirs.target, &mut |_, _, _| {}).await.unwrap_err();
    assert!(refused.to_string().contains("another history"), "{refused}");

    let other = dirs.target.with_file_name("other");
    open(&other).await.close().await.unwrap();
    let refused = backups.create(&other, &mut |_, _, _| {}).await.unwrap_err();
    assert!(matches!(refused, BackupError::OtherStore { .. }), "{refused}");
    assert_eq!(backups.list().unwrap().len(), 2);
}

#[tokio::test]
async fn a_damaged_store_is_not_backed_up() {
    let dirs = TestDirs::new();
    let store = open(&dirs.store).await;
    change(&store, 1).await;
    store.close().await.unwrap();
    flip(&dirs.store);
    let refused = dirs.backup().await.unwrap_err();
    assert!(refused.to_string().contains("the log is damaged"), "{refused}");
    assert_eq!(Backups::new(&dirs.backups).list().unwrap(), []);
}

#[tokio::test]
async fn a_restore_detects_a_damaged_backup_and_leaves_no_files() {
    let dirs = TestDirs::new();
    let store = open(&dirs.store).await;
    change(&store, 1).await;
    let backup = dirs.backup().await.unwrap();
    store.close().await.unwrap();
    flip(&backup.directory);
    let refused = dirs.restore(None).await.unwrap_err();
    assert!(matches!(&refused, BackupError::Damaged { .. }), "{refused}");
    assert!(!dirs.target.exists());
}

/// Regression: a full copy was not compared with earlier backups.
#[tokio::test]
async fn another_store_is_rejected_also_after_a_damaged_backup() {
    let dirs = TestDirs::new();
    let store = open(&dirs.store).await;
    change(&store, 1).await;
    dirs.backup().await.unwrap();
    change(&store, 2).await;
    let second = dirs.backup().await.unwrap();
    store.close().await.unwrap();
    std::fs::remove_file(second.directory.join("index/CURRENT")).unwrap();
    let other = open(&dirs.target).await;
    change(&other, 1).await;
    other.close().await.unwrap();
    let refused = Backups::new(&dirs.backups).create(&dirs.target, &mut |_, _, _| {}).await.unwrap_err();
    assert!(matches!(refused, BackupError::OtherStore { .. }), "{refused}");
    let third = dirs.backup().await.unwrap();
    assert_eq!((third.number, third.events, third.damaged.map(|damaged| damaged.number)), (3, 7, Some(2)));
}

/// Regression: the error named the removed copy in the target instead of the backup, and gave no advice.
#[tokio::test]
async fn the_error_of_a_damaged_backup_names_its_directory_and_the_other_backups() {
    let dirs = TestDirs::new();
    let store = open(&dirs.store).await;
    change(&store, 1).await;
    let first = dirs.backup().await.unwrap();
    change(&store, 2).await;
    let second = dirs.backup().await.unwrap();
    store.close().await.unwrap();
    flip(&second.directory);
    let refused = dirs.restore(None).await.unwrap_err().to_string();
    let expected = format!("backup 2 in {} is damaged: ", second.directory.display());
    assert!(refused.starts_with(&expected), "{refused}");
    assert!(refused.ends_with("restore an earlier one with --number: there are 1"), "{refused}");
    assert_eq!(dirs.restore(Some(1)).await.unwrap().events, 3);
    std::fs::remove_dir_all(&dirs.target).unwrap();

    std::fs::remove_file(first.directory.join("index/CURRENT")).unwrap();
    let refused = dirs.restore(Some(1)).await.unwrap_err().to_string();
    assert!(refused.starts_with(&format!("backup 1 in {} is damaged: ", first.directory.display())), "{refused}");
    assert!(refused.ends_with("restore a later one with --number: there are 2"), "{refused}");
}

/// Regression: the size of a commit was checked after a row was added. A row of 7 MiB and a following row of 60 MiB
/// exceeded the limit of a commit, and every backup failed.
#[tokio::test]
async fn a_large_row_after_another_is_backed_up() {
    let dirs = TestDirs::new();
    let store = open(&dirs.store).await;
    let views = Table::new("views").unwrap();
    for (key, mib) in [("a", 7), ("b", 60), ("c", 1)] {
        store.commit(Commit::new().put_row(views.clone(), key, vec![7; mib << 20])).await.unwrap();
    }
    assert_eq!(dirs.backup().await.unwrap().new_rows, 3);
    store.close().await.unwrap();
    let backup = ReadOnlyStore::open(dirs.backups.join("backup-000001")).await.unwrap();
    assert_eq!(backup.row(&views, b"b").await.unwrap().map(|row| row.len()), Some(60 << 20));
}

/// Regression: the error stated that there were no backups.
#[tokio::test]
async fn the_error_of_a_missing_number_lists_the_existing_numbers() {
    let dirs = TestDirs::new();
    let store = open(&dirs.store).await;
    change(&store, 1).await;
    for _ in 0..4 {
        dirs.backup().await.unwrap();
    }
    store.close().await.unwrap();
    std::fs::remove_dir_all(dirs.backups.join("backup-000003")).unwrap();
    let refused = dirs.restore(Some(3)).await.unwrap_err().to_string();
    let expected = format!("expected backup 3 in {}, found 1 to 2, 4; choose one of these", dirs.backups.display());
    assert_eq!(refused, expected);
    assert!(!dirs.target.exists());
}

/// Regression: `es --store i backup i/bk` succeeded. Removing the store would have removed its backups.
#[tokio::test]
async fn a_directory_for_backups_within_the_store_is_rejected() {
    let dirs = TestDirs::new();
    let store = open(&dirs.store).await;
    change(&store, 1).await;
    store.close().await.unwrap();
    let before = common::files(&dirs.store);
    let mut within = vec![dirs.store.join("bk/of/it"), dirs.store.join("../store/bk")];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&dirs.store, &dirs.target).unwrap();
        within.push(dirs.target.join("bk"));
    }
    for dir in within {
        let refused = Backups::new(&dir).create(&dirs.store, &mut |_, _, _| {}).await.unwrap_err();
        assert!(matches!(refused, BackupError::WithinStore { .. }), "{}: {refused}", dir.display());
        assert!(common::files(&dirs.store) == before, "{}: something was written", dir.display());
    }
    // A directory whose name only starts with that of the store is outside of it.
    let beside = Backups::new(dirs.store.with_file_name("store-backups"));
    assert_eq!(beside.create(&dirs.store, &mut |_, _, _| {}).await.unwrap().number, 1);
}

/// Runs a future on a thread of its own, because a callback of a restore is not asynchronous.
fn on_other_thread<F: Future<Output: Send>>(future: impl FnOnce() -> F + Send) -> F::Output {
    std::thread::scope(|scope| {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        scope.spawn(move || runtime().block_on(future())).join().unwrap()
    })
}

/// Regression: a restored store could be opened before it was verified. After a failed verification, its directory was
/// deleted under the service that had opened it. A second restore to the same directory deleted the first one.
#[tokio::test]
async fn a_restored_store_is_verified_before_it_can_be_opened() {
    let dirs = TestDirs::new();
    let store = open(&dirs.store).await;
    change(&store, 1).await;
    dirs.backup().await.unwrap();
    store.close().await.unwrap();
    let mut steps = Vec::new();
    let mut progress = |step: &str, _, _| {
        if steps.iter().any(|known| known == step) {
            return;
        }
        steps.push(step.to_owned());
        let (read, written) = on_other_thread(|| async {
            (ReadOnlyStore::open(&dirs.target).await.is_ok(), RocksDbStore::open(&dirs.target).await.is_ok())
        });
        assert!(!read && !written, "the store can be opened in step {step}");
        let second = on_other_thread(|| dirs.restore(None));
        assert!(matches!(second, Err(BackupError::NotEmpty { .. })), "{step}: {second:?}");
    };
    Backups::new(&dirs.backups).restore(None, &dirs.target, &mut progress).await.unwrap();
    assert!(steps.len() > 1, "expected the copy and the verification, found {steps:?}");
    assert!(content_of(&dirs.target).await == content_of(&dirs.store).await);
}

/// Regression: a failed restore left its files, and the next restore was rejected because the target was not empty.
#[tokio::test]
async fn a_restore_that_fails_leaves_the_target_as_it_was() {
    let dirs = TestDirs::new();
    let store = open(&dirs.store).await;
    change(&store, 1).await;
    let first = dirs.backup().await.unwrap();
    store.close().await.unwrap();
    let current = std::fs::read(first.directory.join("index/CURRENT")).unwrap();
    std::fs::write(first.directory.join("index/CURRENT"), "MANIFEST-999999\n").unwrap();
    dirs.restore(None).await.unwrap_err();
    assert!(!dirs.target.exists());
    std::fs::create_dir(&dirs.target).unwrap();
    dirs.restore(None).await.unwrap_err();
    assert_eq!(std::fs::read_dir(&dirs.target).unwrap().count(), 0, "the directory was there before");
    std::fs::write(first.directory.join("index/CURRENT"), current).unwrap();
    assert_eq!(dirs.restore(None).await.unwrap().events, 3);
    // A rejected restore keeps the existing files of the target.
    dirs.restore(None).await.unwrap_err();
    assert!(dirs.target.join("index/CURRENT").exists());
}
