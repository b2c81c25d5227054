//! Whatever is killed, and whenever: the view is the fold of the log up to its checkpoint, and in the end of the whole log.
//!
//! Each run comes from one seed: writers at full speed, workers that are killed, shut down, and doubled, a store that refuses
//! commits and loses acknowledgements, other numbers of partitions at each start, an operator who rebuilds, resets, pauses and
//! retries, and events that cannot be applied. After each kill, and in the end, the rows are compared with the log.
//!
//! `ES_PROJECTION_RUNS=200` for long; `ES_SEED` for the same plan again. The moments of kills are of the machine all the same.

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

const PATIENCE: Duration = Duration::from_secs(120);
const WRITERS: u64 = 3;

/// What a run has met, so that no run is worth nothing.
#[derive(Debug, Default)]
struct Met {
    kills: u64,
    faults: u64,
    verbs: u64,
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
    supervisor.start(Arc::clone(store)).now_or_never().expect("a start does not wait").expect("started")
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

/// An operator's verb. One that a fault hits may or may not count, which is what its error says.
async fn verb(admin: &ProjectionAdmin, random: &mut Random) {
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

async fn run(inner: Arc<dyn EventStore>, seed: u64, met: &mut Met) {
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
                    // NOTE: what hangs is ended by the kill at the end of the stage, or by whoever takes over.
                    faulty.at_commit(faulty.commits() + random.below(5), fault);
                    met.faults += 1;
                }
                2 => {
                    let told = tokio::time::timeout(Duration::from_millis(200), verb(&admin, &mut random));
                    met.verbs += u64::from(told.await.is_ok());
                }
                3 => running[0].projection("ledger").expect("given").take_over(),
                _ => {}
            }
        }
        for running in running {
            if random.once_in(2) {
                drop(running);
                met.kills += 1;
            } else {
                // NOTE: what hangs does not finish, and is ended.
                let _ = running.shutdown(Duration::from_millis(300)).await;
            }
        }
        check(&inner, &format!("ES_SEED={seed}, stage {stage}")).await;
    }

    // The liveness phase: nothing goes wrong any more, and everything gets to the end.
    let mut last = None;
    for writer in writers {
        last = last.max(writer.await.expect("a writer does not panic"));
    }
    let admin = ProjectionAdmin::new(Arc::clone(&inner), "ledger").expect("a name");
    admin.resume("the end").await.expect("resumed");
    let running = start(&inner, &ledger, &mut random);
    let handle = running.projection("ledger").expect("given").clone();
    handle.wait_for(last, PATIENCE).await.unwrap_or_else(|error| panic!("ES_SEED={seed}: {error}"));
    met.parked += admin.parked(None, 1_000).await.expect("a list").len() as u64;
    ledger.is_healed.store(true, Ordering::SeqCst);
    let healing = async {
        loop {
            let parked = admin.parked(None, 1_000).await.expect("a list");
            if parked.is_empty() && handle.status().rebuild.is_none() {
                break;
            }
            for key in parked {
                // NOTE: it may have been freed meanwhile.
                let _ = admin.retry(&key.key).await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, healing).await.is_err() {
        panic!("ES_SEED={seed}: parked keys are not freed: {:?}", handle.status());
    }
    handle.wait_for(last, PATIENCE).await.unwrap_or_else(|error| panic!("ES_SEED={seed}: {error}"));
    running.shutdown(PATIENCE).await.unwrap_or_else(|error| panic!("ES_SEED={seed}: {error}"));
    check(&inner, &format!("ES_SEED={seed}, the end")).await;
    let written =
        inner.read_log(es_core::LogRead::category(es_core::model::Category::new("account").expect("a name"))).await;
    let written = written.expect("a read").collect().await.expect("events").len() as u64;
    assert_eq!(read_books(&*inner).await.expect("rows").events(), written, "ES_SEED={seed}: every event counts");
    met.events += written;
}

fn on_a_runtime(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_time().build();
    runtime.expect("a runtime").block_on(test);
}

#[test]
fn the_view_is_the_fold_of_the_log_through_any_kill_in_memory() {
    on_a_runtime(async {
        let (first, runs) = (seed(), number("ES_PROJECTION_RUNS", 20));
        let mut met = Met::default();
        for seed in (0..runs).map(|run| first.wrapping_add(run)) {
            run(Arc::new(MemoryStore::new()), seed, &mut met).await;
        }
        println!("{runs} runs from ES_SEED={first}: {met:?}");
        assert!(met.kills > 0 && met.faults > 0 && met.verbs > 0 && met.parked > 0, "ES_SEED={first}: {met:?}");
    });
}

#[test]
fn the_view_is_the_fold_of_the_log_through_any_kill_on_disk() {
    on_a_runtime(async {
        let (first, runs) = (seed(), number("ES_PROJECTION_RUNS", 20) / 2);
        let mut met = Met::default();
        for seed in (0..runs).map(|run| first.wrapping_add(run)) {
            let dir = tempfile::tempdir().expect("a directory");
            let store = rocksdb(dir.path()).await;
            run(Arc::new(store.clone()), seed, &mut met).await;
            store.close().await.expect("closed");
        }
        println!("{runs} runs from ES_SEED={first}: {met:?}");
    });
}
