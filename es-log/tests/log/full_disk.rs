//! A full disk and a lack of file descriptors fail commits, lose nothing, and are over when their cause is gone.

use std::path::Path;

use es_log::{AppendError, Durability, Log, LogOptions, OnWriteFailure};

use crate::support::{History, SimDisk, commit, options};

const DIRECTORY: &str = "/log";

/// Commits until a write fails. `number` is that of the last commit, and afterwards that of the failed one.
fn commit_until_a_write_fails(log: &Log, history: &mut History, number: &mut u64) {
    loop {
        *number += 1;
        match commit(log, *number, 2) {
            Ok(position) => history.acknowledge(position, *number, 2),
            Err(AppendError::NotWritten { .. }) => break,
            Err(error) => panic!("expected a commit that was not written, found {error}"),
        }
        assert!(*number < 10_000, "the disk is never full");
    }
    history.refuse(*number);
}

fn fails_and_recovers(options: LogOptions, disk: &SimDisk, refuse: impl Fn(&SimDisk)) {
    let log = Log::open(Path::new(DIRECTORY), options.clone()).expect("it opens");
    let mut history = History::default();
    let (mut number, mut failures) = (0, 0);
    for round in 0..5 {
        refuse(disk);
        commit_until_a_write_fails(&log, &mut history, &mut number);
        failures += 1;
        // The error is repeated while the cause lasts, and reads go on.
        number += 1;
        assert!(matches!(commit(&log, number, 2), Err(AppendError::NotWritten { .. })), "round {round}");
        history.refuse(number);
        history.check(&log).expect("nothing is lost");
        disk.heal();
        // Without a restart.
        for _ in 0..3 {
            number += 1;
            history.acknowledge(commit(&log, number, 2).expect("it commits again"), number, 2);
        }
    }
    assert_eq!(failures, 5);
    log.close().expect("it closes");
    drop(log);
    let checked = history.open_and_check(options).expect("it opens");
    checked.expect("nothing is lost, and no refused commit is there");
}

#[test]
fn a_full_disk_fails_commits_until_there_is_space() {
    let disk = SimDisk::new(5);
    fails_and_recovers(options(&disk), &disk, |disk| disk.limit_space(300));
}

#[test]
fn a_lack_of_file_descriptors_fails_commits_until_there_are_some() {
    let disk = SimDisk::new(6);
    let lack = |disk: &SimDisk| disk.refuse_descriptors();
    // Readers need descriptors, too: all frames stay in memory.
    fails_and_recovers(LogOptions { tail_bytes: 1 << 20, ..options(&disk) }, &disk, lack);
}

#[test]
fn threads_that_fill_segments_recover_from_a_full_disk() {
    let disk = SimDisk::new(8);
    let options = LogOptions { has_threads: true, ..options(&disk) };
    fails_and_recovers(options, &disk, |disk| disk.limit_space(300));
}

#[test]
fn a_log_that_stops_after_a_failed_write_accepts_commits_after_it_is_opened_again() {
    let disk = SimDisk::new(9);
    let options = LogOptions { on_write_failure: OnWriteFailure::Stop, ..options(&disk) };
    let log = Log::open(Path::new(DIRECTORY), options.clone()).expect("it opens");
    let mut history = History::default();
    disk.limit_space(300);
    let mut number = 0;
    commit_until_a_write_fails(&log, &mut history, &mut number);
    disk.heal();
    // Also when there is space again.
    let refused = commit(&log, number + 1, 2).expect_err("it has stopped");
    assert!(matches!(refused, AppendError::Stopped { .. }), "{refused}");
    history.refuse(number + 1);
    history.check(&log).expect("reads go on");
    log.close().expect_err("the cause is reported");
    drop(log);
    history.open_and_check(options.clone()).expect("it opens").expect("nothing is lost");
    let log = Log::open(Path::new(DIRECTORY), options).expect("it opens");
    history.acknowledge(commit(&log, number + 2, 2).expect("it commits again"), number + 2, 2);
    history.check(&log).expect("nothing is lost");
}

/// Closing a log syncs its buffered commits. A log that had stopped after a failed write did not.
#[test]
fn a_log_that_stopped_after_a_failed_write_syncs_its_buffered_commits_when_it_closes() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let durability = Durability::Buffered;
        let options = LogOptions { on_write_failure: OnWriteFailure::Stop, durability, ..options(&disk) };
        let log = Log::open(Path::new(DIRECTORY), options.clone()).expect("it opens");
        let mut history = History::default();
        disk.limit_space(300);
        commit_until_a_write_fails(&log, &mut history, &mut 0);
        log.close().expect_err("the cause is reported");
        drop(log);
        disk.heal();
        disk.fail_power();
        history.open_and_check(options).expect("it opens").expect("nothing is lost");
    }
}

/// A frame that failed before its sync leaves a part of its bytes. The next frame is shorter.
#[test]
fn a_part_of_a_failed_frame_is_no_part_of_the_log() {
    use crate::support::disk::Fault;
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens");
        let mut history = History::default();
        history.acknowledge(commit(&log, 1, 1).expect("it commits"), 1, 1);
        disk.fail_after(0, Fault::Fail);
        assert!(matches!(commit(&log, 2, 5), Err(AppendError::NotWritten { .. })));
        history.refuse(2);
        disk.heal();
        let position = commit(&log, 3, 1).expect("it commits");
        assert_eq!(position, 2, "the position is free");
        history.acknowledge(position, 3, 1);
        drop(log);
        history.open_and_check(options(&disk)).expect("it opens").expect("the acknowledged commits only");
    }
}
