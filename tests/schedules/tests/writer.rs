//! The writer under shuttle, which decides at each lock, wait and wake-up which thread goes on, and tries many such schedules:
//! exactly one winner for each revision, nobody waits for ever, nothing acknowledged is lost, closing lets everybody go. Whoever
//! is alone writes for itself, and hands over to the writer's thread when others come: each test must have seen that.
//!
//! That somebody waits for ever is found by shuttle itself: a schedule in which no thread can go on is a failure. A failure
//! prints its schedule; `shuttle::replay` runs it again.
//!
//! `ES_SCHEDULES=100000` for long: so many schedules of each test, half of them random, half of them with few changes of
//! threads at places that matter ("A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", Burckhardt et
//! al. 2010).

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

/// How many commit at the same time.
const CALLERS: usize = 3;
/// A disk that does not fail.
const NO_END: usize = usize::MAX;

/// Runs a test under many schedules. Returns how often the thread handed back to a caller.
fn explore(body: impl Fn(&Ground, StreamId) + Send + Sync + 'static) -> u64 {
    let schedules: usize = std::env::var("ES_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let body: Arc<Body> = Arc::new(body);
    // NOTE: not all in one store, because a scavenge looks at every rule that there was.
    let parts = (0..schedules).step_by(PER_STORE).map(|done| PER_STORE.min(schedules - done));
    parts.map(|part| explore_part(part, Arc::clone(&body))).sum()
}

type Body = dyn Fn(&Ground, StreamId) + Send + Sync;

/// How many schedules share a store.
const PER_STORE: usize = 1000;

/// Runs a test under so many schedules, each on a stream of its own.
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
    // NOTE: RocksDB runs on the stacks of shuttle's threads.
    config.stack_size = 1 << 20;
    let random = Arc::clone(&run);
    shuttle::Runner::new(RandomScheduler::new(schedules / 2), config.clone()).run(move || random());
    shuttle::Runner::new(PctScheduler::new(3, schedules / 2), config).run(move || run());
    let turns = turns.turns();
    assert!(turns.to_thread.load(Ordering::Relaxed) > 0, "no caller has ever handed over to the thread");
    turns.to_callers.load(Ordering::Relaxed)
}

fn event() -> NewEvent {
    NewEvent::json(EventType::new("t").expect("a name"), "{}")
}

fn append(stream: &StreamId, expected: ExpectedRevision) -> Commit {
    Commit::to(stream, expected, [event()])
}

fn events(store: &RocksDbStore, stream: &StreamId) -> Vec<es_core::RecordedEvent> {
    block_on(async { store.read_stream(StreamRead::new(stream.clone())).await?.collect().await }).expect("it is read")
}

/// Starts callers, and returns what each gave.
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

/// The ids of what was acknowledged stand in the stream, and nothing else does.
fn assert_holds(ground: &Ground, stream: &StreamId, acknowledged: &[es_core::EventId]) {
    let store = ground.start(&Options::new(), NO_END).expect("it starts");
    let mut found: Vec<_> = events(&store, stream).iter().map(|event| event.data.id).collect();
    let mut expected = acknowledged.to_vec();
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "what is there is not what was acknowledged");
    block_on(store.close()).expect("it closes");
}

#[test]
fn each_revision_has_exactly_one_winner() {
    explore(|ground, stream| {
        let store = ground.start(&Options::new(), NO_END).expect("it starts");
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
        block_on(store.close()).expect("it closes");
        assert_holds(ground, &stream, &acknowledged);
    });
}

#[test]
fn closing_lets_everybody_go_and_loses_nothing() {
    explore(|ground, stream| {
        // NOTE: room for one commit, so that some wait for room when it closes.
        let store = ground.start(&Options::new().queue_bytes(1), NO_END).expect("it starts");
        let committing = callers(&store, &stream, |_, store, stream| {
            let commits = (0..2).map(|_| append(&stream, ExpectedRevision::Any));
            let answers = commits.map(|commit| match block_on(store.commit(commit)) {
                Ok(committed) => Some(committed.events[0].data.id),
                Err(CommitError::Store(StoreError::Closed)) => None,
                Err(error) => panic!("expected an acknowledgement or that it is closed, found {error}"),
            });
            answers.flatten().collect::<Vec<_>>()
        });
        let closing = [(); 2].map(|()| {
            let (store, ground) = (store.clone(), ground.clone());
            thread::spawn(move || {
                block_on(store.close()).expect("it closes");
                assert!(!ground.turns().is_writing.load(Ordering::Relaxed), "it was closed while somebody writes");
            })
        });
        let acknowledged: Vec<_> = joined(committing).into_iter().flatten().collect();
        joined(closing.into());
        assert_holds(ground, &stream, &acknowledged);
    });
}

#[test]
fn a_disk_that_fails_is_told_to_everybody_and_nothing_else_is_acknowledged() {
    explore(|ground, stream| {
        let store = ground.start(&Options::new(), 1).expect("it starts");
        let acknowledged: Vec<_> = joined(callers(&store, &stream, |_, store, stream| {
            let commits = (0..2).map(|_| append(&stream, ExpectedRevision::Any));
            let answers = commits.map(|commit| match block_on(store.commit(commit)) {
                Ok(committed) => Some(committed.events[0].data.id),
                Err(CommitError::Store(StoreError::Stopped { reason })) => {
                    assert_eq!(reason, "a write failed: no space left on device");
                    None
                }
                Err(error) => panic!("expected an acknowledgement or that it has stopped, found {error}"),
            });
            answers.collect::<Vec<_>>()
        }));
        for answers in &acknowledged {
            assert!(answers.is_sorted_by_key(Option::is_none), "acknowledged behind a failure: {answers:?}");
        }
        block_on(store.close()).expect("it closes");
        let acknowledged: Vec<_> = acknowledged.into_iter().flatten().flatten().collect();
        assert_holds(ground, &stream, &acknowledged);
    });
}

/// From callers to the thread and back: each commit is written once, those of one caller in their order.
#[test]
fn nothing_is_lost_when_the_turn_changes_hands() {
    let handed_back = explore(|ground, stream| {
        let store = ground.start(&Options::new(), NO_END).expect("it starts");
        let acknowledged = joined(callers(&store, &stream, |_, store, stream| {
            let commits = (0..4).map(|_| append(&stream, ExpectedRevision::Any));
            let committed = commits.map(|commit| block_on(store.commit(commit)).expect("it is committed"));
            committed.map(|committed| (committed.events[0].position, committed.events[0].data.id)).collect::<Vec<_>>()
        }));
        assert!(acknowledged.iter().all(|of_caller| of_caller.is_sorted()), "a caller was overtaken by itself");
        block_on(store.close()).expect("it closes");
        let acknowledged: Vec<_> = acknowledged.into_iter().flatten().map(|(_, id)| id).collect();
        assert_holds(ground, &stream, &acknowledged);
    });
    assert!(handed_back > 0, "the thread has never handed back to a caller");
}

/// Who gives up, before or after its commit was taken, keeps nobody waiting; its commit counts or does not.
#[test]
fn a_future_that_is_dropped_keeps_nobody_waiting() {
    explore(|ground, stream| {
        let store = ground.start(&Options::new().queue_bytes(1), NO_END).expect("it starts");
        let given_up = Arc::new(Mutex::new(Vec::new()));
        let acknowledged = joined(callers(&store, &stream, {
            let given_up = Arc::clone(&given_up);
            move |caller, store, stream| {
                let commit = append(&stream, ExpectedRevision::Any);
                let id = commit.events()[0].1.data.id;
                let mut answer = Box::pin(store.commit(commit));
                if caller > 0 {
                    return Some(block_on(answer).expect("it is committed").events[0].data.id);
                }
                let polled = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                thread::yield_now();
                drop(answer);
                match polled {
                    Poll::Ready(answer) => Some(answer.expect("it is committed").events[0].data.id),
                    Poll::Pending => {
                        given_up.lock().expect("not poisoned").push(id);
                        None
                    }
                }
            }
        }));
        drop(store);
        let mut acknowledged: Vec<_> = acknowledged.into_iter().flatten().collect();
        let store = ground.start(&Options::new(), NO_END).expect("it starts");
        for id in given_up.lock().expect("not poisoned").iter() {
            acknowledged.extend(block_on(store.find(*id)).expect("it is read").map(|event| event.data.id));
        }
        block_on(store.close()).expect("it closes");
        assert_holds(ground, &stream, &acknowledged);
    });
}

/// A scavenge takes turns with whoever writes, and what it removed is not read again, from memory or from disk.
#[test]
fn a_scavenge_takes_turns_with_callers_and_readers() {
    explore(|ground, stream| {
        let options = Options::new().durability(Durability::Buffered);
        let store = ground.start(&options, NO_END).expect("it starts");
        for _ in 0..3 {
            block_on(store.commit(append(&stream, ExpectedRevision::Any))).expect("it is committed");
        }
        let rule = Rule { max_count: Some(2), ..Rule::default() };
        let scope = Scope::Stream(stream.clone());
        block_on(store.commit(Commit::set_rule(scope.clone(), rule, Note::default()))).expect("the rule is set");
        let scavenging = thread::spawn({
            let store = store.clone();
            move || block_on(store.scavenge(&Scavenge::default())).expect("it is done").events
        });
        let reading = thread::spawn({
            let (store, stream) = (store.clone(), stream.clone());
            move || {
                let mut last = 0;
                for _ in 0..3 {
                    let head = block_on(store.head()).expect("read").expect("it has events");
                    let read = LogRead::category(stream.category()).from(head);
                    let log = block_on(async { store.read_log(read).await?.collect().await }).expect("it is read");
                    assert!(log.iter().all(|event| event.position >= head && !event.is_removed()));
                    let visible: Vec<_> = events(&store, &stream).iter().map(|event| event.revision.get()).collect();
                    assert!(visible.len() <= 2, "more is visible than the rule says: {visible:?}");
                    assert!(visible.is_sorted() && visible.last().is_some_and(|newest| *newest >= last), "{visible:?}");
                    last = visible.last().copied().unwrap_or_default();
                }
            }
        });
        let committed = joined(callers(&store, &stream, |_, store, stream| {
            block_on(store.commit(append(&stream, ExpectedRevision::Any))).expect("it is committed").events[0].data.id
        }));
        reading.join().expect("the reader does not panic");
        let removed = scavenging.join().expect("the scavenge does not panic");
        assert!((1..=4).contains(&removed), "{removed} were removed");
        assert_eq!(events(&store, &stream).len(), 2);
        assert_eq!(committed.len(), CALLERS);
        // NOTE: the next schedule, on the same log, has nothing to do with this stream.
        block_on(store.commit(Commit::clear_rule(scope, Note::default()))).expect("the rule is cleared");
        assert_eq!(events(&store, &stream).len() as u64, 6 - removed, "what was removed came back");
        block_on(store.close()).expect("it closes");
    });
}

/// What a reader was told is there for everything that it reads next.
#[test]
fn readers_see_whole_commits_and_never_less_than_before() {
    explore(|ground, stream| {
        let store = ground.start(&Options::new(), NO_END).expect("it starts");
        let reading = thread::spawn({
            let (store, stream) = (store.clone(), stream.clone());
            move || {
                let mut seen = 0;
                for _ in 0..3 {
                    let revision = block_on(store.revision(&stream)).expect("it is read").map_or(0, |at| at.get() + 1);
                    let read = events(&store, &stream).len() as u64;
                    assert!(seen <= revision && revision <= read, "saw {seen}, then {revision}, then {read}");
                    assert_eq!(read % 2, 0, "a half commit");
                    seen = read;
                }
            }
        });
        let answers = joined(callers(&store, &stream, |_, store, stream| {
            let commit = Commit::to(&stream, ExpectedRevision::Any, [event(), event()]);
            let committed = block_on(store.commit(commit)).expect("it is committed");
            let last = committed.revision(&stream).expect("it has events");
            assert!(
                block_on(store.revision(&stream)).expect("it is read") >= Some(last),
                "an answer before it is visible"
            );
            committed.events.iter().map(|event| event.data.id).collect::<Vec<_>>()
        }));
        reading.join().expect("the reader does not panic");
        block_on(store.close()).expect("it closes");
        assert_holds(ground, &stream, &answers.concat());
    });
}
