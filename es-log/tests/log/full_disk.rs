//! A full disk and a lack of file descriptors fail commits, lose nothing, and are over when their cause is gone.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use es_log::{AppendError, Durability, Log, LogOptions, OnWriteFailure, PendingCommit};

use crate::support::{History, SimDisk, append, commit, options};

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

/// A commit that waits for its frame: its position, its number and its answer.
type Waiting = (u64, u64, PendingCommit);

/// Adds commits until one is refused, because an earlier write failed and is tried again. Returns the commits that wait
/// for it.
fn commit_until_the_log_stalls(log: &Log, history: &mut History, number: &mut u64) -> Vec<Waiting> {
    let mut added = Vec::new();
    loop {
        *number += 1;
        match log.submit(|draft| append(draft, *number, 2)) {
            Ok((position, pending)) => added.push((position, *number, pending)),
            Err(AppendError::Stalled { .. }) => break,
            Err(error) => panic!("expected a commit that is refused for now, found {error}"),
        }
        assert!(*number < 10_000, "the disk is never full");
        std::thread::sleep(Duration::from_millis(1));
    }
    history.refuse(*number);
    let mut context = Context::from_waker(Waker::noop());
    added.retain_mut(|(position, number, pending)| match Pin::new(pending).poll(&mut context) {
        Poll::Ready(answer) => {
            answer.expect("a commit before the stall is written");
            history.acknowledge(*position, *number, 2);
            false
        }
        Poll::Pending => true,
    });
    assert!(!added.is_empty(), "a commit waits for its frame");
    added
}

fn has_spare_segment(disk: &SimDisk) -> bool {
    disk.all_names().iter().any(|name| name.extension().is_some_and(|extension| extension == "new"))
}

/// A failed write could only end with failed commits. A store decides on a commit as if all earlier ones were written,
/// so it had to stop after each failed write, and needed a restart.
#[test]
fn a_log_that_retries_writes_the_waiting_commits_when_there_is_space() {
    let causes: [fn(&SimDisk); 2] = [SimDisk::refuse_descriptors, |disk| disk.limit_space(300)];
    for (seed, refuse) in (10..).zip(causes) {
        let disk = SimDisk::new(seed);
        let on_write_failure = OnWriteFailure::Retry;
        let options = LogOptions { on_write_failure, has_threads: true, tail_bytes: 1 << 20, ..options(&disk) };
        let log = Log::open(Path::new(DIRECTORY), options.clone()).expect("it opens");
        let (mut history, mut number) = (History::default(), 0);
        for round in 0..3 {
            // The next segment needs no new file then, but the directory is opened to sync its name.
            while !has_spare_segment(&disk) {
                number += 1;
                history.acknowledge(commit(&log, number, 2).expect("there is space"), number, 2);
                std::thread::sleep(Duration::from_millis(1));
            }
            refuse(&disk);
            let waiting = commit_until_the_log_stalls(&log, &mut history, &mut number);
            assert!(matches!(log.seal(), Err(AppendError::Stalled { .. })), "round {round}");
            number += 1;
            assert!(matches!(commit(&log, number, 2), Err(AppendError::Stalled { .. })), "round {round}");
            history.refuse(number);
            history.check(&log).expect("reads go on");
            disk.heal();
            for (position, number, pending) in waiting {
                pending.wait().expect("it is written when there is space");
                history.acknowledge(position, number, 2);
            }
            number += 1;
            history.acknowledge(commit(&log, number, 2).expect("it commits again"), number, 2);
        }
        log.close().expect("it closes");
        drop(log);
        let checked = history.open_and_check(options).expect("it opens");
        checked.expect("nothing is lost, and no refused commit is there");
    }
}

#[test]
fn a_log_that_is_closed_before_there_is_space_fails_the_waiting_commits() {
    let disk = SimDisk::new(12);
    let options = LogOptions { on_write_failure: OnWriteFailure::Retry, has_threads: true, ..options(&disk) };
    let log = Log::open(Path::new(DIRECTORY), options.clone()).expect("it opens");
    let (mut history, mut number) = (History::default(), 0);
    disk.limit_space(300);
    let waiting = commit_until_the_log_stalls(&log, &mut history, &mut number);
    log.close().expect_err("commits were not written");
    for (_, number, pending) in waiting {
        let failed = pending.wait().expect_err("it was not written");
        // A commit in the next frame is told of the failure of the frame before.
        let is_expected = matches!(failed, AppendError::NotWritten { .. } | AppendError::Stopped { .. });
        assert!(is_expected, "commit {number}: {failed}");
        history.refuse(number);
    }
    drop(log);
    disk.heal();
    history.open_and_check(options).expect("it opens").expect("no refused commit is there");
}

/// Without threads, the caller writes, and waits until there is space.
#[test]
fn a_caller_that_writes_waits_until_there_is_space() {
    let disk = SimDisk::new(13);
    let options = LogOptions { on_write_failure: OnWriteFailure::Retry, ..options(&disk) };
    let log = Arc::new(Log::open(Path::new(DIRECTORY), options.clone()).expect("it opens"));
    disk.limit_space(300);
    let writing = std::thread::spawn({
        let log = Arc::clone(&log);
        move || (1..200).map(|number| (commit(&log, number, 2).expect("it is written"), number)).collect::<Vec<_>>()
    });
    // The thread does not end while the disk is full.
    std::thread::sleep(Duration::from_millis(500));
    assert!(!writing.is_finished(), "a commit waits for space");
    disk.heal();
    let mut history = History::default();
    for (position, number) in writing.join().expect("no panic") {
        history.acknowledge(position, number, 2);
    }
    log.close().expect("it closes");
    drop(log);
    history.open_and_check(options).expect("it opens").expect("nothing is lost");
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
