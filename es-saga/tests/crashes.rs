//! Crashes at each point, several coordinators, many items.

#[expect(dead_code, reason = "other tests use the rest")]
mod shop;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use es_core::EventStore;
use es_core::consumer::lease::{Acquisition, HeartbeatWatch, LeaseRows, LeaseTerms};
use es_core::store::memory::MemoryStore;
use es_core::testing::ManualClock;
use es_saga::{HookAction, HookPlace, Phase, Saga, SagaCoordinator, SagaId, SagaStep, StepContext, StepKey};
use shop::{PATIENCE, Shop, ShopError, crash, order};
use tokio::sync::Notify;

/// Commanded's process managers dispatch a command and then persist: a crash in between repeats the effect. (R27)
#[tokio::test]
async fn a_crash_at_any_point_leaves_one_effect_for_each_key_and_the_saga_ends_as_without_it() {
    crash::crash_at_each_point(async || Arc::new(MemoryStore::new()) as Arc<dyn EventStore>, async |store| store).await;
}

#[tokio::test]
async fn many_sagas_with_failures_and_crashes_all_end_and_none_is_lost() {
    let count = std::env::var("ES_SAGAS").ok().and_then(|count| count.parse().ok()).unwrap_or(300);
    let seed = std::env::var("ES_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    crash::run_with_failures(Arc::new(MemoryStore::new()), async |store| store, count, seed).await;
}

/// A step that ends the process at each attempt would otherwise end it at each start, and stop all other sagas.
#[tokio::test]
async fn a_step_that_crashes_in_each_attempt_fails_after_its_last_one() {
    let shop = Shop::new();
    let id = SagaId::new("fulfilment", 1).expect("an id");
    let mut crashes = 0;
    let phase = loop {
        assert!(crashes < 10, "the step is repeated without end");
        let crashed = Arc::new(Notify::new());
        let notify = Arc::clone(&crashed);
        let coordinator = shop.coordinator().lease(Duration::from_millis(60)).test_hook(move |point| {
            let is_call = point.node == "pay" && point.direction == es_saga::Direction::Forward;
            if is_call && point.place == HookPlace::BeforeOutcome {
                notify.notify_one();
                return HookAction::Crash;
            }
            HookAction::Continue
        });
        let sagas = coordinator.start(Arc::clone(&shop.store)).await.expect("it starts");
        sagas.admin().create(&shop.saga, "1", &order(2)).await.expect("it is created");
        tokio::select! {
            biased;
            () = crashed.notified() => crashes += 1,
            state = sagas.wait(&id) => match state {
                Ok(state) => break state.phase(),
                Err(_) => crashes += 1,
            },
        }
    };
    assert_eq!((phase, crashes), (Phase::Compensated, 3), "the step has three attempts");
    assert_eq!((shop.reserved().await, shop.provider.balance()), (0, 0));
}

/// A step that reports two calls with one key at the same time.
#[derive(SagaStep)]
#[saga_step(name = "alone")]
struct Alone(Arc<Mutex<BTreeMap<StepKey, u32>>>);

impl SagaStep for Alone {
    type Input = u64;
    type Output = u64;
    type Compensation = ();
    type Error = ShopError;

    fn compensation(&self, _: &u64, _: StepKey) {}

    async fn execute(&self, input: u64, context: &StepContext) -> Result<u64, ShopError> {
        let calls = |change: fn(&mut u32)| {
            let mut calls = self.0.lock().expect("no panic");
            let count = calls.entry(context.key()).or_default();
            change(count);
            *count
        };
        assert_eq!(calls(|count| *count += 1), 1, "two calls with one key at the same time");
        tokio::task::yield_now().await;
        calls(|count| *count -= 1);
        Ok(input)
    }

    async fn compensate(&self, (): (), _: Option<u64>, _: &StepContext) -> Result<(), ShopError> {
        Ok(())
    }
}

/// steno has nothing that keeps two coordinators from running one saga. (R35)
#[tokio::test]
async fn two_coordinators_on_one_store_never_run_a_step_at_the_same_time_and_one_takes_over() {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let calls = Arc::default();
    let saga = Saga::<u64, u64>::define("alone", 1, |saga, input| saga.step::<Alone>(input)).expect("it is valid");
    let start = async || {
        let coordinator = SagaCoordinator::new().saga(&saga).step(Alone(Arc::clone(&calls)));
        let coordinator = coordinator.poll(Duration::from_millis(5)).lease(Duration::from_millis(300));
        coordinator.start(Arc::clone(&store)).await.expect("it starts")
    };
    let (first, second) = (start().await, start().await);
    for input in 0..50 {
        let output = if input % 2 == 0 { &first } else { &second }.execute(&saga, &input.to_string(), &input).await;
        assert_eq!(output.expect("it completes"), input);
    }
    drop(first); // Like a crash: its leases end by themselves.
    let output = tokio::time::timeout(PATIENCE, second.execute(&saga, "50", &50)).await.expect("it takes over");
    assert_eq!(output.expect("it completes"), 50);
}

/// A coordinator that was suspended, for example with its virtual machine, and does not know that it lost its lease.
/// (R35)
#[tokio::test]
async fn a_coordinator_that_lost_its_lease_records_nothing_more() {
    let shop = Shop::new();
    let (called, proceed) = (Arc::new(Notify::new()), Arc::new(Mutex::new(false)));
    let (notify, is_free) = (Arc::clone(&called), Arc::clone(&proceed));
    let coordinator = shop.coordinator().lease(Duration::from_secs(3600)).test_hook(move |point| {
        if point.node == "pay" && point.place == HookPlace::BeforeOutcome {
            notify.notify_one();
            while !*is_free.lock().expect("no panic") {
                std::thread::yield_now();
            }
        }
        HookAction::Continue
    });
    let (sender, receiver) = std::sync::mpsc::channel();
    let store = Arc::clone(&shop.store);
    let saga = shop.saga.clone();
    let stale = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let sagas = coordinator.start(store).await.expect("it starts");
            let id = sagas.create(&saga, "1", &order(2)).await.expect("it is created");
            let until = async {
                while receiver.try_recv().is_err() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            until.await;
            drop(sagas);
            id
        })
    });
    called.notified().await;
    let clock = ManualClock::at("2126-01-31T12:00:00Z".parse().expect("a time"));
    let terms = LeaseTerms { owner: es_core::EventId::new().as_uuid().to_owned(), duration: Duration::from_secs(3600) };
    for slot in 0..4 {
        let rows = LeaseRows::named(&format!("sagas-{slot}"));
        let taken = terms.acquire(&*shop.store, &rows, &clock, &mut HeartbeatWatch::default()).await;
        assert!(matches!(taken, Ok(Acquisition::Acquired(_))), "{taken:?}");
    }
    *proceed.lock().expect("no panic") = true;
    tokio::time::sleep(Duration::from_millis(100)).await;
    sender.send(()).expect("it listens");
    let id = stale.join().expect("no panic");
    assert_eq!(shop.events(&id).await, ["saga-created", "saga-step-succeeded", "saga-step-started"]);
    assert_eq!(shop.provider.calls().len(), 1, "the stale coordinator made no further call");
}

/// Dapr #7321: a fan-out was stuck when it exceeded the batch limit of the store. (R33)
#[tokio::test]
async fn a_step_runs_for_ten_thousand_items() {
    let saga = Saga::<Vec<u64>, Vec<u64>>::define("each", 1, |saga, list| saga.node("all").each::<Alone>(list));
    let saga = saga.expect("it is valid");
    let coordinator = SagaCoordinator::new().saga(&saga).step(Alone(Arc::default()));
    let sagas = coordinator.start(Arc::new(MemoryStore::new())).await.expect("it starts");
    let list: Vec<u64> = (0..10_000).collect();
    let output = sagas.execute(&saga, "1", &list).await.expect("it completes");
    assert_eq!(output, list);
}

#[tokio::test]
async fn a_waiting_saga_continues_at_its_time_after_a_restart_and_a_clock_that_jumps_fires_once() {
    let shop = Shop::new();
    let clock = Arc::new(ManualClock::at("2026-01-31T12:00:00Z".parse().expect("a time")));
    let hour = Duration::from_secs(3600);
    let saga = shop::fulfilment().with_deadline(hour);
    let start = async || {
        let clock = Arc::clone(&clock);
        let coordinator = shop.coordinator().clock(clock).test_hook(|point| {
            let transient = es_saga::StepFailure::new(es_saga::ErrorClass::Transient, "busy");
            let is_call = point.node == "pay" && point.place == HookPlace::BeforeCall;
            if is_call { HookAction::Fail(transient) } else { HookAction::Continue }
        });
        coordinator.start(Arc::clone(&shop.store)).await.expect("it starts")
    };
    let sagas = start().await;
    let id = sagas.create(&saga, "1", &order(2)).await.expect("it is created");
    let failures = async |count: usize| {
        let reached = async {
            while shop.events(&id).await.iter().filter(|name| *name == "saga-step-failed").count() < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("an attempt fails");
    };
    failures(1).await;
    assert!(sagas.shutdown(PATIENCE).await);
    // The clock jumps over the retry and over the deadline.
    clock.advance(2 * hour);
    let sagas = start().await;
    let state = tokio::time::timeout(PATIENCE, sagas.wait(&id)).await.expect("it ends").expect("it loads");
    assert_eq!((state.phase(), state.reason()), (Phase::Compensated, Some("the deadline has passed")));
    let events = shop.events(&id).await;
    assert_eq!(events.iter().filter(|name| *name == "saga-compensating").count(), 1);
    assert_eq!(events.iter().filter(|name| *name == "saga-step-failed").count(), 1, "the retry is not made");
    assert_eq!(id, SagaId::new("fulfilment", 1).expect("an id"));
}
