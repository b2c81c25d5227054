//! Crashes: the coordinator or a participant stops at every point, messages are lost and repeated, and a second
//! coordinator takes over. The outcome is atomic in each case, nobody stays locked, and the sum of the money is
//! constant.
//!
//! `ES_SEEDS=2000 cargo test -p es-transaction --test crashes` runs more seeds, and `ES_SEED=7` one.
#![allow(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod bank;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bank::*;
use es_core::EventStore;
use es_core::model::{Clock, Entropy, SystemClock, Timestamp, TransactionId};
use es_core::store::LogRead;
use es_core::store::memory::MemoryStore;
use es_core::store::transaction::TransactionEvent;
use es_core::testing::{Fault, FaultyStore, SeededEntropy};
use es_transaction::{
    Coordinator, HookAction, HookPlace, HookPoint, Outcome, Protocol, RunningCoordinator, TransactionError,
};

/// The seeds of one run of the tests.
const SEEDS: u64 = 150;
const ACCOUNTS: [u64; 2] = [1, 2];
const CENTS: u64 = 100;

/// A clock that is ahead of the system's, so that a lease of an earlier coordinator has expired for it.
#[derive(Debug)]
struct Ahead(SystemClock, Duration);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        self.0.now() + self.1
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed() + self.1
    }
}

/// The stores of a coordinator and of three banks, which survive crashes.
struct World {
    head: Arc<dyn EventStore>,
    banks: Vec<Bank>,
    /// The number of coordinators that have started.
    starts: AtomicU64,
}

impl World {
    async fn new(wrap: impl Fn(Arc<dyn EventStore>) -> Arc<dyn EventStore>) -> Self {
        let mut banks = Vec::new();
        for name in ["a", "b", "c"] {
            let mut bank = Bank::on(name, wrap(Arc::new(MemoryStore::new())));
            for id in ACCOUNTS {
                bank = bank.with_account(id, CENTS).await;
            }
            banks.push(bank);
        }
        Self { head: Arc::new(MemoryStore::new()), banks, starts: AtomicU64::new(0) }
    }

    /// Returns a coordinator that takes over from all earlier ones.
    fn coordinator(&self) -> Coordinator {
        let start = self.starts.fetch_add(1, Ordering::SeqCst);
        let clock = Ahead(SystemClock::new(), Duration::from_secs(3600) * u32::try_from(start).unwrap());
        coordinator(&self.head, &self.banks.iter().collect::<Vec<_>>()).with_clock(Arc::new(clock))
    }

    /// Moves money from the first bank to both others.
    async fn transfer(&self, running: &RunningCoordinator, first: usize, cents: u64, protocol: Protocol) -> Told {
        let bank = |offset: usize| &self.banks[(first + offset) % self.banks.len()].participant;
        let mut id = None;
        let result = running
            .begin()
            .protocol(protocol)
            .run(async |tx| {
                id = Some(tx.id().clone());
                tx.enlist_participant(bank(0), &withdraw(1, 2 * cents))?;
                tx.enlist_participant(bank(1), &deposit(2, cents))?;
                tx.enlist_participant(bank(2), &deposit(2, cents))
            })
            .await;
        let outcome = match result {
            Ok(_) => Some(Outcome::Committed),
            Err(TransactionError::Aborted { .. }) => Some(Outcome::Aborted),
            Err(TransactionError::Unknown { .. } | TransactionError::Stopped) => None,
            Err(other) => panic!("{other}"),
        };
        (id, outcome)
    }

    /// Starts a coordinator without faults, and checks the stores when all transactions have ended.
    async fn heal_and_check(&self, told: &[Told]) -> BTreeMap<TransactionId, Outcome> {
        let running = self.coordinator().start().await.unwrap();
        // A coordinator that was replaced may still run. After the first search, the participants refuse it.
        tokio::time::sleep(Duration::from_millis(500)).await;
        self.wait_until_ended(&running).await;
        assert!(running.shutdown(Duration::from_secs(60)).await, "the coordinator ends");
        let mut outcomes = BTreeMap::<TransactionId, BTreeSet<Outcome>>::new();
        let mut sum = 0;
        for bank in &self.banks {
            for id in ACCOUNTS {
                assert!(!bank.is_locked(id).await);
                sum += bank.cents(id).await;
            }
            let events = bank.store.read_log(LogRead::all()).await.unwrap().collect().await.unwrap();
            for event in events {
                let read = TransactionEvent::read(&event.stream, &event.data.event_type, &event.data.payload);
                let (transaction, outcome) = match read.unwrap() {
                    Some(TransactionEvent::Committed { transaction, .. }) => (transaction, Outcome::Committed),
                    Some(TransactionEvent::Aborted { transaction, .. }) => (transaction, Outcome::Aborted),
                    _ => continue,
                };
                outcomes.entry(transaction).or_default().insert(outcome);
            }
        }
        assert_eq!(sum, CENTS * 2 * 3, "the sum of the money is constant");
        let mut single = BTreeMap::new();
        for (transaction, found) in outcomes {
            assert_eq!(found.len(), 1, "{transaction} is atomic");
            single.extend(found.into_iter().map(|outcome| (transaction.clone(), outcome)));
        }
        for (transaction, told) in told {
            if let (Some(transaction), Some(told)) = (transaction, told) {
                let found = single.get(transaction).copied().unwrap_or(Outcome::Aborted);
                assert_eq!(found, *told, "what the caller of {transaction} was told");
            }
        }
        single
    }

    async fn wait_until_ended(&self, running: &RunningCoordinator) {
        for _ in 0..5_000 {
            let mut is_ended = running.unfinished(None, 1).await.unwrap().is_empty();
            for bank in &self.banks {
                is_ended &= bank.participant.prepared(1).await.is_ok_and(|prepared| prepared.is_empty());
            }
            if is_ended {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("transactions are unfinished: {:?}", running.unfinished(None, 10).await);
    }
}

/// A transaction, if it began, and what its caller was told; `None` if the outcome was unknown.
type Told = (Option<TransactionId>, Option<Outcome>);

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(test);
}

/// Stops the coordinator at its point with this number, restarts it, and returns the number of points that it reached.
async fn crash_at(number: usize, protocol: Protocol) -> (usize, Option<Outcome>) {
    let world = World::new(|store| store).await;
    let reached = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&reached);
    let hook = move |_: HookPoint<'_>| match counted.fetch_add(1, Ordering::SeqCst) {
        point if point == number => HookAction::Crash,
        _ => HookAction::Continue,
    };
    let running = world.coordinator().test_hook(hook).start().await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(5), world.transfer(&running, 0, 10, protocol)).await;
    let told = told.unwrap_or((None, None));
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(running);
    let outcomes = world.heal_and_check(std::slice::from_ref(&told)).await;
    (reached.load(Ordering::SeqCst), outcomes.into_values().next())
}

/// R36: the coordinator crashes at each point, before and after each call and each record.
#[test]
fn the_coordinator_crashes_at_every_point() {
    for protocol in [Protocol::TwoPhase, Protocol::ThreePhase] {
        let (mut number, mut committed, mut aborted) = (0, 0, 0);
        loop {
            let mut reached = 0;
            block_on(async {
                let (points, outcome) = crash_at(number, protocol).await;
                reached = points;
                match outcome {
                    Some(Outcome::Committed) => committed += 1,
                    Some(Outcome::Aborted) => aborted += 1,
                    None => {}
                }
            });
            if reached <= number {
                break;
            }
            number += 1;
        }
        println!("{protocol:?}: {number} points, {committed} committed, {aborted} aborted");
        assert!(number >= 16 && committed >= 5 && aborted >= 5, "{number} points, {committed}, {aborted}");
    }
}

/// R36: a store of a participant fails at each of its commits, before or after the commit is written, or takes very
/// long.
#[test]
fn a_participant_fails_at_every_commit() {
    for protocol in [Protocol::TwoPhase, Protocol::ThreePhase] {
        for fault in [Fault::Refuse, Fault::LoseAcknowledgement, Fault::Hang] {
            let (mut number, mut is_reached) = (0, true);
            while is_reached {
                block_on(async {
                    let stores = Mutex::new(Vec::new());
                    let world = World::new(|store| {
                        let store = FaultyStore::new(store);
                        stores.lock().unwrap().push(store.clone());
                        Arc::new(store)
                    });
                    let world = world.await;
                    let stores = stores.into_inner().unwrap();
                    let before = stores[1].commits();
                    stores[1].at_commit(before + number, fault.clone());
                    let running = world.coordinator().start().await.unwrap();
                    let told = world.transfer(&running, 0, 10, protocol).await;
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    drop(running);
                    world.heal_and_check(&[told]).await;
                    is_reached = stores[1].commits() > before + number;
                });
                number += 1;
            }
            assert!(number >= 3, "{protocol:?}, {fault:?}: {number} commits");
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// Counts what the seeded runs covered.
#[derive(Debug, Default)]
struct Coverage {
    committed: usize,
    aborted: usize,
    unknown: usize,
    crashes: AtomicUsize,
    lost: AtomicUsize,
    repeated: AtomicUsize,
    delayed: AtomicUsize,
    takeovers: usize,
}

/// Two-phase commit with lost, repeated and delayed messages, crashes, and a second coordinator that takes over while
/// the first one still runs (R35).
#[test]
fn transactions_are_atomic_for_every_seed() {
    let seeds = match number("ES_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ES_SEEDS").unwrap_or(SEEDS),
    };
    let count = seeds.end - seeds.start;
    let mut coverage = Coverage::default();
    for seed in seeds {
        println!("seed {seed}");
        block_on(run_seed(seed, &mut coverage));
    }
    println!("{coverage:?}");
    if count >= SEEDS {
        let Coverage { committed, aborted, unknown, crashes, lost, repeated, delayed, takeovers } = coverage;
        let counts = [crashes, lost, repeated, delayed].map(AtomicUsize::into_inner);
        assert!([committed, aborted, unknown, takeovers].into_iter().chain(counts).all(|count| count > 20));
    }
}

async fn run_seed(seed: u64, coverage: &mut Coverage) {
    let entropy = Arc::new(SeededEntropy::new(seed));
    let below = |limit: u64| usize::try_from(entropy.next_u64() % limit).unwrap();
    let world = World::new(|store| store).await;
    let mut told = Vec::new();
    let mut former = Vec::new();
    for _ in 0..3 {
        let faults = Arc::new(Faults::new(entropy.next_u64()));
        let hook = {
            let faults = Arc::clone(&faults);
            move |point: HookPoint<'_>| faults.action(point)
        };
        let running = world.coordinator().with_entropy(Arc::clone(&entropy) as _).test_hook(hook).start().await;
        let running = running.unwrap();
        let transfers = (0..2).map(|_| {
            let (first, cents) = (below(3), u64::try_from(below(40)).unwrap() + 1);
            let transfer = world.transfer(&running, first, cents, Protocol::TwoPhase);
            tokio::time::timeout(Duration::from_secs(30), transfer)
        });
        let takeover = below(3) == 0;
        let transfers = futures_util::future::join_all(transfers);
        if takeover {
            // The next coordinator starts while this one is in the middle of its transactions.
            coverage.takeovers += 1;
            let wait = Duration::from_millis(entropy.next_u64() % 40);
            let results = tokio::time::timeout(wait, transfers).await.unwrap_or_default();
            told.extend(results.into_iter().flatten());
            former.push(running);
        } else {
            told.extend(transfers.await.into_iter().flatten());
            tokio::time::sleep(Duration::from_millis(entropy.next_u64() % 50)).await;
            drop(running);
        }
        faults.count(coverage);
    }
    world.heal_and_check(&told).await;
    for (_, outcome) in &told {
        match outcome {
            Some(Outcome::Committed) => coverage.committed += 1,
            Some(Outcome::Aborted) => coverage.aborted += 1,
            None => coverage.unknown += 1,
        }
    }
}

/// Faults at random points.
struct Faults {
    entropy: SeededEntropy,
    crashes: AtomicUsize,
    lost: AtomicUsize,
    repeated: AtomicUsize,
    delayed: AtomicUsize,
}

impl Faults {
    fn new(seed: u64) -> Self {
        let [crashes, lost, repeated, delayed] = [0; 4].map(AtomicUsize::new);
        Self { entropy: SeededEntropy::new(seed), crashes, lost, repeated, delayed }
    }

    fn action(&self, point: HookPoint<'_>) -> HookAction {
        let is_call = matches!(point.place, HookPlace::BeforeCall { .. } | HookPlace::AfterCall { .. });
        // Longer than the time-out of a call in one of three cases.
        let delay = Duration::from_millis(self.entropy.next_u64() % 1_500);
        let (counter, action) = match self.entropy.next_u64() % 100 {
            0..2 => (&self.crashes, HookAction::Crash),
            2..8 if is_call => (&self.lost, HookAction::Lose),
            8..16 if is_call => (&self.repeated, HookAction::Repeat),
            16..24 if is_call => (&self.delayed, HookAction::Delay(delay)),
            _ => return HookAction::Continue,
        };
        counter.fetch_add(1, Ordering::SeqCst);
        action
    }

    fn count(&self, coverage: &Coverage) {
        for (from, to) in [
            (&self.crashes, &coverage.crashes),
            (&self.lost, &coverage.lost),
            (&self.repeated, &coverage.repeated),
            (&self.delayed, &coverage.delayed),
        ] {
            to.fetch_add(from.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    }
}
