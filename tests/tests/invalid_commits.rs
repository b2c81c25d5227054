//! Consumers whose commits exceed a limit of the store: they commit fewer events at once, and lose no change.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use es_core::__private::partition_of;
use es_core::aggregate::{OrderOf, RawEvents, RetryPolicy};
use es_core::consumer::group::{ConsumerGroup, GroupError, Nack, RunningGroup, SettleError, StartAt};
use es_core::consumer::reactor::{ReactError, Reactor, ReactorContext, ReactorRunner};
use es_core::model::Table;
use es_core::prelude::*;
use es_core::projection::inline::{Inline, InlineError};
use es_core::projection::view::{View, Views};
use es_core::projection::{AcceptsOrder, ProjectionAdmin, ProjectionOptions, RunningProjections};
use es_core::store::implement::StoreLayer;
use es_core::store::memory::MemoryStore;
use es_core::store::{Committed, InvalidCommit, MAX_COMMIT_BYTES, Query};
use es_core::{Commit, CommitError, EventType, NewEvent, RecordedEvent, StreamId};
use es_tests::account::AccountEvent;
use es_tests::counted::{self, EventsOfStreams};
use es_tests::ledger::{self, Ledger, POISON, account};
use es_tests::stores::{on_every_store, small};
use es_tests::supervised::{self, TIMEOUT, wait_until};

type Store = Arc<dyn EventStore>;

const MIB: usize = 1024 * 1024;

const FAST: RetryPolicy =
    RetryPolicy { attempts: 2, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(1) };

/// A store layer that rejects commits with more rows than it accepts, as a store rejects commits that are too large.
#[derive(Debug)]
struct FewRows {
    inner: Store,
    accepted: AtomicUsize,
    rejected: AtomicUsize,
}

impl FewRows {
    fn new(inner: &Store, accepted: usize) -> Arc<Self> {
        Arc::new(Self { inner: Arc::clone(inner), accepted: accepted.into(), rejected: AtomicUsize::new(0) })
    }

    fn rejected(&self) -> usize {
        self.rejected.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl StoreLayer for FewRows {
    fn inner(&self) -> &dyn EventStore {
        &*self.inner
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        let found = commit.rows().len();
        if found > self.accepted.load(Ordering::SeqCst) {
            self.rejected.fetch_add(1, Ordering::SeqCst);
            return Err(InvalidCommit::TooManyBytes { found }.into());
        }
        self.inner.commit(commit).await
    }
}

fn at(number: u64) -> Position {
    Position::new(number).expect("not zero")
}

async fn append(store: &dyn EventStore, stream: &str, payload: impl Into<String>) -> Position {
    let event = NewEvent::json(EventType::new("happened").expect("a name"), payload.into());
    let commit = Commit::to(&StreamId::new(stream).expect("a name"), ExpectedRevision::Any, [event]);
    store.commit(commit).await.expect("committed").position().expect("an event")
}

async fn catch_up<P>(store: &Store, projection: P, options: ProjectionOptions) -> Vec<String>
where
    P: Projection + AcceptsOrder<OrderOf<P::Source>>,
{
    let (running, handle) = supervised::start(store, projection, options);
    let head = store.head().await.expect("a head").expect("events");
    handle.wait_for(head, TIMEOUT).await.expect("the projection catches up");
    assert_eq!(handle.status().restarts, 0, "a limit is no failure");
    shut_down(running).await;
    let parked = handle.admin().parked(None, 100).await.expect("read");
    parked.into_iter().map(|parked| parked.key).collect()
}

async fn shut_down(running: RunningProjections) {
    running.shutdown(TIMEOUT).await.expect("the projection stops");
}

/// Regression: nothing tested that a worker whose commit of several events is rejected for its size applies all of
/// them in smaller commits. A worker that went on after the rejected events lost their changes.
#[test]
fn a_projection_splits_a_commit_that_the_store_rejects() {
    for (partitions, accepted) in [(1, 8), (1, 30), (3, 8)] {
        on_every_store(async |inner| {
            for number in 0..300 {
                append(&*inner, &format!("s-{}", number % 40), "1").await;
            }
            let limited = FewRows::new(&inner, accepted);
            let store: Store = Arc::clone(&limited) as _;
            let options = ProjectionOptions::new().batch(64).partitions(partitions);
            assert_eq!(catch_up(&store, EventsOfStreams::<1>, options).await, [""; 0], "no key is parked");
            assert!(limited.rejected() > 0, "the store rejects commits");
            assert!(counted::check(&inner).await >= Some(at(300)));
            // A restart continues at the checkpoint, so no event counts twice.
            append(&*inner, "s-1", "1").await;
            catch_up(&store, EventsOfStreams::<1>, options).await;
            assert!(counted::check(&inner).await >= Some(at(301)));
        });
    }
}

/// The later events of a parked key are rows, too, and so are those that a retry removes.
#[test]
fn parked_events_are_written_and_retried_in_smaller_commits() {
    on_every_store(async |inner| {
        ledger::append(&*inner, 0, AccountEvent::Withdrawn { cents: POISON }).await;
        for number in 0..120 {
            ledger::append(&*inner, number % 3, AccountEvent::Deposited { cents: 1 }).await;
        }
        let limited = FewRows::new(&inner, 8);
        let store: Store = Arc::clone(&limited) as _;
        let (options, projection) = (ProjectionOptions::new().retry(FAST), Ledger::<1>::default());
        let parked = catch_up(&store, projection.clone(), options).await;
        assert_eq!((parked, limited.rejected() > 0), (vec![account(0).to_string()], true));
        assert_eq!(ledger::check(&inner, "parked").await.events(), 80);

        let rejected = limited.rejected();
        projection.accepts_poison.store(true, Ordering::SeqCst);
        let (running, handle) = supervised::start(&store, projection, options);
        let admin = handle.admin();
        admin.retry(account(0).as_str()).await.expect("requested");
        wait_until("the key is released", async || admin.parked(None, 1).await.expect("read").is_empty()).await;
        shut_down(running).await;
        assert!(limited.rejected() > rejected, "the store rejects commits of the retry");
        assert_eq!(ledger::check(&inner, "retried").await.events(), 121);
    });
}

/// Rows of a stream. The event `blob` writes one of some MiB, `read` reads it, and `error` fails with a text of this
/// size.
struct Blobs {
    mib: usize,
}

/// The number of events by stream.
const EVENTS: View<String, u64> = View::new("events");

impl Projection for Blobs {
    type Source = RawEvents;
    const NAME: &'static str = "blobs";

    fn apply(&self, event: &RecordedEvent, at: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let (blobs, stream) = (Table::new("blobs").expect("a name"), at.stream().as_str().to_owned());
        match &*event.data.payload {
            b"\"blob\"" => rows.put(&blobs, stream.clone(), vec![7; self.mib * MIB]),
            b"\"read\"" => assert!(rows.get(&blobs, stream.as_bytes())?.is_some(), "the stream has its blob"),
            _ => return Err(ApplyError::new("x".repeat(self.mib * MIB))),
        }
        rows.view(&EVENTS)?.update(&stream, |events| *events += 1)
    }
}

async fn events_by_stream(store: &Store) -> Vec<u64> {
    let views = Views::of::<Blobs>(store.clone());
    let rows = views.view(&EVENTS).scan().read_all().await.expect("read");
    rows.into_iter().map(|(_, events)| events).collect()
}

/// 100 MiB of changed rows in one batch: more than a commit may have.
#[test]
fn a_batch_with_more_rows_than_a_commit_may_have_is_split() {
    on_every_store(async |store| {
        for number in 0..100 {
            append(&*store, &format!("s-{number}"), "\"blob\"").await;
        }
        let options = ProjectionOptions { commit_bytes: usize::MAX, ..ProjectionOptions::new() };
        assert_eq!(catch_up(&store, Blobs { mib: 1 }, options).await, [""; 0]);
        assert_eq!(events_by_stream(&store).await, [1; 100]);
    });
}

/// Several workers require that the rows that they read are unchanged. These rows count for the limit of a commit as
/// well: 100 MiB for the five events of one worker.
#[test]
fn a_batch_that_reads_more_rows_than_a_commit_may_have_is_split() {
    on_every_store(async |store| {
        let streams = (0..).map(|number| format!("s-{number}")).filter(|stream| partition_of(stream, 2) == 0);
        for stream in streams.take(5) {
            append(&*store, &stream, "\"blob\"").await;
            append(&*store, &stream, "\"read\"").await;
        }
        let options = ProjectionOptions::new().partitions(2);
        assert_eq!(catch_up(&store, Blobs { mib: 20 }, options).await, [""; 0]);
        assert_eq!(events_by_stream(&store).await, [2; 5]);
    });
}

/// A single event that exceeds the limit, and an error with a text that does, park their keys and no others.
/// Regression: the text was stored whole, so the worker failed again after each restart.
#[test]
fn an_event_that_exceeds_the_limit_alone_is_parked() {
    on_every_store(async |store| {
        for (stream, payload) in [("s-1", "\"blob\""), ("s-2", "\"read\""), ("s-3", "\"error\""), ("s-1", "\"read\"")] {
            append(&*store, stream, payload).await;
        }
        let options = ProjectionOptions::new().retry(FAST);
        let projection = Blobs { mib: MAX_COMMIT_BYTES / MIB + 1 };
        assert_eq!(catch_up(&store, projection, options).await, ["s-1", "s-2", "s-3"]);
        let admin = ProjectionAdmin::new(store, Blobs::NAME).expect("a name");
        let parked = admin.parked(None, 10).await.expect("read");
        assert!(parked.iter().all(|parked| parked.error.len() < 1_100), "errors are shortened");
        assert!(parked[0].error.contains("bytes"), "{}", parked[0].error);
        assert_eq!(admin.parked_events("s-1", None, 10).await.expect("read").len(), 2);
    });
}

/// Regression: an inline projection that changed more than 64 MiB of rows in the 512 events of one catch-up commit
/// could not start.
#[tokio::test]
async fn an_inline_projection_catches_up_in_smaller_commits() {
    let inline = || Inline::new(Blobs { mib: 1 });
    let memory = MemoryStore::new();
    let dir = tempfile::tempdir().expect("a directory");
    let rocksdb = small().open(dir.path()).await.expect("opened");
    for number in 0..100 {
        append(&memory, &format!("s-{number}"), "\"blob\"").await;
        append(&rocksdb, &format!("s-{number}"), "\"blob\"").await;
    }
    rocksdb.close().await.expect("closed");
    let memory: Store = Arc::new(memory.with_hook(inline()).await.expect("the projection starts"));
    let rocksdb: Store = Arc::new(small().hook(inline()).open(dir.path()).await.expect("the projection starts"));
    for store in [memory, rocksdb] {
        assert_eq!(events_by_stream(&store).await, [1; 100]);
        append(&*store, "s-5", "\"read\"").await;
        assert_eq!(events_by_stream(&store).await.iter().sum::<u64>(), 101);
        store.close().await.expect("closed");
    }
}

/// A commit whose rows exceed the limit is rejected as a whole, with the error of the projection.
#[tokio::test]
async fn an_inline_projection_rejects_a_commit_whose_rows_exceed_the_limit() {
    let store = MemoryStore::new().with_hook(Inline::new(Blobs { mib: 1 })).await.expect("the projection starts");
    let event = || NewEvent::json(EventType::new("happened").expect("a name"), "\"blob\"");
    let commit = (0..100).fold(Commit::new(), |commit, number| {
        commit.append(StreamId::new(format!("s-{number}")).expect("a name"), event())
    });
    let Err(CommitError::Rejected(error)) = store.commit(commit).await else { panic!("expected a rejection") };
    let error = error.downcast::<InlineError>().expect("the error of an inline projection");
    assert!(matches!(*error, InlineError::TooLarge { found, .. } if found > MAX_COMMIT_BYTES), "{error}");
    let store: Store = Arc::new(store);
    assert_eq!((store.head().await.expect("a head"), events_by_stream(&store).await), (None, Vec::new()));
}

async fn group(store: &Store) -> RunningGroup {
    let group = ConsumerGroup::new("workers", Query::all()).start_at(StartAt::Beginning).retry(FAST);
    group.start(Arc::clone(store)).await.expect("the group starts")
}

/// Parks or acks the next events of a group. Returns their positions, and the error that ended the group.
async fn settle(running: &RunningGroup, events: usize, parks: bool) -> (Vec<Position>, Option<SettleError>) {
    let (consumer, mut settled) = (running.consumer(), Vec::new());
    for _ in 0..events {
        let delivery = consumer.next().await.expect("the group runs").expect("an event");
        let position = delivery.event().position;
        let nack = Nack::Park("injected".to_owned());
        let result = if parks { delivery.nack(nack).await } else { delivery.ack().await };
        match result {
            Ok(()) => settled.push(position),
            Err(error) => return (settled, Some(error)),
        }
    }
    (settled, None)
}

/// A group whose commit is rejected ends with an error: no ack is confirmed, and the events are delivered again.
#[test]
fn a_group_whose_commit_is_rejected_ends_and_loses_no_event() {
    on_every_store(async |inner| {
        for number in 0..10 {
            append(&*inner, &format!("s-{number}"), "1").await;
        }
        let limited = FewRows::new(&inner, 8);
        let store: Store = Arc::clone(&limited) as _;
        let running = group(&store).await;
        assert_eq!(settle(&running, 10, true).await.0.len(), 10);
        // The marks of ten parked events and the state of the group are eleven rows.
        assert_eq!(running.status().parked, 10);
        assert!(running.replay_parked(Some(10)).await.is_err_and(|error| matches!(error, GroupError::Refused { .. })));
        assert!(running.shutdown(TIMEOUT).await.is_err(), "the group reports why it ended");

        let running = group(&store).await;
        assert_eq!(running.status().parked, 10);
        running.replay_parked(Some(5)).await.expect("written");
        let (replayed, error) = settle(&running, 5, false).await;
        assert!(replayed == [1, 2, 3, 4, 5].map(at) && error.is_none(), "{replayed:?} {error:?}");

        limited.accepted.store(0, Ordering::SeqCst);
        append(&*inner, "s-1", "1").await;
        let (settled, error) = settle(&running, 1, false).await;
        assert!(settled.is_empty() && matches!(error, Some(SettleError::Group(GroupError::Refused { .. }))));
        limited.accepted.store(8, Ordering::SeqCst);
        let running = group(&store).await;
        assert_eq!(settle(&running, 1, false).await.0, [at(11)], "the event is delivered again");
        running.shutdown(TIMEOUT).await.expect("closed");
    });
}

struct Effects(Arc<AtomicUsize>);

#[async_trait]
impl Reactor for Effects {
    type Source = RawEvents;
    const NAME: &'static str = "effects";

    async fn react(&self, _: &RecordedEvent, _: &ReactorContext) -> Result<(), ReactError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// A reactor whose commit is rejected ends with an error, and makes the effect again after its restart.
#[test]
fn a_reactor_whose_commit_is_rejected_ends_and_repeats_the_effect() {
    on_every_store(async |inner| {
        let limited = FewRows::new(&inner, 8);
        let store: Store = Arc::clone(&limited) as _;
        let effects = Arc::new(AtomicUsize::new(0));
        let start = async || {
            let runner = ReactorRunner::new(Effects(Arc::clone(&effects))).start_at(StartAt::Beginning);
            runner.start(Arc::clone(&store)).await.expect("the reactor starts")
        };
        let running = start().await;
        limited.accepted.store(0, Ordering::SeqCst);
        let position = append(&*inner, "s-1", "1").await;
        assert!(running.wait_for(position, TIMEOUT).await.is_err(), "the effect is not recorded");
        assert!(running.shutdown(TIMEOUT).await.is_err(), "the reactor reports why it ended");
        limited.accepted.store(8, Ordering::SeqCst);
        let running = start().await;
        running.wait_for(position, TIMEOUT).await.expect("the effect is recorded");
        running.shutdown(TIMEOUT).await.expect("closed");
        assert_eq!(effects.load(Ordering::SeqCst), 2);
    });
}
