//! Reactors on every store: effects that come at least once, in order, under one key; what fails is parked.

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
use es_tests::supervised::PATIENCE;
use tokio::sync::{Notify, Semaphore};

type Store = Arc<dyn EventStore>;

const SOON: RetryPolicy =
    RetryPolicy { attempts: 3, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(2) };

fn at(number: u64) -> Position {
    Position::new(number).expect("not zero")
}

async fn deposit(store: &Store, account: u64, cents: u64) -> Position {
    let accounts = Repository::<Account>::new(Arc::clone(store));
    let deposited = accounts.execute(&account.to_string(), Deposit { cents }).await.expect("deposited");
    deposited.position.expect("it has an event")
}

/// One effect.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Effect {
    position: Position,
    stream: String,
    key: DeliveryKey,
    attempt: u32,
    is_done: bool,
}

/// What a test wants of the reactor.
#[derive(Debug, Default)]
struct Desk {
    effects: Mutex<Vec<Effect>>,
    /// Deposits of this many cents fail.
    broken: AtomicBool,
    begun: Notify,
    gate: Option<Semaphore>,
}

impl Desk {
    fn effects(&self) -> Vec<Effect> {
        self.effects.lock().expect("whole").clone()
    }

    fn note(&self, context: &ReactorContext, is_done: bool) {
        let stream = context.event().stream.as_str().to_owned();
        let (position, key, attempt) = (context.position(), context.key(), context.attempt());
        self.effects.lock().expect("whole").push(Effect { position, stream, key, attempt, is_done });
    }
}

/// Notes each event. 13 cents fail while the desk is broken, 14 panic then, 15 never end, 16 can never succeed.
struct Notes(Arc<Desk>);

#[async_trait]
impl Reactor for Notes {
    type Source = Account;
    const NAME: &'static str = "notes";

    async fn react(&self, event: &AccountEvent, context: &ReactorContext) -> Result<(), ReactError> {
        let is_broken = self.0.broken.load(Ordering::SeqCst);
        self.0.begun.notify_one();
        if let Some(gate) = &self.0.gate {
            gate.acquire().await?.forget();
        }
        let failed = match event {
            AccountEvent::Deposited { cents } if is_broken => *cents,
            _ => 0,
        };
        self.0.note(context, !(13..=16).contains(&failed));
        match failed {
            13 => Err(ReactError::retry("13 is broken")),
            14 => panic!("14 panics"),
            15 => std::future::pending().await,
            16 => Err(ReactError::park("16 cannot be")),
            _ => Ok(()),
        }
    }
}

fn notes(desk: &Arc<Desk>) -> ReactorRunner<Notes> {
    ReactorRunner::new(Notes(Arc::clone(desk))).start_at(StartAt::Beginning).retry(SOON)
}

/// The positions of the effects that were made, as they were made.
fn done(effects: &[Effect]) -> Vec<u64> {
    effects.iter().filter(|effect| effect.is_done).map(|effect| effect.position.get()).collect()
}

#[test]
fn an_effect_has_one_key_and_a_started_reactor_never_goes_back() {
    on_every_store(async |store| {
        let desk = Arc::new(Desk::default());
        for cents in [1, 2, 3] {
            deposit(&store, 1, cents).await;
        }
        let running = notes(&desk).start(Arc::clone(&store)).await.expect("started");
        running.wait_for(at(3), PATIENCE).await.expect("it runs");
        running.shutdown(PATIENCE).await.expect("closed");
        assert_eq!(done(&desk.effects()), [1, 2, 3]);
        let log = store.read_log(LogRead::all()).await.expect("a log").collect().await.expect("events");
        for (effect, event) in desk.effects().iter().zip(&log) {
            assert_eq!((effect.key, effect.attempt), (DeliveryKey::of("notes", event.data.id, 0), 1));
        }
        deposit(&store, 1, 4).await;
        let running = notes(&desk).start_at(StartAt::Beginning).start(Arc::clone(&store)).await.expect("started");
        running.wait_for(at(4), PATIENCE).await.expect("it runs");
        assert_eq!(done(&desk.effects()), [1, 2, 3, 4], "the second start goes on");
    });
}

#[test]
fn a_failing_key_is_parked_with_its_later_events_and_others_go_on() {
    on_every_store(async |store| {
        for cents in [13, 14, 15, 16] {
            let desk = Arc::new(Desk::default());
            desk.broken.store(true, Ordering::SeqCst);
            let head = store.head().await.expect("a head").map_or(0, Position::get);
            let account = cents * 100;
            deposit(&store, account, cents).await;
            deposit(&store, account + 1, 1).await;
            deposit(&store, account, 1).await;
            let runner = notes(&desk).timeout(Duration::from_millis(30));
            let running = runner.start(Arc::clone(&store)).await.expect("started");
            running.wait_for(at(head + 3), PATIENCE).await.expect("what is parked holds nothing up");
            let attempts = desk.effects().iter().filter(|effect| effect.position == at(head + 1)).count();
            assert_eq!(attempts, if cents == 16 { 1 } else { 3 }, "{cents}");
            assert_eq!(done(&desk.effects()), [head + 2], "{cents}");
            let parked: Vec<_> = running.parked().iter().map(|parked| parked.position.get()).collect();
            assert_eq!(parked, [head + 1, head + 3], "{cents}");
            let reason = running.parked()[0].reason.clone();
            let expected = ["13 is broken", "panic", "did not return within 30ms", "16 cannot be"];
            assert!(reason.contains(expected[usize::try_from(cents - 13).expect("small")]), "{reason}");

            desk.broken.store(false, Ordering::SeqCst);
            assert_eq!(running.retry_parked_key(&format!("account-{account}")).await.expect("it runs"), 2);
            while running.status().parked > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            assert_eq!(done(&desk.effects()), [head + 2, head + 1, head + 3], "{cents}: in order");
            let keys: BTreeSet<_> = desk.effects().iter().map(|effect| effect.key).collect();
            assert_eq!(keys.len(), 3, "{cents}: each time under the same key");
            running.shutdown(PATIENCE).await.expect("closed");
        }
    });
}

#[test]
fn closing_finishes_what_is_in_hand_and_starts_nothing_new() {
    on_every_store(async |store| {
        for account in 0..6 {
            deposit(&store, account, 1).await;
        }
        let desk = Arc::new(Desk { gate: Some(Semaphore::new(0)), ..Desk::default() });
        let running = notes(&desk).concurrency(2).start(Arc::clone(&store)).await.expect("started");
        while running.status().delivered < 2 {
            desk.begun.notified().await;
        }
        let closing = tokio::spawn(running.shutdown(PATIENCE));
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!closing.is_finished(), "it waits for what is in hand");
        desk.gate.as_ref().expect("a gate").add_permits(100);
        closing.await.expect("closed").expect("closed");
        assert_eq!(desk.effects().len(), 2);
        let running = notes(&desk).start(Arc::clone(&store)).await.expect("started");
        running.wait_for(at(6), PATIENCE).await.expect("it runs");
        assert_eq!(desk.effects().len(), 6, "and what was in hand was noted as done");
    });
}

#[test]
fn as_many_are_in_hand_as_are_allowed() {
    on_every_store(async |store| {
        for account in 0..10 {
            deposit(&store, account, 1).await;
        }
        let desk = Arc::new(Desk { gate: Some(Semaphore::new(0)), ..Desk::default() });
        let running = notes(&desk).concurrency(3).start(Arc::clone(&store)).await.expect("started");
        while running.status().delivered < 3 {
            desk.begun.notified().await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(running.status().delivered, 3);
        desk.gate.as_ref().expect("a gate").add_permits(100);
        running.wait_for(at(10), PATIENCE).await.expect("it runs");
    });
}

/// For each deposit, opens an account of the same number, once.
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
fn a_command_in_a_reaction_names_the_event_as_its_cause() {
    on_every_store(async |store| {
        let position = deposit(&store, 1, 5).await;
        let opens = ReactorRunner::new(Opens(Repository::new(Arc::clone(&store)))).start_at(StartAt::Beginning);
        let running = opens.start(Arc::clone(&store)).await.expect("started");
        running.wait_for(position, PATIENCE).await.expect("it runs");
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
fn an_event_that_this_code_cannot_read_is_parked_at_once() {
    on_every_store(async |store| {
        let stream = StreamId::new("account-1").expect("a name");
        let broken = NewEvent::json(EventType::new("account-opened").expect("a name"), "{}");
        store.commit(Commit::to(&stream, ExpectedRevision::Any, [broken])).await.expect("appended");
        let desk = Arc::new(Desk::default());
        let running = notes(&desk).start(Arc::clone(&store)).await.expect("started");
        running.wait_for(at(1), PATIENCE).await.expect("it runs");
        let parked = running.parked();
        assert_eq!((parked.len(), parked[0].failures, desk.effects().len()), (1, 1, 0));
        assert!(parked[0].reason.contains("owner"), "{}", parked[0].reason);
        assert!(running.skip_parked(at(1), "written by a test").await.expect("it runs"));
        assert_eq!(running.skipped(None, 9).await.expect("read").len(), 1);
    });
}

#[test]
fn a_second_start_fences_the_first_off_and_pausing_starts_nothing() {
    on_every_store(async |store| {
        let desk = Arc::new(Desk::default());
        let first = notes(&desk).start(Arc::clone(&store)).await.expect("started");
        let second = notes(&desk).start(Arc::clone(&store)).await.expect("started");
        assert!(matches!(first.ended().await, GroupError::Fenced { .. }));
        second.pause().await.expect("it runs");
        deposit(&store, 1, 1).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(desk.effects(), []);
        second.resume().await.expect("it runs");
        second.wait_for(at(1), PATIENCE).await.expect("it runs");
        assert_eq!(done(&desk.effects()), [1]);
    });
}

/// An effect that can be cut off on its way: it is noted when it begins, and once more when it is done.
struct Slow {
    desk: Arc<Desk>,
    random: Mutex<Random>,
}

#[async_trait]
impl Reactor for Slow {
    type Source = Account;
    const NAME: &'static str = "slow";

    async fn react(&self, _: &AccountEvent, context: &ReactorContext) -> Result<(), ReactError> {
        self.desk.note(context, false);
        let (pause, fails) = {
            let mut random = self.random.lock().expect("whole");
            (random.below(400), random.once_in(12))
        };
        tokio::time::sleep(Duration::from_micros(pause)).await;
        if fails {
            return Err(ReactError::retry("not now"));
        }
        self.desk.note(context, true);
        Ok(())
    }
}

/// A reactor that is dropped at any moment: every effect is made, those of a stream in order, each under one key, and none
/// again that a checkpoint has passed.
#[test]
fn a_reactor_that_is_dropped_at_any_moment_makes_every_effect() {
    let seed = seed();
    let rounds = number("ES_CRASH_CYCLES", 50).min(500);
    on_every_store(async |store| {
        for number in 0..150 {
            deposit(&store, number % 5, 1).await;
        }
        let mut random = Random::new(seed);
        let mut passed = None;
        let mut played = Vec::new();
        for round in 0..=rounds {
            // NOTE: one of its own for each round: a task that was cut off ends a moment later.
            let desk = Arc::new(Desk::default());
            played.push((Arc::clone(&desk), passed));
            let slow = Slow { desk, random: Mutex::new(Random::new(random.next_u64())) };
            let runner = ReactorRunner::new(slow).start_at(StartAt::Beginning).concurrency(4).capacity(16);
            let runner = runner.retry(RetryPolicy { attempts: usize::MAX, ..SOON });
            let running = runner.start(Arc::clone(&store)).await.expect("started");
            if round == rounds {
                let end = tokio::time::timeout(Duration::from_secs(120), running.wait_for(at(150), PATIENCE));
                end.await.unwrap_or_else(|_| panic!("ES_SEED={seed}: {:?}", running.status())).expect("it runs");
                running.shutdown(PATIENCE).await.expect("closed");
            } else {
                tokio::time::sleep(Duration::from_micros(random.below(15_000))).await;
                let next = |passed: Option<Position>| passed.map_or(Position::FIRST, Position::next);
                while let Ok(Ok(())) =
                    tokio::time::timeout(Duration::ZERO, running.wait_for(next(passed), PATIENCE)).await
                {
                    passed = Some(next(passed));
                }
            }
        }
        let log = store.read_log(LogRead::all()).await.expect("a log").collect().await.expect("events");
        let mut keys: BTreeMap<Position, BTreeSet<DeliveryKey>> = BTreeMap::new();
        let mut made = BTreeSet::new();
        for (desk, passed) in played {
            let mut last: BTreeMap<String, Position> = BTreeMap::new();
            for effect in desk.effects() {
                assert!(Some(effect.position) > passed, "ES_SEED={seed}: {effect:?} came again behind {passed:?}");
                let before = last.insert(effect.stream.clone(), effect.position);
                assert!(before <= Some(effect.position), "ES_SEED={seed}: {effect:?} came behind {before:?}");
                keys.entry(effect.position).or_default().insert(effect.key);
                made.extend(effect.is_done.then_some(effect.position));
            }
        }
        assert_eq!((made.len(), keys.len()), (log.len(), log.len()), "ES_SEED={seed}");
        assert!(keys.values().all(|keys| keys.len() == 1), "ES_SEED={seed}: an effect has several keys");
        assert!(passed.is_some(), "ES_SEED={seed}: no round got anywhere");
    });
}
