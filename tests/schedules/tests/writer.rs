//! Runs the writer under many schedules of shuttle, which chooses the next thread at each lock, wait and wake-up.
//!
//! Each revision has exactly one winner, no caller waits forever, no acknowledged commit is lost, and closing the store
//! ends all calls. A single caller writes in its own thread. With several callers, the writer thread takes over; each
//! test fails if this never happened.
//!
//! Shuttle detects deadlocks: a schedule in which no thread can run is a failure. A failure prints its schedule, which
//! `shuttle::replay` repeats.
//!
//! `ES_SCHEDULES=100000` sets the number of schedules per test. Half of them are random, and half have few changes of
//! threads, at significant points ("A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", Burckhardt
//! et al. 2010).

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use es_core::retention::{Note, Rule, Scavenge, Scope};
use es_core::{
    Commit, CommitError, EventReader, EventStore, EventType, ExpectedRevision, LogRead, NewEvent, Revision, StoreError,
    StreamId, StreamRead,
};
use es_rocksdb_schedules::schedules::Ground;
use es_rocksdb_schedules::{Durability, Options, RocksDbStore};
use shuttle::future::block_on;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread;

/// The number of threads that commit at the same time.
const CALLERS: usize = 3;
/// The number of writes before the disk fails: never.
const UNLIMITED: usize = usize::MAX;

/// Runs a test under many schedules. Returns how often the writer thread handed over to a caller.
fn explore(body: impl Fn(&Ground, StreamId) + Send + Sync + 'static) -> u64 {
    let schedules: usize = std::env::var("ES_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let body: Arc<Body> = Arc::new(body);
    // Several stores, because a scavenge reads all earlier rules of its store.
    let parts = (0..schedules).step_by(PER_STORE).map(|done| PER_STORE.min(schedules - done));
    parts.map(|part| explore_part(part, Arc::clone(&body))).sum()
}

type Body = dyn Fn(&Ground, StreamId) + Send + Sync;

/// The number of schedules that share a store.
const PER_STORE: usize = 1000;

/// Runs a test under this number of schedules in one store, each with its own stream.
fn explore_part(schedules: usize, body: Arc<Body>) -> u64 {
    let dir = tempfile::tempdir().expect("a directory");
    let ground = Ground::open(dir.path()).expect("it opens");
    let count = AtomicU64::new(0);
    let turns = ground.clone();
    let run = Arc::new(move || {
        let number = count.fetch_add(1, Ordering::Relaxed);
        body(&ground, StreamId::new(format!("s-{number}")).expect("a name"));
    });
    let mut config = shuttle::Config::new();
    // RocksDB runs on the stacks of shuttle's threads.
    config.stack_size = 1 << 20;
    let random = Arc::clone(&run);
    shuttle::Runner::new(RandomScheduler::new(schedules / 2), config.clone()).run(move || random());
    shuttle::Runner::new(PctScheduler::new(3, schedules / 2), config).run(move || run());
    let turns = turns.turns();
    assert!(turns.to_thread.load(Ordering::Relaxed) > 0, "no caller handed over to the writer thread");
    turns.to_callers.load(Ordering::Relaxed)
}

fn event() -> NewEvent {
    NewEvent::json(EventType::new("t").expect("a name"), "{}")
}

fn append(stream: &StreamId, expected: ExpectedRevision) -> Commit {
    Commit::to(stream, expected, [event()])
}

fn events(store: &RocksDbStore, stream: &StreamId) -> Vec<es_core::RecordedEvent> {
    block_on(async { store.read_stream(StreamRead::new(stream.clone())).await?.collect().await }).expect("read")
}

/// Starts the threads of the callers.
fn callers<T: Send + 'static>(
    store: &RocksDbStore,
    stream: &StreamId,
    call: impl Fn(usize, RocksDbStore, StreamId) -> T + Send + Sync + 'static,
) -> Vec<thread::JoinHandle<T>> {
    let call = Arc::new(call);
    let start = |caller| {
        let (call, store, stream) = (Arc::clone(&call), store.clone(), stream.clone());
        thread::spawn(move || call(caller, store, stream))
    };
    (0..CALLERS).map(start).collect()
}

fn joined<T>(threads: Vec<thread::JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().expect("no caller panics")).collect()
}

/// Checks that the stream has exactly the acknowledged events.
fn assert_events(ground: &Ground, stream: &StreamId, acknowledged: &[es_core::EventId]) {
    let store = ground.start(&Options::new(), UNLIMITED).expect("started");
    let mut found: Vec<_> = events(&store, stream).iter().map(|event| event.data.id).collect();
    let mut expected = acknowledged.to_vec();
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "the stream does not have exactly the acknowledged events");
    block_on(store.close()).expect("closed");
}

#[test]
fn each_revision_has_exactly_one_winner() {
    explore(|ground, stream| {
        let store = ground.start(&Options::new(), UNLIMITED).expect("started");
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
        assert_events(ground, &stream, &acknowledged);
    });
}

#[test]
fn closing_ends_all_calls_and_loses_no_acknowledged_commit() {
    explore(|ground, stream| {
        // The queue has room for one commit, so that callers wait for room when the store is closed.
        let store = ground.start(&Options::new().queue_bytes(1), UNLIMITED).expect("started");
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
            let (store, ground) = (store.clone(), ground.clone());
            thread::spawn(move || {
                block_on(store.close()).expect("closed");
                assert!(!ground.turns().is_writing.load(Ordering::Relaxed), "`close` returned during a write");
            })
        });
        let acknowledged: Vec<_> = joined(committing).into_iter().flatten().collect();
        joined(closing.into());
        assert_events(ground, &stream, &acknowledged);
    });
}

#[test]
fn every_caller_gets_the_error_after_the_disk_failed() {
    explore(|ground, stream| {
        let store = ground.start(&Options::new(), 1).expect("started");
        let acknowledged: Vec<_> = joined(callers(&store, &stream, |_, store, stream| {
            let commits = (0..2).map(|_| append(&stream, ExpectedRevision::Any));
            let answers = commits.map(|commit| match block_on(store.commit(commit)) {
                Ok(committed) => Some(committed.events[0].data.id),
                Err(CommitError::Store(StoreError::Stopped { reason })) => {
                    assert_eq!(reason, "a write failed: no space left on device");
                    None
                }
                Err(error) => panic!("expected a commit or `Stopped`, found {error}"),
            });
            answers.collect::<Vec<_>>()
        }));
        for answers in &acknowledged {
            assert!(answers.is_sorted_by_key(Option::is_none), "acknowledged after a failure: {answers:?}");
        }
        block_on(store.close()).expect("closed");
        let acknowledged: Vec<_> = acknowledged.into_iter().flatten().flatten().collect();
        assert_events(ground, &stream, &acknowledged);
    });
}

/// The callers hand over to the writer thread and back. Each commit is written once, and those of one caller in order.
#[test]
fn no_commit_is_lost_when_the_writing_thread_changes() {
    let explored = |ground: &Ground, stream: StreamId| {
        let store = ground.start(&Options::new(), UNLIMITED).expect("started");
        let acknowledged = joined(callers(&store, &stream, |_, store, stream| {
            let commits = (0..4).map(|_| append(&stream, ExpectedRevision::Any));
            let committed = commits.map(|commit| block_on(store.commit(commit)).expect("committed"));
            committed.map(|committed| (committed.events[0].position, committed.events[0].data.id)).collect::<Vec<_>>()
        }));
        assert!(acknowledged.iter().all(|of_caller| of_caller.is_sorted()), "the commits of a caller are out of order");
        block_on(store.close()).expect("closed");
        let acknowledged: Vec<_> = acknowledged.into_iter().flatten().map(|(_, id)| id).collect();
        assert_events(ground, &stream, &acknowledged);
    };
    // The schedules are random: in a few explorations, the writer thread never hands over to a caller.
    let has_handed_back = (0..10).any(|_| explore(explored) > 0);
    assert!(has_handed_back, "the writer thread never handed over to a caller");
}

/// A caller drops its future before or after the writer took the commit. The commit is either written or not.
#[test]
fn a_dropped_future_does_not_block_other_callers() {
    explore(|ground, stream| {
        let store = ground.start(&Options::new().queue_bytes(1), UNLIMITED).expect("started");
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
        let store = ground.start(&Options::new(), UNLIMITED).expect("started");
        for id in dropped.lock().expect("not poisoned").iter() {
            acknowledged.extend(block_on(store.find(*id)).expect("read").map(|event| event.data.id));
        }
        block_on(store.close()).expect("closed");
        assert_events(ground, &stream, &acknowledged);
    });
}

/// A scavenge runs between commits. Removed events are not read afterwards, neither from memory nor from disk.
#[test]
fn a_scavenge_runs_concurrently_with_callers_and_readers() {
    explore(|ground, stream| {
        let options = Options::new().durability(Durability::Buffered);
        let store = ground.start(&options, UNLIMITED).expect("started");
        for _ in 0..3 {
            block_on(store.commit(append(&stream, ExpectedRevision::Any))).expect("committed");
        }
        let rule = Rule { max_count: Some(2), ..Rule::default() };
        let scope = Scope::Stream(stream.clone());
        block_on(store.commit(Commit::set_rule(scope.clone(), rule, Note::default()))).expect("the rule is set");
        let scavenging = thread::spawn({
            let store = store.clone();
            move || block_on(store.scavenge(&Scavenge::default())).expect("scavenged").events
        });
        let reading = thread::spawn({
            let (store, stream) = (store.clone(), stream.clone());
            move || {
                let mut last = 0;
                for _ in 0..3 {
                    let head = block_on(store.head()).expect("read").expect("the log has events");
                    let read = LogRead::category(stream.category()).from(head);
                    let log = block_on(async { store.read_log(read).await?.collect().await }).expect("read");
                    assert!(log.iter().all(|event| event.position >= head && !event.is_removed()));
                    let visible: Vec<_> = events(&store, &stream).iter().map(|event| event.revision.get()).collect();
                    assert!(visible.len() <= 2, "more events are visible than the rule allows: {visible:?}");
                    assert!(visible.is_sorted() && visible.last().is_some_and(|newest| *newest >= last), "{visible:?}");
                    last = visible.last().copied().unwrap_or_default();
                }
            }
        });
        let committed = joined(callers(&store, &stream, |_, store, stream| {
            block_on(store.commit(append(&stream, ExpectedRevision::Any))).expect("committed").events[0].data.id
        }));
        reading.join().expect("the reader does not panic");
        let removed = scavenging.join().expect("the scavenge does not panic");
        assert!((1..=4).contains(&removed), "{removed} were removed");
        assert_eq!(events(&store, &stream).len(), 2);
        assert_eq!(committed.len(), CALLERS);
        // The next schedule uses the same log. Its scavenge must not include this stream.
        block_on(store.commit(Commit::clear_rule(scope, Note::default()))).expect("the rule is cleared");
        assert_eq!(events(&store, &stream).len() as u64, 6 - removed, "removed events are visible again");
        block_on(store.close()).expect("closed");
    });
}

/// The reads of one thread never go back: a later read has at least the events of an earlier one.
#[test]
fn readers_see_whole_commits_and_never_less_than_before() {
    explore(|ground, stream| {
        let store = ground.start(&Options::new(), UNLIMITED).expect("started");
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
        assert_events(ground, &stream, &answers.concat());
    });
}
