use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::*;

use crate::aggregate::source::RawEvents;
use crate::consumer::group::{GroupError, StartAt};
use crate::consumer::reactor::{ReactError, ReactorContext};
use crate::model::{
    AheadOfLog, EventType, ExpectedRevision, IdSource, NewEvent, Position, RecordedEvent, StreamId, Table, reserved,
};
use crate::projection::{
    AdminError, ApplyError, ProjectedContext, ProjectionState, RebuildFrom, Rows, active, applied,
};
use crate::store::implement::StoreLayer;
use crate::store::memory::MemoryStore;
use crate::store::{Commit, EventStream, LogRead, Query, RowScan, StoreError};
use crate::testing::{ManualClock, SeededEntropy};

/// Longer than a successful test takes.
const LONG: Duration = Duration::from_secs(60);

fn event(name: &str) -> Commit {
    let event = NewEvent::json(EventType::new(name).unwrap(), "{}");
    Commit::to(&StreamId::new("test-1").unwrap(), ExpectedRevision::Any, [event])
}

fn store() -> Arc<dyn EventStore> {
    Arc::new(MemoryStore::new())
}

async fn is_closed(store: &dyn EventStore) -> bool {
    matches!(store.head().await, Err(StoreError::Closed))
}

type Trace = Arc<Mutex<Vec<&'static str>>>;

/// Waits for a permit, commits an event, and traces the call.
struct Echo {
    store: Arc<dyn EventStore>,
    permits: Arc<Semaphore>,
    called: Arc<AtomicBool>,
    trace: Trace,
}

#[async_trait]
impl Reactor for Echo {
    type Source = RawEvents;
    const NAME: &'static str = "echo";

    async fn react(&self, received: &RecordedEvent, _: &ReactorContext) -> Result<(), ReactError> {
        if received.data.event_type.as_str() != "call" {
            return Ok(());
        }
        self.called.store(true, Ordering::SeqCst);
        self.permits.acquire().await?.forget();
        self.store.commit(event("echo")).await?;
        self.trace.lock().unwrap().push("reactor");
        Ok(())
    }
}

/// Does nothing.
struct Ignore;

#[async_trait]
impl Reactor for Ignore {
    type Source = RawEvents;
    const NAME: &'static str = "ignore";

    async fn react(&self, _: &RecordedEvent, _: &ReactorContext) -> Result<(), ReactError> {
        Ok(())
    }
}

struct Traced(Trace);

impl Projection for Traced {
    type Source = RawEvents;
    const NAME: &'static str = "traced";

    fn apply(&self, event: &RecordedEvent, _: &ProjectedContext<'_>, _: &mut Rows) -> Result<(), ApplyError> {
        if event.data.event_type.as_str() == "echo" {
            self.0.lock().unwrap().push("projection");
        }
        Ok(())
    }
}

async fn until(holds: impl Fn() -> bool) {
    let poll = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LONG, poll).await.expect("the condition holds in time");
}

/// Starts a service with a reactor that has received an event and waits for a permit.
async fn with_reactor_in_progress(store: &Arc<dyn EventStore>, permits: &Arc<Semaphore>) -> (RunningService, Trace) {
    let (trace, called) = (Trace::default(), Arc::new(AtomicBool::new(false)));
    let echo = Echo {
        store: Arc::clone(store),
        permits: Arc::clone(permits),
        called: Arc::clone(&called),
        trace: Arc::clone(&trace),
    };
    let service = Service::new(Arc::clone(store))
        .projection(Traced(Arc::clone(&trace)), ProjectionOptions::new())
        .reactor(ReactorRunner::new(echo).start_at(StartAt::Beginning))
        .shutdown_deadline(LONG * 2)
        .start()
        .await
        .unwrap();
    store.commit(event("call")).await.unwrap();
    until(|| called.load(Ordering::SeqCst)).await;
    (service, trace)
}

#[tokio::test]
async fn intake_stops_first_then_reactors_then_projections_then_the_store() {
    let (store, permits) = (store(), Arc::new(Semaphore::new(0)));
    let (mut service, trace) = with_reactor_in_progress(&store, &permits).await;
    let of_intake = Arc::clone(&trace);
    service.intake("http", |stop| async move {
        stop.requested().await;
        of_intake.lock().unwrap().push("intake");
        permits.add_permits(1);
        Ok::<(), std::io::Error>(())
    });
    service.run_until(std::future::ready(())).await.unwrap();
    assert_eq!(*trace.lock().unwrap(), ["intake", "reactor", "projection"]);
    assert!(is_closed(&*store).await);
}

/// A store with slow reads. When it is closed, it stores the head of the log and the checkpoint of the projection.
#[derive(Debug)]
struct SlowStore {
    inner: Arc<dyn EventStore>,
    at_close: Mutex<Option<(Option<Position>, Option<Position>)>>,
}

#[async_trait]
impl StoreLayer for SlowStore {
    fn inner(&self) -> &dyn EventStore {
        &*self.inner
    }

    async fn read_log(&self, read: LogRead) -> Result<EventStream, StoreError> {
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.inner.read_log(read).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        let active = active(&*self.inner, Traced::NAME).await?.expect("the projection has a view");
        let applied = applied(&*self.inner, Traced::NAME, &active).await?;
        *self.at_close.lock().unwrap() = Some((self.inner.head().await?, applied.position));
        self.inner.close().await
    }
}

#[tokio::test]
async fn the_store_is_closed_after_the_projections_have_caught_up() {
    let slow = Arc::new(SlowStore { inner: store(), at_close: Mutex::default() });
    let store: Arc<dyn EventStore> = Arc::clone(&slow) as _;
    let trace = Trace::default();
    let service = Service::new(Arc::clone(&store)).projection(Traced(Arc::clone(&trace)), ProjectionOptions::new());
    let service = service.start().await.unwrap();
    store.commit(event("echo")).await.unwrap();
    until(|| !trace.lock().unwrap().is_empty()).await;
    store.commit(event("echo")).await.unwrap();
    service.shutdown(LONG).await.unwrap();
    assert_eq!(*slow.at_close.lock().unwrap(), Some((Position::new(2), Position::new(2))));
}

#[tokio::test]
async fn components_that_exceed_the_deadline_are_aborted_and_named() {
    let (store, permits) = (store(), Arc::new(Semaphore::new(0)));
    let (mut service, trace) = with_reactor_in_progress(&store, &permits).await;
    service.intake("stuck", |_| std::future::pending::<Result<(), std::io::Error>>());
    let error = service.shutdown(Duration::from_millis(50)).await.unwrap_err();
    let stuck = [Component::Intake("stuck".into()), Component::Reactor("echo".into())];
    assert_eq!(error.unfinished[..2], stuck, "{error}");
    assert!(error.failed.is_empty() && !error.was_forced, "{error}");
    assert!(trace.lock().unwrap().is_empty(), "the reactor was aborted");
    assert!(is_closed(&*store).await);
}

#[tokio::test]
async fn a_forced_shutdown_does_not_wait_for_the_deadline() {
    let (store, permits) = (store(), Arc::new(Semaphore::new(0)));
    let (service, _) = with_reactor_in_progress(&store, &permits).await;
    let second_signal = tokio::time::sleep(Duration::from_millis(50));
    let ended = tokio::time::timeout(LONG, service.run(std::future::ready(()), second_signal)).await;
    let error = ended.expect("the shutdown does not wait for its deadline").unwrap_err();
    assert!(error.was_forced, "{error}");
    assert_eq!(error.unfinished, [Component::Reactor("echo".into()), Component::Projection("traced".into())]);
    assert!(error.to_string().ends_with("the shutdown was forced"), "{error}");
    assert!(is_closed(&*store).await);
}

#[tokio::test]
async fn the_failure_or_panic_of_an_intake_ends_the_service_and_is_named() {
    for (is_panic, expected) in [(false, "the port is taken"), (true, "it panicked: no more requests")] {
        let store = store();
        let mut service = Service::new(Arc::clone(&store)).start().await.unwrap();
        service.intake("http", move |_| async move {
            assert!(!is_panic, "no more requests");
            Err("the port is taken")
        });
        let ended = tokio::time::timeout(LONG, service.run_until(std::future::pending())).await;
        let error = ended.expect("the service ends").unwrap_err();
        let [failure] = &error.failed[..] else { panic!("expected one failure, found {error:?}") };
        assert_eq!(failure.component, Component::Intake("http".into()));
        assert_eq!(failure.error.to_string(), expected);
        assert!(is_closed(&*store).await);
    }
}

#[tokio::test]
async fn a_group_that_is_started_elsewhere_ends_the_service() {
    let store = store();
    let group = || ConsumerGroup::new("workers", Query::all());
    let service = Service::new(Arc::clone(&store)).group(group()).start().await.unwrap();
    assert!(service.group("workers").is_some() && service.group("others").is_none());
    let run = tokio::spawn(service.run_until(std::future::pending()));
    let elsewhere = group().start(Arc::clone(&store)).await.unwrap();
    let ended = tokio::time::timeout(LONG, run).await.expect("the service ends").unwrap();
    let error = ended.unwrap_err();
    let [failure] = &error.failed[..] else { panic!("expected one failure, found {error:?}") };
    assert_eq!(failure.component, Component::Group("workers".into()));
    let cause = failure.error.downcast_ref::<GroupError>();
    assert!(matches!(cause, Some(GroupError::Fenced { .. })), "{error}");
    drop(elsewhere);
}

#[tokio::test]
async fn a_paused_projection_does_not_delay_the_shutdown() {
    let store = store();
    let service = Service::new(Arc::clone(&store)).projection(Traced(Trace::default()), ProjectionOptions::new());
    let service = service.start().await.unwrap();
    let traced = service.projection("traced").unwrap().clone();
    traced.admin().pause("a test").await.unwrap();
    until(|| traced.status().state == ProjectionState::Paused).await;
    store.commit(event("call")).await.unwrap();
    let waited = service.wait_for(store.head().await.unwrap(), Duration::from_millis(20)).await.unwrap_err();
    assert!(matches!(&waited, WaitError::Timeout { state, .. } if state == "paused"), "{waited}");
    tokio::time::timeout(LONG, service.shutdown(LONG * 2)).await.expect("the shutdown does not wait").unwrap();
}

/// Regression (a user's case): `wait_for(999999)` waited until its timeout and then said that the command had
/// succeeded.
#[tokio::test]
async fn nothing_waits_for_or_starts_after_a_position_ahead_of_the_log() {
    let store = store();
    let service = Service::new(Arc::clone(&store))
        .projection(Traced(Trace::default()), ProjectionOptions::new())
        .reactor(ReactorRunner::new(Ignore))
        .group(ConsumerGroup::new("workers", Query::all()).start_at(StartAt::Beginning));
    let service = service.start().await.unwrap();
    store.commit(event("call")).await.unwrap();
    let head = store.head().await.unwrap();
    let ahead = AheadOfLog { position: Position::new(999_999).unwrap(), head };
    let (position, projection) = (ahead.position, service.projection("traced").unwrap());
    for waited in [
        service.wait_for(position, LONG).await,
        projection.wait_for(position, LONG).await,
        service.projections.wait_for(position, LONG).await,
        service.reactor("ignore").unwrap().wait_for(position, LONG).await,
        service.group("workers").unwrap().wait_for(position, LONG).await,
    ] {
        assert!(matches!(waited, Err(WaitError::AheadOfLog(found)) if found == ahead), "{waited:?}");
    }
    // The committed position is not ahead.
    service.projection("traced").unwrap().wait_for(head, LONG).await.unwrap();

    let late = |name: &str| ConsumerGroup::new(name, Query::all()).start_at(StartAt::After(position));
    let refused = late("late").start(Arc::clone(&store)).await.unwrap_err();
    assert!(matches!(refused, StartError::AheadOfLog(found) if found == ahead), "{refused}");
    let reactor = ReactorRunner::new(Ignore).start_at(StartAt::After(position));
    let elsewhere: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    assert!(matches!(reactor.start(elsewhere).await, Err(StartError::AheadOfLog(found)) if found.head.is_none()));

    let admin = projection.admin();
    let refused = admin.rebuild(RebuildFrom::Position(position), "a typing error").await.unwrap_err();
    let before = ahead.position.previous().unwrap();
    assert!(matches!(refused, AdminError::AheadOfLog(found) if found.position == before), "{refused}");
    let future = "2999-01-01T00:00:00Z".parse().unwrap();
    let refused = admin.rebuild(RebuildFrom::Time(future), "a typing error").await.unwrap_err();
    assert!(matches!(refused, AdminError::TimeAheadOfLog(found) if found.time == future), "{refused}");
    admin.rebuild(RebuildFrom::Position(head.unwrap().next()), "from now on").await.unwrap();
    service.shutdown(LONG).await.unwrap();
}

#[tokio::test]
async fn duplicate_names_are_rejected_and_the_store_stays_open() {
    let store = store();
    let group = || ConsumerGroup::new("workers", Query::all());
    let refused = Service::new(Arc::clone(&store)).group(group()).group(group()).start().await;
    assert!(matches!(refused, Err(StartError::DuplicateName { name }) if name == "workers"));
    let traced = || Traced(Trace::default());
    let options = ProjectionOptions::new();
    let refused =
        Service::new(Arc::clone(&store)).projection(traced(), options).projection(traced(), options).start().await;
    assert!(matches!(refused, Err(StartError::DuplicateName { name }) if name == "traced"));
    assert!(!is_closed(&*store).await);
}

#[tokio::test]
async fn the_owners_of_claims_come_from_the_clock_and_the_entropy_of_the_service() {
    let clock = || Arc::new(ManualClock::at("2026-01-31T12:00:00Z".parse().unwrap()));
    let store = store();
    let service = Service::new(Arc::clone(&store))
        .projection(Traced(Trace::default()), ProjectionOptions::new())
        .clock(clock())
        .entropy(Arc::new(SeededEntropy::new(7)));
    let service = service.start().await.unwrap();
    let traced = service.projection("traced").unwrap().clone();
    until(|| traced.status().state == ProjectionState::Live).await;
    let owner = IdSource { clock: &*clock(), entropy: &SeededEntropy::new(7) }.uuid().to_string();
    let claims = RowScan::new(Table::well_known(reserved::PROJECTION_WORKERS), "", 100);
    let rows = store.rows(claims).await.unwrap();
    let owned = rows.iter().filter(|row| String::from_utf8_lossy(&row.value).contains(&owner)).count();
    assert!(owned > 0, "expected claims of {owner}, found {rows:?}");
    drop(service);
}

/// Counts the calls.
#[derive(Debug, Default)]
struct CountedEntropy(AtomicU64);

impl Entropy for CountedEntropy {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// Fails in its first call.
#[derive(Default)]
struct FailsOnce(AtomicBool);

#[async_trait]
impl Reactor for FailsOnce {
    type Source = RawEvents;
    const NAME: &'static str = "fails-once";

    async fn react(&self, _: &RecordedEvent, _: &ReactorContext) -> Result<(), ReactError> {
        if self.0.swap(true, Ordering::SeqCst) { Ok(()) } else { Err(ReactError::retry("the first call")) }
    }
}

#[tokio::test]
async fn the_pauses_of_a_reactor_come_from_its_entropy() {
    let (store, entropy) = (store(), Arc::new(CountedEntropy::default()));
    let runner = ReactorRunner::new(FailsOnce::default()).start_at(StartAt::Beginning);
    let running = runner.entropy(Arc::clone(&entropy) as _).start(Arc::clone(&store)).await.unwrap();
    let before = entropy.0.load(Ordering::SeqCst);
    store.commit(event("call")).await.unwrap();
    running.wait_for(store.head().await.unwrap(), LONG).await.unwrap();
    assert!(entropy.0.load(Ordering::SeqCst) > before, "the pause before the second call has jitter");
    running.shutdown(LONG).await.unwrap();
}
