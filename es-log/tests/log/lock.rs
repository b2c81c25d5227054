//! One process has a log open, in the directory that it opened.

use es_log::{AppendError, Log, OpenError, SystemDisk, verify};
use std::sync::Arc;

use crate::support::{commit, payloads, real_options};

#[test]
fn a_log_is_opened_once_at_a_time() {
    let parent = tempfile::tempdir().expect("a directory");
    let directory = parent.path().join("a/log");
    let log = Log::open(&directory, real_options()).expect("it opens and creates the directories");
    assert!(matches!(Log::open(&directory, real_options()), Err(OpenError::Locked { .. })));
    commit(&log, 1, 1).expect("it commits");
    // A verification needs no lock.
    let disk: Arc<dyn es_log::Disk> = Arc::new(SystemDisk);
    assert!(verify(&disk, &directory).expect("it reads").is_sound());
    drop(log);
    let log = Log::open(&directory, real_options()).expect("it opens again");
    assert_eq!(payloads(&log).expect("it reads"), [1]);
}

#[test]
fn another_log_id_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let id = Log::open(directory.path(), real_options()).expect("it opens").log_id();
    let with = |log_id| Log::open(directory.path(), es_log::LogOptions { log_id, ..real_options() });
    assert_eq!(with(Some(id)).expect("the same log").log_id(), id);
    let other = es_core::model::LogId::new();
    assert!(
        matches!(with(Some(other)), Err(OpenError::OtherLog { expected, found }) if (expected, found) == (other, id))
    );
}

#[cfg(unix)]
#[test]
fn nothing_is_written_to_a_directory_that_was_replaced() {
    let parent = tempfile::tempdir().expect("a directory");
    let (directory, moved) = (parent.path().join("log"), parent.path().join("moved"));
    let log = Log::open(&directory, real_options()).expect("it opens");
    commit(&log, 1, 1).expect("it commits");
    std::fs::rename(&directory, &moved).expect("it is moved");
    assert!(matches!(commit(&log, 2, 1), Err(AppendError::DirectoryReplaced)));
    std::fs::create_dir(&directory).expect("a replacement");
    assert!(matches!(commit(&log, 3, 1), Err(AppendError::DirectoryReplaced)));
    assert_eq!(std::fs::read_dir(&directory).expect("it is there").count(), 0);
    std::fs::remove_dir(&directory).expect("it is empty");
    std::fs::rename(&moved, &directory).expect("it is moved back");
    commit(&log, 4, 1).expect("it commits again");
    assert_eq!(payloads(&log).expect("it reads"), [1, 4]);
}
