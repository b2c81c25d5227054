//! Sagas: the time of a step, sagas per second, and, of this project only, a local step beside an append, and the start
//! of a coordinator with many waiting sagas.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use es_core::{Commit, EventStore, StreamId};
use es_rocksdb::RocksDbStore;
use es_saga::{RunningSagas, SagaAdmin};

use super::Workload;
use crate::bench::Bench;
use crate::contender::{Contender, Durability, Opened, SagaSteps, Task};
use crate::failure::Failure;
use crate::ours::ES_ROCKSDB;
use crate::profile::resident;
use crate::report::stats::Unit;
use crate::sagas;

pub(crate) const SAGAS: &str = "sagas";
pub(crate) const APPEND: &str = "one append";
pub(crate) const LOCAL: &str = "one local step";
const EXTERNAL: &str = "one external step";
const RATE: &str = "sagas of two external steps, 256 at a time";

/// The number of sagas that run at the same time.
const CONCURRENT: u32 = 256;
/// The number of sagas in one commit when waiting sagas are created.
const BATCH: usize = 250;

pub(crate) struct Sagas;

#[async_trait]
impl Workload for Sagas {
    fn name(&self) -> &'static str {
        SAGAS
    }

    fn about(&self) -> &'static str {
        "durable sagas: the time of a step, sagas per second, a local step beside an append, waiting sagas"
    }

    fn task(&self) -> Task {
        Task::Sagas
    }

    async fn run(&self, bench: &mut Bench) -> Result<(), Failure> {
        let contenders = bench.contenders_for(SAGAS, Task::Sagas);
        for round in 0..bench.plan.rounds {
            bench.progress(SAGAS, &format!("round {}", round + 1));
            for contender in &contenders {
                if let Err(failure) = external_steps(bench, contender).await {
                    bench.record_failure(SAGAS, "", contender, &failure);
                }
            }
            if bench.is_selected(ES_ROCKSDB) {
                local_steps(bench).await?;
            }
        }
        if bench.is_selected(ES_ROCKSDB) {
            waiting_sagas(bench).await?;
        }
        Ok(())
    }
}

/// Measures the time of an external step, and sagas per second.
async fn external_steps(bench: &mut Bench, contender: &Arc<dyn Contender>) -> Result<(), Failure> {
    let (dir, time) = (bench.dir()?, bench.plan.seconds);
    let opened = bench.open(contender, dir.path(), Durability::Synced).await?;
    run_sagas(&*opened, SagaSteps::Two, "warm", time.div_f64(5.0)).await?;
    let (sagas, elapsed) = run_sagas(&*opened, SagaSteps::Hundred, "steps", time).await?;
    let steps = f64::from(sagas * SagaSteps::Hundred.count());
    bench.report.add(SAGAS, EXTERNAL, contender.name(), Unit::Microseconds, elapsed.as_secs_f64() * 1e6 / steps);
    let started = Instant::now();
    let names = (0..CONCURRENT).map(|number| format!("rate-{number}"));
    let runs = names.map(async |name| run_sagas(&*opened, SagaSteps::Two, &name, time).await);
    let counts = futures_util::future::try_join_all(runs).await?;
    let sagas: u32 = counts.iter().map(|(count, _)| count).sum();
    let rate = f64::from(sagas) / started.elapsed().as_secs_f64();
    bench.report.add(SAGAS, RATE, contender.name(), Unit::SagasPerSecond, rate);
    opened.close().await
}

/// Runs sagas one after the other for this time, at least one. Returns their number and the time that they took.
async fn run_sagas(
    opened: &dyn Opened,
    steps: SagaSteps,
    prefix: &str,
    time: Duration,
) -> Result<(u32, Duration), Failure> {
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed() < time || count == 0 {
        opened.saga(&format!("{prefix}-{count}"), steps).await?;
        count += 1;
    }
    Ok((count, started.elapsed()))
}

/// Measures the time of a local step, and of an append of the same event.
async fn local_steps(bench: &mut Bench) -> Result<(), Failure> {
    let (dir, time) = (bench.dir()?, bench.plan.seconds);
    let store = open(&dir.path().join("store")).await?;
    let running = sagas::start(&store).await?;
    // A task of the runtime, as the coordinator and the handlers of a service are: it is woken otherwise than the
    // thread that waits for the benchmark.
    let measured = tokio::spawn(async move {
        let times = appends_and_steps(&store, &running, time).await?;
        sagas::stop(running).await?;
        close(&*store).await?;
        Ok(times)
    });
    let [append, step] = measured.await.map_err(|error| Failure::caused_by("measure local steps", &error))??;
    bench.report.add(SAGAS, APPEND, ES_ROCKSDB, Unit::Microseconds, append);
    bench.report.add(SAGAS, LOCAL, ES_ROCKSDB, Unit::Microseconds, step);
    Ok(())
}

/// Returns the times of an append and of a local step, in microseconds. The time of a step is that by which a saga with
/// more steps takes longer: the creation of a saga and the read of its output are no part of a step. Appends and sagas
/// alternate, because the speed of a disk varies.
async fn appends_and_steps(
    store: &Arc<dyn EventStore>,
    running: &RunningSagas,
    time: Duration,
) -> Result<[f64; 2], Failure> {
    let both = [sagas::local(SagaSteps::Two)?, sagas::local(SagaSteps::Hundred)?];
    let more_steps = SagaSteps::Hundred.count() - SagaSteps::Two.count();
    let [mut warm_up, mut appending] = [Duration::ZERO; 2];
    let mut totals = [Duration::ZERO; 2];
    appends(&**store, 0..more_steps, &mut warm_up).await?;
    let (started, mut count) = (Instant::now(), 0_u32);
    while started.elapsed() < time * 2 || count == 0 {
        let first = (count + 1) * more_steps;
        appends(&**store, first..first + more_steps, &mut appending).await?;
        for (saga, total) in both.iter().zip(&mut totals) {
            let began = Instant::now();
            sagas::execute(running, saga, &count.to_string()).await?;
            *total += began.elapsed();
        }
        count += 1;
    }
    let [append, short, long] = [appending, totals[0], totals[1]].map(|total| total.as_secs_f64() * 1e6);
    let operations = f64::from(count * more_steps);
    Ok([append / operations, (long - short) / operations])
}

/// Appends one event durably to each of new streams, and adds the time. The streams have names without an order, as the
/// streams of the steps do: neighbouring keys are cheaper.
async fn appends(store: &dyn EventStore, numbers: Range<u32>, total: &mut Duration) -> Result<(), Failure> {
    let began = Instant::now();
    for number in numbers {
        let name = u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let stream = StreamId::of("append", format!("{name:032x}"));
        let stream = stream.map_err(|error| Failure::caused_by("create a stream id", &error))?;
        let committed = store.commit(Commit::new().append(stream, sagas::noted()?)).await;
        committed.map_err(|error| Failure::caused_by("append", &error))?;
    }
    *total += began.elapsed();
    Ok(())
}

/// Measures the start of a coordinator with many waiting sagas, and the memory that it adds.
async fn waiting_sagas(bench: &mut Bench) -> Result<(), Failure> {
    let count = if bench.plan.quick { 2_000 } else { 100_000 };
    bench.progress(SAGAS, &format!("{count} waiting sagas"));
    let dir = bench.dir()?;
    let path = dir.path().join("store");
    let store = open(&path).await?;
    create_waiting(&store, count).await?;
    close(&*store).await?;
    drop(store);
    let store = open(&path).await?;
    let (before, started) = (resident(), Instant::now());
    let running = sagas::start(&store).await?;
    let took = started.elapsed();
    let memory = before.zip(resident()).map(|(before, after)| after as f64 - before as f64);
    sagas::stop(running).await?;
    let case = format!("start with {count} waiting sagas");
    bench.report.add(SAGAS, &case, ES_ROCKSDB, Unit::Microseconds, took.as_secs_f64() * 1e6);
    if let Some(memory) = memory {
        let case = format!("memory of the start with {count} waiting sagas");
        bench.report.add(SAGAS, &case, ES_ROCKSDB, Unit::Bytes, memory);
    }
    close(&*store).await
}

/// Creates sagas, and runs them until each waits for its next attempt.
async fn create_waiting(store: &Arc<dyn EventStore>, count: usize) -> Result<(), Failure> {
    let (admin, saga) = (SagaAdmin::new(Arc::clone(store)), sagas::waiting()?);
    let instances: Vec<usize> = (0..count).collect();
    for batch in instances.chunks(BATCH) {
        let mut commit = Commit::new();
        for instance in batch {
            let created = admin.creation(commit, &saga, &instance.to_string(), &1);
            (_, commit) = created.map_err(|error| Failure::caused_by("create a saga", &error))?;
        }
        store.commit(commit).await.map_err(|error| Failure::caused_by("create sagas", &error))?;
    }
    let running = sagas::start(store).await?;
    loop {
        let now = chrono::Utc::now();
        let unfinished = admin.unfinished(None, usize::MAX).await;
        let unfinished = unfinished.map_err(|error| Failure::caused_by("list sagas", &error))?;
        if unfinished.iter().all(|saga| saga.due > now) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    sagas::stop(running).await
}

async fn open(path: &Path) -> Result<Arc<dyn EventStore>, Failure> {
    let store = RocksDbStore::open(path).await;
    Ok(Arc::new(store.map_err(|error| Failure::caused_by("open the store", &error))?))
}

async fn close(store: &dyn EventStore) -> Result<(), Failure> {
    store.close().await.map_err(|error| Failure::caused_by("close the store", &error))
}
