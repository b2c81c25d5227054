//! Catching up: builds views from the first event of the loan log with several numbers of workers, compared with the
//! fold of the same log in memory, which reads and decodes but writes nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use es_core::EventStore;
use es_core::prelude::Projection as _;
use es_core::projection::{ProjectionOptions, Supervisor};
use es_rocksdb::{Durability, Options, RocksDbStore};
use tempfile::TempDir;

use super::Workload;
use crate::bench::Bench;
use crate::contender::Task;
use crate::failure::Failure;
use crate::loans::{FoldedLoans, Loans, Log};
use crate::ours::ES_ROCKSDB;
use crate::profile::Sampler;
use crate::report::stats::Unit;

pub(crate) const CATCH_UP: &str = "catch-up";
/// The limit among the contenders: reads, decodes, and folds into maps.
pub(crate) const PLAIN_FOLD: &str = "plain-fold";

const WORKERS: [u32; 3] = [1, 2, 4];
/// The time limit for building the views.
const TIMEOUT: Duration = Duration::from_secs(600);

pub(crate) struct CatchUp;

/// A configuration for building the views.
#[derive(Debug, Clone, Copy)]
struct Case {
    workers: u32,
    projection: Loans,
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        let cases = |counts| WORKERS.map(|workers| Self { workers, projection: Loans { counts } });
        cases(true).into_iter().chain(cases(false))
    }

    fn name(self) -> String {
        let workers = if self.workers == 1 { "1 worker".into() } else { format!("{} workers", self.workers) };
        if self.projection.counts { workers } else { format!("{workers}, no shared rows") }
    }
}

/// A fold, its duration and its result.
struct Fold {
    projection: Loans,
    folded: FoldedLoans,
    elapsed: Duration,
}

#[async_trait]
impl Workload for CatchUp {
    fn name(&self) -> &'static str {
        CATCH_UP
    }

    fn about(&self) -> &'static str {
        "views built from the whole loan log by 1, 2 and 4 workers, compared with the fold in memory"
    }

    fn task(&self) -> Task {
        Task::Project
    }

    fn is_ours_only(&self) -> bool {
        true
    }

    async fn run(&self, bench: &mut Bench) -> Result<(), Failure> {
        if !bench.is_selected(ES_ROCKSDB) {
            return Ok(());
        }
        let log = Log::find(bench.plan.loans)?;
        bench.progress(CATCH_UP, &format!("importing {}", log.about()));
        bench.report.form.push_str(&format!(" Views are built of {}.", log.about()));
        let imported = bench.dir()?;
        let store = open(imported.path(), Durability::Buffered).await?;
        log.import(&store).await?;
        store.compact().await.map_err(|error| Failure::caused_by("compact", &error))?;
        close(store).await?;
        let events = log.len();
        drop(log);
        for round in 0..bench.plan.rounds {
            bench.progress(CATCH_UP, &format!("round {}", round + 1));
            let folds = fold(imported.path()).await?;
            for case in Case::all() {
                let Some(fold) = folds.iter().find(|fold| fold.projection.counts == case.projection.counts) else {
                    continue;
                };
                let elapsed = build(bench, imported.path(), case, events, &fold.folded, false).await?;
                add_figures(bench, &case.name(), events, elapsed, fold.elapsed);
                if bench.plan.profile && round == 0 && case.workers == 1 {
                    build(bench, imported.path(), case, events, &fold.folded, true).await?;
                }
            }
        }
        Ok(())
    }
}

fn add_figures(bench: &mut Bench, case: &str, events: usize, elapsed: Duration, fold: Duration) {
    let report = &mut bench.report;
    report.add(CATCH_UP, case, ES_ROCKSDB, Unit::EventsPerSecond, per_second(events, elapsed));
    report.add(CATCH_UP, case, PLAIN_FOLD, Unit::EventsPerSecond, per_second(events, fold));
    let rate = relative_rate(elapsed, fold);
    report.add(CATCH_UP, &format!("{case}, to the plain fold"), ES_ROCKSDB, Unit::Share, rate);
}

fn per_second(events: usize, elapsed: Duration) -> f64 {
    events as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// Returns the rate relative to the limit, over the same events.
fn relative_rate(elapsed: Duration, limit: Duration) -> f64 {
    limit.as_secs_f64() / elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
}

async fn open(dir: &Path, durability: Durability) -> Result<RocksDbStore, Failure> {
    let store = Options::new().durability(durability).open(dir).await;
    store.map_err(|error| Failure::caused_by("open the store", &error))
}

async fn close(store: RocksDbStore) -> Result<(), Failure> {
    store.close().await.map_err(|error| Failure::caused_by("close the store", &error))
}

/// Runs the folds with and without counts.
async fn fold(imported: &Path) -> Result<Vec<Fold>, Failure> {
    let store = open(imported, Durability::Sync).await?;
    let mut folds = Vec::new();
    for counts in [true, false] {
        let projection = Loans { counts };
        let started = Instant::now();
        let folded = FoldedLoans::of_log(&store, projection).await?;
        folds.push(Fold { projection, folded, elapsed: started.elapsed() });
    }
    close(store).await?;
    Ok(folds)
}

/// Builds the views in a store of their own, checks them, and profiles if requested.
async fn build(
    bench: &mut Bench,
    imported: &Path,
    case: Case,
    events: usize,
    expected: &FoldedLoans,
    sampled: bool,
) -> Result<Duration, Failure> {
    let dir = twin(bench, imported)?;
    let store = open(dir.path(), Durability::Sync).await?;
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    let head = shared.head().await.map_err(|error| Failure::caused_by("read the head", &error))?;
    let (sampler, started) = (sampled.then(Sampler::start).transpose()?, Instant::now());
    let running = Supervisor::new()
        .projection(case.projection, ProjectionOptions::new().partitions(case.workers))
        .start(Arc::clone(&shared))
        .await
        .map_err(|error| Failure::caused_by("start a projection", &error))?;
    let name = Loans::NAME;
    let handle = running.projection(name).ok_or_else(|| Failure::new("find a projection", name))?.clone();
    handle.wait_for(head, TIMEOUT).await.map_err(|error| Failure::caused_by("build the views", &error))?;
    let elapsed = started.elapsed();
    if let Some(sampler) = sampler {
        let name = format!("{CATCH_UP}, {}", case.name());
        bench.report.profile.extend(sampler.end(ES_ROCKSDB, &name, events as u64)?);
    }
    running.shutdown(TIMEOUT).await.map_err(|error| Failure::caused_by("stop a projection", &error))?;
    expected.check(&FoldedLoans::of_views(shared).await?)?;
    bench.progress(CATCH_UP, &format!("{}: {} rows in {elapsed:.2?}", case.name(), expected.rows()));
    close(store).await?;
    Ok(elapsed)
}

/// Copies the imported log to another directory, as a checkpoint of RocksDB does: sorted tables are immutable and are
/// hard links, other files are copied.
fn twin(bench: &Bench, imported: &Path) -> Result<TempDir, Failure> {
    let dir = bench.dir()?;
    copy(imported, dir.path()).map_err(|error| Failure::caused_by("copy the imported log", &error))?;
    Ok(dir)
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            std::fs::create_dir_all(&target)?;
            copy(&path, &target)?;
        } else if path.extension().is_some_and(|extension| extension == "sst") {
            std::fs::hard_link(&path, &target)?;
        } else {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_shares_are_of_the_same_events() {
        let (elapsed, limit) = (Duration::from_secs(4), Duration::from_secs(1));
        assert!((per_second(200, elapsed) - 50.0).abs() < 1e-9);
        assert!((relative_rate(elapsed, limit) - per_second(200, elapsed) / per_second(200, limit)).abs() < 1e-9);
        assert!(per_second(1, Duration::ZERO).is_finite() || per_second(1, Duration::ZERO) > 0.0);
    }

    #[test]
    fn all_cases_have_names_of_their_own() {
        let names: std::collections::BTreeSet<_> = Case::all().map(Case::name).collect();
        assert_eq!(names.len(), 6);
        assert!(names.contains("1 worker") && names.contains("4 workers, no shared rows"));
    }

    #[test]
    fn a_copy_has_everything() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(from.path().join("db")).unwrap();
        for file in ["db/1.sst", "db/CURRENT", "store.json"] {
            std::fs::write(from.path().join(file), file).unwrap();
        }
        copy(from.path(), to.path()).unwrap();
        for file in ["db/1.sst", "db/CURRENT", "store.json"] {
            assert_eq!(std::fs::read_to_string(to.path().join(file)).unwrap(), file);
        }
        std::fs::write(to.path().join("store.json"), "other").unwrap();
        assert_eq!(std::fs::read_to_string(from.path().join("store.json")).unwrap(), "store.json");
    }
}
