//! Runs the group commit of the log under many schedules of shuttle, which chooses the next thread at each lock, wait
//! and wake-up.
//!
//! No caller waits forever, each acknowledged commit is in the log and visible, positions have no gaps, and closing
//! ends all threads. A failed write fails the commits in flight and later ones succeed; after a failed sync none does.
//!
//! Shuttle detects deadlocks: a schedule in which no thread can run is a failure. A failure prints its schedule, which
//! `shuttle::replay` repeats.
//!
//! `ES_SCHEDULES=100000` sets the number of schedules per test. Half of them are random, and half have few changes of
//! threads, at significant points ("A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", Burckhardt
//! et al. 2010).

use std::path::Path;
use std::sync::Arc;

use es_log::{AppendError, Log, LogOptions, OnWriteFailure};
use shuttle::future::block_on;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread;

#[path = "../../../es-log/tests/log/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "these tests do not use everything")]
mod support;

use support::disk::Fault;
use support::{History, SimDisk, append, commit, options};

const DIRECTORY: &str = "/log";
/// The number of threads that commit at the same time.
const CALLERS: u64 = 3;

fn explore(body: impl Fn() + Send + Sync + 'static) {
    let schedules: usize = std::env::var("ES_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let body = Arc::new(body);
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 18;
    let random = Arc::clone(&body);
    shuttle::Runner::new(RandomScheduler::new(schedules / 2), config.clone()).run(move || random());
    shuttle::Runner::new(PctScheduler::new(3, schedules / 2), config).run(move || body());
}

fn opened(disk: &SimDisk) -> Arc<Log> {
    Arc::new(Log::open(Path::new(DIRECTORY), threaded(disk)).expect("it opens"))
}

fn threaded(disk: &SimDisk) -> LogOptions {
    LogOptions { has_threads: true, first_segment: 1024, largest_segment: 2048, ..options(disk) }
}

/// Starts threads that commit twice each. Returns the results with the numbers of the commits.
fn commit_concurrently(log: &Arc<Log>) -> Vec<(u64, Result<u64, AppendError>)> {
    let threads: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let log = Arc::clone(log);
            thread::spawn(move || {
                let numbers = [caller * 10 + 1, caller * 10 + 2];
                numbers.map(|number| {
                    let result = commit(&log, number, 1);
                    if let Ok(position) = result {
                        let head = log.head().map_or(0, es_core::Position::get);
                        assert!(head >= position, "acknowledged before it is visible");
                    }
                    (number, result)
                })
            })
        })
        .collect();
    threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
}

fn check(log: &Log, results: &[(u64, Result<u64, AppendError>)]) {
    let mut history = History::default();
    for (number, result) in results {
        match result {
            Ok(position) => history.acknowledge(*position, *number, 1),
            Err(AppendError::SyncFailed { .. }) => {}
            Err(_) => history.refuse(*number),
        }
    }
    history.check(log).expect("the acknowledged commits");
}

#[test]
fn concurrent_commits_are_acknowledged_once_they_are_visible() {
    explore(|| {
        let disk = SimDisk::new(1);
        let log = opened(&disk);
        let results = commit_concurrently(&log);
        assert!(results.iter().all(|(_, result)| result.is_ok()), "{results:?}");
        log.close().expect("it closes");
        check(&log, &results);
        drop(log);
        check(&opened(&disk), &results);
    });
}

#[test]
fn a_submitted_commit_is_written_beside_others() {
    explore(|| {
        let disk = SimDisk::new(1);
        let log = opened(&disk);
        let submitter = {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                let (first, dropped) = log.submit(|draft| append(draft, 91, 1)).expect("it is added");
                drop(dropped);
                let (second, pending) = log.submit(|draft| append(draft, 92, 1)).expect("it is added");
                block_on(pending).expect("it is written");
                [(91, Ok(first)), (92, Ok(second))]
            })
        };
        let mut results = commit_concurrently(&log);
        results.extend(submitter.join().expect("no panic"));
        log.close().expect("it closes");
        check(&log, &results);
    });
}

#[test]
fn closing_waits_for_commits_and_refuses_later_ones() {
    explore(|| {
        let disk = SimDisk::new(1);
        let log = opened(&disk);
        let closer = {
            let log = Arc::clone(&log);
            thread::spawn(move || log.close().expect("it closes"))
        };
        let results = commit_concurrently(&log);
        closer.join().expect("no panic");
        let is_expected = |result: &Result<u64, AppendError>| matches!(result, Ok(_) | Err(AppendError::Closed));
        assert!(results.iter().all(|(_, result)| is_expected(result)), "{results:?}");
        check(&log, &results);
        drop(log);
        check(&opened(&disk), &results);
    });
}

#[test]
fn a_failed_write_or_sync_fails_the_commits_in_flight_only_or_for_good() {
    explore(|| {
        for after in 0..4 {
            let disk = SimDisk::new(after);
            let log = opened(&disk);
            disk.fail_after(after, Fault::Fail);
            let results = commit_concurrently(&log);
            disk.heal();
            let is_stopped = results.iter().any(|(_, result)| matches!(result, Err(AppendError::SyncFailed { .. })));
            let next = commit(&log, 99, 1);
            assert_eq!(next.is_err(), is_stopped, "{results:?}, then {next:?}");
            check(&log, &results);
            assert_eq!(log.close().is_err(), is_stopped);
            drop(log);
            check(&opened(&disk), &results);
        }
    });
}

/// A failed write is tried again until it succeeds. A commit is refused meanwhile or written, also if the log is closed
/// at the same time.
#[test]
fn a_write_that_is_tried_again_ends_with_all_commits_written_or_refused() {
    explore(|| {
        for (after, is_closed_beside) in [(0, false), (1, true), (2, false), (3, true)] {
            let disk = SimDisk::new(after);
            let options = LogOptions { on_write_failure: OnWriteFailure::Retry, ..threaded(&disk) };
            let log = Arc::new(Log::open(Path::new(DIRECTORY), options).expect("it opens"));
            disk.fail_after(after, Fault::Fail);
            let closer = is_closed_beside.then(|| {
                let log = Arc::clone(&log);
                thread::spawn(move || drop(log.close()))
            });
            let results = commit_concurrently(&log);
            let sealed = log.seal();
            if let Some(closer) = closer {
                closer.join().expect("no panic");
            }
            let has_stopped =
                |error: &AppendError| matches!(error, AppendError::SyncFailed { .. } | AppendError::Stopped { .. });
            let is_stopped = results.iter().any(|(_, result)| result.as_ref().is_err_and(has_stopped));
            for (number, result) in &results {
                let is_expected = match result {
                    Ok(_) | Err(AppendError::Stalled { .. }) => true,
                    Err(AppendError::Closed | AppendError::NotWritten { .. }) => is_closed_beside,
                    Err(error) => has_stopped(error),
                };
                assert!(is_expected, "commit {number}: {result:?}");
            }
            if !is_stopped && !is_closed_beside && sealed.is_ok() {
                commit(&log, 99, 1).expect("the log goes on");
            }
            let _ = log.close();
            drop(log);
            disk.heal();
            check(&opened(&disk), &results);
        }
    });
}
