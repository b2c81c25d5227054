//! A view agrees with its checkpoint after random kills and faults, and in the end with the whole log.
//!
//! Each run derives from one seed: writers without pause; workers that are killed, shut down and duplicated; a store
//! that fails commits and loses acknowledgements; a new number of partitions at each start; rebuilds, resets, pauses
//! and retries; and events that cannot be applied. After each stage, and in the end, the rows are compared with the
//! log.
//!
//! `ES_PROJECTION_RUNS=200` runs the long form; `ES_SEED` repeats the random choices. The times of kills also depend on
//! the machine.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use es_core::aggregate::RetryPolicy;
use es_core::projection::{ProjectionAdmin, ProjectionOptions, RebuildFrom, RunningProjections, Supervisor};
use es_core::store::memory::MemoryStore;
use es_core::testing::{Fault, FaultyStore};
use es_core::{EventStore, Position};
use es_tests::account::AccountEvent;
use es_tests::crash::{Random, number, seed};
use es_tests::ledger::{Ledger, POISON, append, check, read_books};
use es_tests::stores::rocksdb;
use futures::FutureExt;

const TIMEOUT: Duration = Duration::from_secs(120);
const WRITERS: u64 = 3;

/// The number of disturbances in the runs, to check that they occurred.
#[derive(Debug, Default)]
struct Disturbances {
    kills: u64,
    faults: u64,
    actions: u64,
    parked: u64,
    events: u64,
}

fn options(random: &mut Random) -> ProjectionOptions {
    let retry =
        RetryPolicy { attempts: 2, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(1) };
    let mut options = ProjectionOptions::new()
        .partitions(random.pick(&[1, 1, 2, 3, 5]))
        .batch(random.pick(&[1, 3, 16, 200]))
        .retry(retry)
        .lease(Duration::from_millis(random.pick(&[30, 100])))
        .restart(Duration::from_millis(1), Duration::from_millis(20))
        .keep_retired(Duration::ZERO);
    options.idle_checkpoint = Duration::from_millis(random.pick(&[1, 50]));
    options.commit_bytes = random.pick(&[1, 200, 1 << 20]);
    options
}

fn start(store: &Arc<dyn EventStore>, ledger: &Ledger, random: &mut Random) -> RunningProjections {
    let supervisor = Supervisor::new().projection(ledger.clone(), options(random));
    supervisor.start(Arc::clone(store)).now_or_never().expect("a start must not wait").expect("started")
}

async fn write(store: Arc<dyn EventStore>, seed: u64, events: u64) -> Option<Position> {
    let mut random = Random::new(seed);
    let mut last = None;
    for number in 0..events {
        let event = match random.below(40) {
            0 => AccountEvent::Withdrawn { cents: POISON },
            n if n < 20 => AccountEvent::Deposited { cents: number },
            _ => AccountEvent::Withdrawn { cents: 1 },
        };
        last = Some(append(&*store, random.below(9), event).await);
        if random.once_in(4) {
            tokio::time::sleep(Duration::from_micros(random.below(2_000))).await;
        }
    }
    last
}

/// Runs a random administrative action. Its error is ignored, because a fault may cause it.
async fn act(admin: &ProjectionAdmin, random: &mut Random) {
    let _ = match random.below(6) {
        0 => admin.rebuild(RebuildFrom::Start, "chaos").await,
        1 => admin.reset("chaos").await,
        2 => admin.pause("chaos").await,
        3 => admin.cancel_rebuild("chaos").await,
        4 => match admin.parked(None, 1).await {
            Ok(parked) if !parked.is_empty() => admin.retry(&parked[0].key).await,
            _ => Ok(()),
        },
        _ => admin.resume("chaos").await,
    };
}

async fn run(inner: Arc<dyn EventStore>, seed: u64, counts: &mut Disturbances) {
    let mut random = Random::new(seed);
    let faulty = FaultyStore::new(Arc::clone(&inner));
    let store: Arc<dyn EventStore> = Arc::new(faulty.clone());
    let ledger = Ledger::default();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(Arc::clone(&inner), seed ^ (writer + 1), 40 + random.below(120))))
        .collect();
    let admin = ProjectionAdmin::new(Arc::clone(&store), "ledger").expect("a name");
    for stage in 0..2 + random.below(4) {
        let mut running = vec![start(&store, &ledger, &mut random)];
        if random.once_in(3) {
            running.push(start(&store, &ledger, &mut random));
        }
        for _ in 0..random.below(4) {
            tokio::time::sleep(Duration::from_micros(random.below(15_000))).await;
            match random.below(5) {
                0 | 1 => {
                    let fault = match random.below(4) {
                        0 => Fault::Refuse,
                        1 => Fault::Delay(Duration::from_millis(random.below(40))),
                        2 => Fault::Hang,
                        _ => Fault::LoseAcknowledgement,
                    };
                    // A hanging commit ends with the kill at the end of the stage, or with a takeover.
                    faulty.at_commit(faulty.commits() + random.below(5), fault);
                    counts.faults += 1;
                }
                2 => {
                    let action = tokio::time::timeout(Duration::from_millis(200), act(&admin, &mut random));
                    counts.actions += u64::from(action.await.is_ok());
                }
                3 => running[0].projection("ledger").expect("the supervisor has the projection").take_over(),
                _ => {}
            }
        }
        for running in running {
            if random.once_in(2) {
                drop(running);
                counts.kills += 1;
            } else {
                // A hanging commit does not finish in time and is aborted.
                let _ = running.shutdown(Duration::from_millis(300)).await;
            }
        }
        check(&inner, &format!("ES_SEED={seed}, stage {stage}")).await;
    }

    // The liveness phase: without further disturbances, the projection catches up.
    let mut last = None;
    for writer in writers {
        last = last.max(writer.await.expect("a writer does not panic"));
    }
    let admin = ProjectionAdmin::new(Arc::clone(&inner), "ledger").expect("a name");
    admin.resume("liveness phase").await.expect("resumed");
    let running = start(&inner, &ledger, &mut random);
    let handle = running.projection("ledger").expect("the supervisor has the projection").clone();
    handle.wait_for(last, TIMEOUT).await.unwrap_or_else(|error| panic!("ES_SEED={seed}: {error}"));
    counts.parked += admin.parked(None, 1_000).await.expect("a list").len() as u64;
    ledger.accepts_poison.store(true, Ordering::SeqCst);
    let retries = async {
        loop {
            let parked = admin.parked(None, 1_000).await.expect("a list");
            if parked.is_empty() && handle.status().rebuild.is_none() {
                break;
            }
            for key in parked {
                // The key may have been unparked meanwhile.
                let _ = admin.retry(&key.key).await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(TIMEOUT, retries).await.is_err() {
        panic!("ES_SEED={seed}: keys stay parked: {:?}", handle.status());
    }
    handle.wait_for(last, TIMEOUT).await.unwrap_or_else(|error| panic!("ES_SEED={seed}: {error}"));
    running.shutdown(TIMEOUT).await.unwrap_or_else(|error| panic!("ES_SEED={seed}: {error}"));
    check(&inner, &format!("ES_SEED={seed}, after the liveness phase")).await;
    let written =
        inner.read_log(es_core::LogRead::category(es_core::model::Category::new("account").expect("a name"))).await;
    let written = written.expect("a read").collect().await.expect("events").len() as u64;
    assert_eq!(
        read_books(&*inner).await.expect("rows").events(),
        written,
        "ES_SEED={seed}: every event is applied once"
    );
    counts.events += written;
}

fn on_a_runtime(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_time().build();
    runtime.expect("a runtime").block_on(test);
}

#[test]
fn the_view_agrees_with_the_log_after_random_kills_and_faults_in_memory() {
    on_a_runtime(async {
        let (first, runs) = (seed(), number("ES_PROJECTION_RUNS", 20));
        let mut counts = Disturbances::default();
        for seed in (0..runs).map(|run| first.wrapping_add(run)) {
            run(Arc::new(MemoryStore::new()), seed, &mut counts).await;
        }
        println!("{runs} runs with ES_SEED={first}: {counts:?}");
        let occurred = [counts.kills, counts.faults, counts.actions, counts.parked];
        assert!(!occurred.contains(&0), "ES_SEED={first}: {counts:?}");
    });
}

#[test]
fn the_view_agrees_with_the_log_after_random_kills_and_faults_on_disk() {
    on_a_runtime(async {
        let (first, runs) = (seed(), number("ES_PROJECTION_RUNS", 20) / 2);
        let mut counts = Disturbances::default();
        for seed in (0..runs).map(|run| first.wrapping_add(run)) {
            let dir = tempfile::tempdir().expect("a directory");
            let store = rocksdb(dir.path()).await;
            run(Arc::new(store.clone()), seed, &mut counts).await;
            store.close().await.expect("closed");
        }
        println!("{runs} runs with ES_SEED={first}: {counts:?}");
    });
}
