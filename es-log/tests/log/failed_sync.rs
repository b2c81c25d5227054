//! A failed sync is final: no later commit is acknowledged until the log is opened again.

use std::path::Path;

use es_log::{AppendError, Log};

use crate::support::{History, SimDisk, commit, options, payloads};

const DIRECTORY: &str = "/log";

#[test]
fn no_commit_is_acknowledged_after_a_failed_sync() {
    let disk = SimDisk::new(3);
    let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens");
    let mut history = History::default();
    history.acknowledge(commit(&log, 1, 2).expect("it commits"), 1, 2);
    disk.refuse_syncs();
    assert!(matches!(commit(&log, 2, 1), Err(AppendError::SyncFailed { .. })));
    disk.heal();
    // The disk works again, but what a failed sync wrote is unknown.
    assert!(matches!(commit(&log, 3, 1), Err(AppendError::Stopped { .. })));
    history.refuse(3);
    history.check(&log).expect("reads go on");
    assert_eq!(log.head().map(es_core::Position::get), Some(2), "the failed frame is not visible");
    assert!(log.close().is_err());
    drop(log);
    let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens again");
    history.acknowledge(commit(&log, 4, 1).expect("it commits"), 4, 1);
    history.check(&log).expect("nothing is lost");
}

/// After a failed sync, the cache of Linux has the bytes and considers them written. A reader that sees the frame after
/// the next opening must not lose it in a power failure.
#[test]
fn a_frame_that_is_visible_after_a_failed_sync_is_on_disk() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens");
        commit(&log, 1, 1).expect("it commits");
        disk.refuse_syncs();
        assert!(commit(&log, 2, 1).is_err());
        disk.heal();
        drop(log);
        let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens again");
        let visible = payloads(&log).expect("it reads");
        assert_eq!(visible, [1, 2]);
        drop(log);
        disk.fail_power();
        let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens after the power failure");
        assert_eq!(payloads(&log).expect("it reads"), visible, "seed {seed}");
    }
}
