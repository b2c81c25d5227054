//! Reactors on every store: each effect is executed at least once, in order, with one delivery key; failures are
//! parked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use es_core::aggregate::RetryPolicy;
use es_core::consumer::reactor::{
    DeliveryKey, GroupError, ReactError, Reactor, ReactorContext, ReactorRunner, StartAt,
};
use es_core::model::Context;
use es_core::prelude::*;
use es_core::store::Query;
use es_core::{CommandId, Commit, EventType, ExpectedRevision, LogRead, NewEvent, StreamId, StreamRead};
use es_tests::account::{Account, AccountEvent, Deposit, Open};
use es_tests::crash::{Random, number, seed};
use es_tests::stores::on_every_store;
use es_tests::supervised::TIMEOUT;
use tokio::sync::{Notify, Semaphore};

type Store = Arc<dyn EventStore>;

const FAST: RetryPolicy =
    RetryPolicy { attempts: 3, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(2) };

fn at(number: u64) -> Position {
    Position::new(number).expect("not zero")
}

async fn deposit(store: &Store, account: u64, cents: u64) -> Position {
    let accounts = Repository::<Account>::new(Arc::clone(store));
    let deposited = accounts.execute(&account.to_string(), Deposit { cents }).await.expect("deposited");
    deposited.position.expect("the deposit has an event")
}

/// A recorded effect.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Effect {
    position: Position,
    stream: String,
    key: DeliveryKey,
    attempt: u32,
    is_done: bool,
}

/// The effects of the reactor, and its faults.
#[derive(Debug, Default)]
struct Recorder {
    effects: Mutex<Vec<Effect>>,
    /// Whether deposits of 13 to 16 cents fail.
    fails: AtomicBool,
    started: Notify,
    /// If set, each reaction waits for a permit.
    gate: Option<Semaphore>,
}

impl Recorder {
    fn effects(&self) -> Vec<Effect> {
        self.effects.lock().expect("not poisoned").clone()
    }

    fn record(&self, context: &ReactorContext, is_done: bool) {
        let stream = context.event().stream.as_str().to_owned();
        let (position, key, attempt) = (context.position(), context.key(), context.attempt());
        self.effects.lock().expect("not poisoned").push(Effect { position, stream, key, attempt, is_done });
    }
}

/// Records each event. If `fails` is set, a deposit of 13 cents fails, 14 panics, 15 hangs, and 16 is parked
/// immediately.
struct Notes(Arc<Recorder>);

#[async_trait]
impl Reactor for Notes {
    type Source = Account;
    const NAME: &'static str = "notes";

    async fn react(&self, event: &AccountEvent, context: &ReactorContext) -> Result<(), ReactError> {
        let fails = self.0.fails.load(Ordering::SeqCst);
        self.0.started.notify_one();
        if let Some(gate) = &self.0.gate {
            gate.acquire().await?.forget();
        }
        let fault = match event {
            AccountEvent::Deposited { cents } if fails => *cents,
            _ => 0,
        };
        self.0.record(context, !(13..=16).contains(&fault));
        match fault {
            13 => Err(ReactError::retry("injected error")),
            14 => panic!("injected panic"),
            15 => std::future::pending().await,
            16 => Err(ReactError::park("injected permanent error")),
            _ => Ok(()),
        }
    }
}

fn notes(recorder: &Arc<Recorder>) -> ReactorRunner<Notes> {
    ReactorRunner::new(Notes(Arc::clone(recorder))).start_at(StartAt::Beginning).retry(FAST)
}

/// Returns the positions of the completed effects in order.
fn done(effects: &[Effect]) -> Vec<u64> {
    effects.iter().filter(|effect| effect.is_done).map(|effect| effect.position.get()).collect()
}

#[test]
fn an_effect_has_one_delivery_key_and_a_restarted_reactor_continues_at_its_checkpoint() {
    on_every_store(async |store| {
        let recorder = Arc::new(Recorder::default());
        for cents in [1, 2, 3] {
            deposit(&store, 1, cents).await;
        }
        let running = notes(&recorder).start(Arc::clone(&store)).await.expect("started");
        running.wait_for(at(3), TIMEOUT).await.expect("the reactor runs");
        running.shutdown(TIMEOUT).await.expect("closed");
        assert_eq!(done(&recorder.effects()), [1, 2, 3]);
        let log = store.read_log(LogRead::all()).await.expect("a log").collect().await.expect("events");
        for (effect, event) in recorder.effects().iter().zip(&log) {
            assert_eq!((effect.key, effect.attempt), (DeliveryKey::of("notes", event.data.id, 0), 1));
        }
        deposit(&store, 1, 4).await;
        let running = notes(&recorder).start_at(StartAt::Beginning).start(Arc::clone(&store)).await.expect("started");
        running.wait_for(at(4), TIMEOUT).await.expect("the reactor runs");
        assert_eq!(done(&recorder.effects()), [1, 2, 3, 4], "the second start continues");
    });
}

#[test]
fn an_event_that_is_retried_delays_no_other_key() {
    on_every_store(async |store| {
        let recorder = Arc::new(Recorder::default());
        recorder.fails.store(true, Ordering::SeqCst);
        deposit(&store, 1, 13).await;
        deposit(&store, 2, 1).await;
        deposit(&store, 1, 1).await;
        deposit(&store, 3, 1).await;
        let hours = RetryPolicy { attempts: 5, first_pause: TIMEOUT * 100, longest_pause: TIMEOUT * 100 };
        let running = notes(&recorder).retry(hours).start(Arc::clone(&store)).await.expect("started");
        let others = async {
            while done(&recorder.effects()) != [2, 4] {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(TIMEOUT, others).await.expect("the other keys continue");
        assert!(running.parked().is_empty(), "the event is retried");
        running.shutdown(TIMEOUT).await.expect("closed");
    });
}

#[test]
fn a_failing_event_parks_only_its_key_with_later_events() {
    on_every_store(async |store| {
        for cents in [13, 14, 15, 16] {
            let recorder = Arc::new(Recorder::default());
            recorder.fails.store(true, Ordering::SeqCst);
            let head = store.head().await.expect("a head").map_or(0, Position::get);
            let account = cents * 100;
            deposit(&store, account, cents).await;
            deposit(&store, account + 1, 1).await;
            deposit(&store, account, 1).await;
            let runner = notes(&recorder).timeout(Duration::from_millis(30));
            let running = runner.start(Arc::clone(&store)).await.expect("started");
            running.wait_for(at(head + 3), TIMEOUT).await.expect("parked events do not block the checkpoint");
            let attempts = recorder.effects().iter().filter(|effect| effect.position == at(head + 1)).count();
            assert_eq!(attempts, if cents == 16 { 1 } else { 3 }, "{cents}");
            assert_eq!(done(&recorder.effects()), [head + 2], "{cents}");
            let parked: Vec<_> = running.parked().iter().map(|parked| parked.position.get()).collect();
            assert_eq!(parked, [head + 1, head + 3], "{cents}");
            let reason = running.parked()[0].reason.clone();
            let expected =
                ["injected error", "injected panic", "did not return within 30ms", "injected permanent error"];
            assert!(reason.contains(expected[usize::try_from(cents - 13).expect("small")]), "{reason}");

            recorder.fails.store(false, Ordering::SeqCst);
            assert_eq!(running.retry_parked_key(&format!("account-{account}")).await.expect("the reactor runs"), 2);
            while running.status().parked > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            assert_eq!(
                done(&recorder.effects()),
                [head + 2, head + 1, head + 3],
                "{cents}: events of a key are in order"
            );
            let keys: BTreeSet<_> = recorder.effects().iter().map(|effect| effect.key).collect();
            assert_eq!(keys.len(), 3, "{cents}: each attempt has the same delivery key");
            running.shutdown(TIMEOUT).await.expect("closed");
        }
    });
}

#[test]
fn a_shutdown_completes_running_reactions_and_starts_no_new_ones() {
    on_every_store(async |store| {
        for account in 0..6 {
            deposit(&store, account, 1).await;
        }
        let recorder = Arc::new(Recorder { gate: Some(Semaphore::new(0)), ..Recorder::default() });
        let running = notes(&recorder).concurrency(2).start(Arc::clone(&store)).await.expect("started");
        while running.status().delivered < 2 {
            recorder.started.notified().await;
        }
        let closing = tokio::spawn(running.shutdown(TIMEOUT));
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!closing.is_finished(), "the shutdown waits for running reactions");
        recorder.gate.as_ref().expect("a gate").add_permits(100);
        closing.await.expect("closed").expect("closed");
        assert_eq!(recorder.effects().len(), 2);
        let running = notes(&recorder).start(Arc::clone(&store)).await.expect("started");
        running.wait_for(at(6), TIMEOUT).await.expect("the reactor runs");
        assert_eq!(recorder.effects().len(), 6, "the completed reactions are not repeated");
    });
}

#[test]
fn the_number_of_concurrent_reactions_is_limited() {
    on_every_store(async |store| {
        for account in 0..10 {
            deposit(&store, account, 1).await;
        }
        let recorder = Arc::new(Recorder { gate: Some(Semaphore::new(0)), ..Recorder::default() });
        let running = notes(&recorder).concurrency(3).start(Arc::clone(&store)).await.expect("started");
        while running.status().delivered < 3 {
            recorder.started.notified().await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(running.status().delivered, 3);
        recorder.gate.as_ref().expect("a gate").add_permits(100);
        running.wait_for(at(10), TIMEOUT).await.expect("the reactor runs");
    });
}

/// Opens an account for each deposit, once.
struct Opens(Repository<Account>);

#[async_trait]
impl Reactor for Opens {
    type Source = Account;
    const NAME: &'static str = "opens";

    fn query(&self) -> Query {
        LogRead::event_type(EventType::new("money-deposited").expect("a name")).query
    }

    async fn react(&self, _: &AccountEvent, context: &ReactorContext) -> Result<(), ReactError> {
        assert_eq!(Context::current(), Some(context.caused_by_event()));
        let owner = context.event().stream.as_str().to_owned();
        let id = CommandId::new(context.key().to_string())?;
        let opened = self.0.execute(&format!("of-{owner}"), Open { owner }).with_id(id).await;
        opened.map_err(|error| ReactError::retry(error.to_string()))?;
        Ok(())
    }
}

#[test]
fn a_command_in_a_reaction_has_the_event_as_its_cause() {
    on_every_store(async |store| {
        let position = deposit(&store, 1, 5).await;
        let opens = ReactorRunner::new(Opens(Repository::new(Arc::clone(&store)))).start_at(StartAt::Beginning);
        let running = opens.start(Arc::clone(&store)).await.expect("started");
        running.wait_for(position, TIMEOUT).await.expect("the reactor runs");
        let log = store.read_log(LogRead::all()).await.expect("a log").collect().await.expect("events");
        let [cause, effect] = log.as_slice() else { panic!("expected two events, found {}", log.len()) };
        assert_eq!(effect.data.causation_id, Some(cause.data.id));
        assert_eq!(effect.data.correlation_id, cause.data.correlation_id);
        let opened = StreamId::new("account-of-account-1").expect("a name");
        let read = store.read_stream(StreamRead::new(opened)).await.expect("a stream").collect().await.expect("events");
        assert_eq!(read.len(), 1);
    });
}

#[test]
fn an_event_that_cannot_be_decoded_is_parked_without_retries() {
    on_every_store(async |store| {
        let stream = StreamId::new("account-1").expect("a name");
        let broken = NewEvent::json(EventType::new("account-opened").expect("a name"), "{}");
        store.commit(Commit::to(&stream, ExpectedRevision::Any, [broken])).await.expect("appended");
        let recorder = Arc::new(Recorder::default());
        let running = notes(&recorder).start(Arc::clone(&store)).await.expect("started");
        running.wait_for(at(1), TIMEOUT).await.expect("the reactor runs");
        let parked = running.parked();
        assert_eq!((parked.len(), parked[0].failures, recorder.effects().len()), (1, 1, 0));
        assert!(parked[0].reason.contains("owner"), "{}", parked[0].reason);
        assert!(running.skip_parked(at(1), "written by a test").await.expect("the reactor runs"));
        assert_eq!(running.skipped(None, 9).await.expect("read").len(), 1);
    });
}

#[test]
fn a_second_start_fences_the_first_and_a_paused_reactor_starts_no_reaction() {
    on_every_store(async |store| {
        let recorder = Arc::new(Recorder::default());
        let first = notes(&recorder).start(Arc::clone(&store)).await.expect("started");
        let second = notes(&recorder).start(Arc::clone(&store)).await.expect("started");
        assert!(matches!(first.ended().await, GroupError::Fenced { .. }));
        second.pause().await.expect("the reactor runs");
        deposit(&store, 1, 1).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(recorder.effects(), []);
        second.resume().await.expect("the reactor runs");
        second.wait_for(at(1), TIMEOUT).await.expect("the reactor runs");
        assert_eq!(done(&recorder.effects()), [1]);
    });
}

/// A reactor whose effects can be interrupted. It records each effect at its start and at its completion.
struct Slow {
    recorder: Arc<Recorder>,
    random: Mutex<Random>,
}

#[async_trait]
impl Reactor for Slow {
    type Source = Account;
    const NAME: &'static str = "slow";

    async fn react(&self, _: &AccountEvent, context: &ReactorContext) -> Result<(), ReactError> {
        self.recorder.record(context, false);
        let (pause, fails) = {
            let mut random = self.random.lock().expect("not poisoned");
            (random.below(400), random.once_in(12))
        };
        tokio::time::sleep(Duration::from_micros(pause)).await;
        if fails {
            return Err(ReactError::retry("not now"));
        }
        self.recorder.record(context, true);
        Ok(())
    }
}

/// The reactor is dropped at random times. Every effect is completed, the effects of a stream are in order, each has
/// one delivery key, and no effect is repeated after the checkpoint has passed it.
#[test]
fn a_reactor_that_is_dropped_at_random_times_completes_every_effect() {
    let seed = seed();
    let rounds = number("ES_CRASH_CYCLES", 50).min(500);
    on_every_store(async |store| {
        for number in 0..150 {
            deposit(&store, number % 5, 1).await;
        }
        let mut random = Random::new(seed);
        let mut passed = None;
        let mut recordings = Vec::new();
        for round in 0..=rounds {
            // A new recorder for each round, because an interrupted task may still run for a moment.
            let recorder = Arc::new(Recorder::default());
            recordings.push((Arc::clone(&recorder), passed));
            let slow = Slow { recorder, random: Mutex::new(Random::new(random.next_u64())) };
            let runner = ReactorRunner::new(slow).start_at(StartAt::Beginning).concurrency(4).capacity(16);
            let runner = runner.retry(RetryPolicy { attempts: usize::MAX, ..FAST });
            let running = runner.start(Arc::clone(&store)).await.expect("started");
            if round == rounds {
                let caught_up = tokio::time::timeout(Duration::from_secs(120), running.wait_for(at(150), TIMEOUT));
                caught_up
                    .await
                    .unwrap_or_else(|_| panic!("ES_SEED={seed}: {:?}", running.status()))
                    .expect("the reactor runs");
                running.shutdown(TIMEOUT).await.expect("closed");
            } else {
                tokio::time::sleep(Duration::from_micros(random.below(15_000))).await;
                let next = |passed: Option<Position>| passed.map_or(Position::FIRST, Position::next);
                while let Ok(Ok(())) =
                    tokio::time::timeout(Duration::ZERO, running.wait_for(next(passed), TIMEOUT)).await
                {
                    passed = Some(next(passed));
                }
            }
        }
        let log = store.read_log(LogRead::all()).await.expect("a log").collect().await.expect("events");
        let mut keys: BTreeMap<Position, BTreeSet<DeliveryKey>> = BTreeMap::new();
        let mut completed = BTreeSet::new();
        for (recorder, passed) in recordings {
            let mut last: BTreeMap<String, Position> = BTreeMap::new();
            for effect in recorder.effects() {
                assert!(
                    Some(effect.position) > passed,
                    "ES_SEED={seed}: {effect:?} was repeated after checkpoint {passed:?}"
                );
                let before = last.insert(effect.stream.clone(), effect.position);
                assert!(
                    before <= Some(effect.position),
                    "ES_SEED={seed}: {effect:?} is out of order, after {before:?}"
                );
                keys.entry(effect.position).or_default().insert(effect.key);
                completed.extend(effect.is_done.then_some(effect.position));
            }
        }
        assert_eq!((completed.len(), keys.len()), (log.len(), log.len()), "ES_SEED={seed}");
        assert!(keys.values().all(|keys| keys.len() == 1), "ES_SEED={seed}: an effect has several delivery keys");
        assert!(passed.is_some(), "ES_SEED={seed}: the checkpoint did not advance in any round");
    });
}
