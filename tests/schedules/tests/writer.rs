//! Runs a store under many schedules of shuttle, which chooses the next thread at each lock, wait and wake-up, at each
//! access of RocksDB, and at each operation on the disk of the log.
//!
//! Each revision has exactly one winner, no caller waits forever, no acknowledged commit is lost, and closing the store
//! ends all calls. A single caller writes in its own thread. With several callers, a thread of the log takes over.
//! Readers, the thread that writes index tables, and a scavenge run beside them.
//!
//! Shuttle detects deadlocks: a schedule in which no thread can run is a failure. A failure prints its schedule, which
//! `shuttle::replay` repeats.
//!
//! `ES_SCHEDULES=100000` sets the number of schedules per test; a test that writes many index tables runs a third. Half
//! of them are random, and half have few changes of threads, at significant points ("A Randomized Scheduler with
//! Probabilistic Guarantees of Finding Bugs", Burckhardt et al. 2010).

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use es_core::store::Committed;
use es_core::{
    Commit, CommitError, EventId, EventReader, EventStore, ExpectedRevision, Revision, StoreError, StreamId,
};
use es_rocksdb_schedules::{OnWriteFailure, Options};
use shuttle::future::block_on;
use shuttle::thread;

#[path = "writer/disk.rs"]
mod disk;
#[path = "writer/maintenance.rs"]
mod maintenance;
#[path = "writer/reading.rs"]
mod reading;
#[path = "writer/schedules.rs"]
mod schedules;
/// The simulated disk of the tests of es-log.
#[path = "../../../es-log/tests/log/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "these tests use the disk only")]
mod simulated;

use disk::Turns;
use schedules::{World, append, assert_events, callers, event, events, explore, explore_tables, joined};
use simulated::disk::Fault;

#[test]
fn each_revision_has_exactly_one_winner() {
    explore(|world, stream| {
        let store = world.start(&Options::new());
        let wins = joined(callers(&store, &stream, |_, store, stream| {
            let expectations = [ExpectedRevision::NoStream, ExpectedRevision::Exact(Revision::FIRST)];
            expectations.map(|expected| match block_on(store.commit(append(&stream, expected))) {
                Ok(committed) => Some(committed.events[0].data.id),
                Err(CommitError::Conflict(_)) => None,
                Err(error) => panic!("expected a winner or a conflict, found {error}"),
            })
        }));
        for revision in 0..2 {
            let winners = wins.iter().filter(|wins| wins[revision].is_some()).count();
            assert_eq!(winners, 1, "revision {revision} has {winners} winners");
        }
        let acknowledged: Vec<_> = wins.into_iter().flatten().flatten().collect();
        block_on(store.close()).expect("closed");
        assert_events(world, &stream, &acknowledged);
    });
}

#[test]
fn closing_ends_all_calls_and_loses_no_acknowledged_commit() {
    explore(|world, stream| {
        // The queue has room for one commit, so that callers wait for room when the store is closed.
        let store = world.start(&Options::new().queue_bytes(1));
        let committing = callers(&store, &stream, |_, store, stream| {
            let commits = (0..2).map(|_| append(&stream, ExpectedRevision::Any));
            let answers = commits.map(|commit| match block_on(store.commit(commit)) {
                Ok(committed) => Some(committed.events[0].data.id),
                Err(CommitError::Store(StoreError::Closed)) => None,
                Err(error) => panic!("expected a commit or `Closed`, found {error}"),
            });
            answers.flatten().collect::<Vec<_>>()
        });
        let closing = [(); 2].map(|()| {
            let (store, world) = (store.clone(), world.clone());
            thread::spawn(move || {
                block_on(store.close()).expect("closed");
                assert!(!world.disk.is_busy(), "`close` returned during a write or a sync");
            })
        });
        let acknowledged: Vec<_> = joined(committing).into_iter().flatten().collect();
        joined(closing.into());
        assert_events(world, &stream, &acknowledged);
    });
}

/// The disk fails at some write or sync. What was acknowledged before stays, and nothing is acknowledged afterwards.
///
/// Regression: with runs of one event, the events of a failed frame fill several runs, which are never written to
/// tables. Later commits waited for these tables until the store was closed.
#[test]
fn every_caller_gets_the_error_after_the_disk_failed() {
    explore_tables(|world, stream| {
        let store = world.start(&Options::new().on_write_failure(OnWriteFailure::Stop).index_run(1, 1 << 20));
        world.disk.simulated.fail_after(world.number % 12, Fault::Fail);
        let answers = joined(callers(&store, &stream, |_, store, stream| {
            let calls = (0..2).map(|_| {
                let commits = (0..2).map(|_| append(&stream, ExpectedRevision::Any)).collect();
                let answers = block_on(store.commit_all(commits));
                answers.into_iter().map(acknowledged_unless_stopped).collect::<Vec<_>>()
            });
            calls.flatten().collect::<Vec<_>>()
        }));
        for of_caller in &answers {
            assert!(of_caller.is_sorted_by_key(Option::is_none), "acknowledged after a failure: {of_caller:?}");
        }
        let is_failed = answers.iter().flatten().any(Option::is_none);
        let next = acknowledged_unless_stopped(block_on(store.commit(append(&stream, ExpectedRevision::Any))));
        assert!(!is_failed || next.is_none(), "a commit is acknowledged after another caller got the error");
        let closed = block_on(store.close());
        assert!(!is_failed || closed.is_err(), "`close` does not report the failure");
        world.disk.simulated.heal();
        let store = world.start(&Options::new());
        let found: Vec<_> = events(&store, &stream).iter().map(|event| event.data.id).collect();
        let acknowledged: Vec<_> = answers.into_iter().flatten().chain([next]).flatten().collect();
        assert!(acknowledged.iter().all(|id| found.contains(id)), "{found:?} lacks one of {acknowledged:?}");
        block_on(store.close()).expect("closed");
    });
}

/// By default a failed write is tried again. A commit is written, or refused for now; only a failed sync stops the
/// store.
#[test]
fn commits_are_written_or_refused_while_a_write_is_tried_again() {
    explore_tables(|world, stream| {
        let store = world.start(&Options::new().index_run(1, 1 << 20));
        world.disk.simulated.fail_after(world.number % 12, Fault::Fail);
        let answers = joined(callers(&store, &stream, |_, store, stream| {
            let commit = |_| match block_on(store.commit(append(&stream, ExpectedRevision::Any))) {
                Ok(committed) => Some(committed.events[0].data.id),
                Err(CommitError::Store(StoreError::Stalled { .. } | StoreError::Stopped { .. })) => None,
                Err(error) => panic!("expected a commit, `Stalled` or `Stopped`, found {error}"),
            };
            (0..2).map(commit).collect::<Vec<_>>()
        }));
        let _ = block_on(store.close());
        world.disk.simulated.heal();
        let store = world.start(&Options::new());
        let found: Vec<_> = events(&store, &stream).iter().map(|event| event.data.id).collect();
        let acknowledged: Vec<_> = answers.into_iter().flatten().flatten().collect();
        assert!(acknowledged.iter().all(|id| found.contains(id)), "{found:?} lacks one of {acknowledged:?}");
        block_on(store.close()).expect("closed");
    });
}

fn acknowledged_unless_stopped(answer: Result<Committed, CommitError>) -> Option<EventId> {
    match answer {
        Ok(committed) => Some(committed.events[0].data.id),
        Err(CommitError::Store(StoreError::Stopped { reason })) => {
            assert!(reason.starts_with("a write failed: "), "{reason}");
            None
        }
        Err(error) => panic!("expected a commit or `Stopped`, found {error}"),
    }
}

/// The callers hand over to a thread of the log and back. Each commit is written once, and those of one caller in
/// order.
#[test]
fn no_commit_is_lost_when_the_writing_thread_changes() {
    let explored = |world: &World, stream: StreamId| {
        let store = world.start(&Options::new());
        let acknowledged = joined(callers(&store, &stream, |_, store, stream| {
            let commits = (0..4).map(|_| append(&stream, ExpectedRevision::Any));
            let committed = commits.map(|commit| block_on(store.commit(commit)).expect("committed"));
            committed.map(|committed| (committed.events[0].position, committed.events[0].data.id)).collect::<Vec<_>>()
        }));
        assert!(acknowledged.iter().all(|of_caller| of_caller.is_sorted()), "the commits of a caller are out of order");
        block_on(store.close()).expect("closed");
        let acknowledged: Vec<_> = acknowledged.into_iter().flatten().map(|(_, id)| id).collect();
        assert_events(world, &stream, &acknowledged);
    };
    // The schedules are random: in a few explorations, no thread of the log hands over to a caller.
    let has_changed =
        |turns: &Turns| [&turns.to_thread, &turns.to_callers].iter().all(|count| count.load(Ordering::Relaxed) > 0);
    let has_changed = (0..10).any(|_| has_changed(&explore(explored)));
    assert!(has_changed, "the writing thread never changed in both directions");
}

/// A caller drops its future before or after the writer took the commit. The commit is either written or not.
#[test]
fn a_dropped_future_does_not_block_other_callers() {
    explore(|world, stream| {
        let store = world.start(&Options::new().queue_bytes(1));
        let dropped = Arc::new(Mutex::new(Vec::new()));
        let acknowledged = joined(callers(&store, &stream, {
            let dropped = Arc::clone(&dropped);
            move |caller, store, stream| {
                let commit = append(&stream, ExpectedRevision::Any);
                let id = commit.events()[0].1.data.id;
                let mut answer = Box::pin(store.commit(commit));
                if caller > 0 {
                    return Some(block_on(answer).expect("committed").events[0].data.id);
                }
                let polled = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                thread::yield_now();
                drop(answer);
                match polled {
                    Poll::Ready(answer) => Some(answer.expect("committed").events[0].data.id),
                    Poll::Pending => {
                        dropped.lock().expect("not poisoned").push(id);
                        None
                    }
                }
            }
        }));
        drop(store);
        let mut acknowledged: Vec<_> = acknowledged.into_iter().flatten().collect();
        let store = world.start(&Options::new());
        for id in dropped.lock().expect("not poisoned").iter() {
            acknowledged.extend(block_on(store.find(*id)).expect("read").map(|event| event.data.id));
        }
        block_on(store.close()).expect("closed");
        assert_events(world, &stream, &acknowledged);
    });
}

/// The reads of one thread never go back: a later read has at least the events of an earlier one.
#[test]
fn readers_see_whole_commits_and_never_less_than_before() {
    explore_tables(|world, stream| {
        let store = world.start(&world.small_runs());
        let reading = thread::spawn({
            let (store, stream) = (store.clone(), stream.clone());
            move || {
                let mut seen = 0;
                for _ in 0..3 {
                    let revision = block_on(store.revision(&stream)).expect("read").map_or(0, |at| at.get() + 1);
                    let read = events(&store, &stream).len() as u64;
                    assert!(seen <= revision && revision <= read, "read {seen}, then {revision}, then {read}");
                    assert_eq!(read % 2, 0, "a part of a commit is visible");
                    seen = read;
                }
            }
        });
        let answers = joined(callers(&store, &stream, |_, store, stream| {
            let commit = Commit::to(&stream, ExpectedRevision::Any, [event(), event()]);
            let committed = block_on(store.commit(commit)).expect("committed");
            let last = committed.revision(&stream).expect("it has events");
            assert!(
                block_on(store.revision(&stream)).expect("read") >= Some(last),
                "a commit is acknowledged before it is visible"
            );
            committed.events.iter().map(|event| event.data.id).collect::<Vec<_>>()
        }));
        reading.join().expect("the reader does not panic");
        block_on(store.close()).expect("closed");
        assert_events(world, &stream, &answers.concat());
    });
}
