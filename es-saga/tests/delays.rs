//! Delays of sagas that a coordinator runs: restarts, crashes, and clocks that jump.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use es_core::aggregate::Aggregate;
use es_core::model::{Clock, SystemClock};
use es_core::store::memory::MemoryStore;
use es_core::testing::ManualClock;
use es_core::{EventStore, StreamRead, Timestamp};
use es_saga::instance::UnitStatus;
use es_saga::{
    Classify, DefineError, ErrorClass, HookAction, HookPlace, Phase, RunningSagas, Saga, SagaCoordinator, SagaId,
    SagaInstance, StepContext, saga, step_function,
};

const PATIENCE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, thiserror::Error)]
#[error("refused")]
struct Refused;

impl Classify for Refused {
    fn class(&self) -> ErrorClass {
        ErrorClass::Terminal
    }
}

/// The sagas whose step `charge` was called.
static CHARGED: Mutex<Vec<SagaId>> = Mutex::new(Vec::new());

#[step_function(step = Open, name = "open", undo = "ignore")]
async fn open(units: u64) -> Result<u64, Refused> {
    Ok(units)
}

#[step_function(step = Charge, name = "charge", undo = "ignore")]
async fn charge(units: u64, context: &StepContext) -> Result<u64, Refused> {
    CHARGED.lock().expect("no panic").push(context.saga().clone());
    Ok(units * 100)
}

saga! {
    /// Charges for a trial after 14 days.
    saga Trial(units: u64) -> u64 {
        let opened = Open(units);
        let over = delay("14d") after opened;
        Charge(units) after over
    }
}

saga! {
    saga Short(units: u64) -> u64 {
        let over = delay("30ms") as "over";
        Charge(units) after over
    }
}

fn charges(id: &SagaId) -> usize {
    CHARGED.lock().expect("no panic").iter().filter(|charged| *charged == id).count()
}

/// Returns the number of events of a type.
async fn count(store: &dyn EventStore, id: &SagaId, event_type: &str) -> usize {
    let stream = SagaInstance::stream(id).expect("an id");
    let read = store.read_stream(StreamRead::new(stream)).await.expect("it reads");
    let events = read.collect().await.expect("it reads");
    events.iter().filter(|event| event.data.event_type.as_str() == event_type).count()
}

async fn start(saga: &Saga<u64, u64>, store: &Arc<dyn EventStore>, clock: &Arc<ManualClock>) -> RunningSagas {
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
    let sagas = SagaCoordinator::new().saga(saga).step(Open).step(Charge).clock(clock).poll(Duration::from_millis(10));
    sagas.start(Arc::clone(store)).await.expect("it starts")
}

/// Returns the end of the delay of a saga when the delay has started.
async fn delayed_until(sagas: &RunningSagas, id: &SagaId) -> Timestamp {
    let started = async {
        loop {
            let state = sagas.status(id).await.expect("it loads");
            if let UnitStatus::Delayed(until) = state.nodes()[1].units[0].status {
                return until;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, started).await.expect("the delay starts")
}

#[tokio::test]
async fn a_delay_holds_over_restarts_and_ends_once_whatever_the_clock_does() {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let created: Timestamp = "2026-01-31T12:00:00Z".parse().expect("a time");
    let (saga, clock) = (Trial::define().expect("the graph is valid"), Arc::new(ManualClock::at(created)));
    let sagas = start(&saga, &store, &clock).await;
    let id = sagas.create(&saga, "jumps", &7).await.expect("it is created");
    let until = delayed_until(&sagas, &id).await;
    assert_eq!(until, created + 14 * DAY);
    // The wait costs a row: the saga is due at the end of its delay.
    let due = async {
        while sagas.admin().unfinished(None, 9).await.expect("it reads")[0].due != until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, due).await.expect("its timer is set");
    assert!(sagas.shutdown(PATIENCE).await);
    for now in [created - 5 * DAY, until - Duration::from_millis(1)] {
        clock.set(now);
        let sagas = start(&saga, &store, &clock).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(delayed_until(&sagas, &id).await, until, "the clock is at {now}");
        assert!(sagas.shutdown(PATIENCE).await);
    }
    clock.set(created + 1000 * DAY);
    let sagas = start(&saga, &store, &clock).await;
    assert_eq!(sagas.wait(&id).await.expect("it ends").phase(), Phase::Completed);
    assert!(sagas.shutdown(PATIENCE).await);
    assert_eq!((count(&*store, &id, "saga-delay-started").await, charges(&id)), (1, 1));
    assert_eq!(count(&*store, &id, "saga-step-succeeded").await, 3);
}

#[tokio::test]
async fn a_crash_before_the_start_and_before_the_end_of_a_delay_leaves_one_delay() {
    let saga = Short::define().expect("the graph is valid");
    for place in [HookPlace::BeforeIntent, HookPlace::BeforeOutcome] {
        let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
        let crashed = Arc::new(AtomicBool::new(false));
        let coordinator = || {
            let crashed = Arc::clone(&crashed);
            let sagas = SagaCoordinator::new().saga(&saga).step(Charge).poll(Duration::from_millis(10));
            sagas.lease(Duration::from_millis(200)).test_hook(move |point| {
                let is_place = point.node == "over" && point.place == place;
                if is_place && !crashed.swap(true, Ordering::SeqCst) {
                    return HookAction::Crash;
                }
                HookAction::Continue
            })
        };
        let clock = SystemClock::new();
        let started = clock.now();
        let sagas = coordinator().start(Arc::clone(&store)).await.expect("it starts");
        let id = sagas.create(&saga, &format!("crash-{place:?}"), &7).await.expect("it is created");
        assert!(sagas.wait(&id).await.is_err(), "the coordinator crashes");
        drop(sagas);
        let sagas = coordinator().start(Arc::clone(&store)).await.expect("it starts");
        let state = tokio::time::timeout(PATIENCE, sagas.wait(&id)).await.expect("it ends").expect("it ends");
        assert_eq!(state.phase(), Phase::Completed);
        assert!(clock.now() - started >= chrono::TimeDelta::milliseconds(30));
        assert!(sagas.shutdown(PATIENCE).await);
        assert_eq!((count(&*store, &id, "saga-delay-started").await, charges(&id)), (1, 1), "{place:?}");
        assert_eq!(count(&*store, &id, "saga-step-succeeded").await, 2, "{place:?}");
    }
}

#[test]
fn the_time_of_a_delay_has_a_limit_is_rounded_up_and_is_part_of_the_fingerprint() {
    let define = |time| Saga::<u64, ()>::define("waiting", 1, |saga, _| saga.delay(time));
    let error = define(Duration::MAX).expect_err("it is too long");
    assert!(matches!(error, DefineError::LongDelay { .. }), "{error}");
    let (short, long) = (define(Duration::from_nanos(1)), define(Duration::from_millis(2)));
    let (short, long) = (short.expect("it is valid"), long.expect("it is valid"));
    let effect = serde_json::to_value(short.shape().nodes[0].effect).expect("it is JSON");
    assert_eq!(effect, serde_json::json!({ "delay": { "milliseconds": 1 } }));
    assert_ne!(short.fingerprint(), long.fingerprint());
}
