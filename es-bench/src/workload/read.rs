//! Reads of the log in order: the whole log as owned events and as borrowed events, the events of one type, the events
//! with one tag. The limit of the first two is a raw scan of RocksDB over as many bytes.

use std::time::Instant;

use async_trait::async_trait;

use super::Workload;
use super::data_set::{self, TAGS};
use crate::bench::Bench;
use crate::contender::{Contender, Opened, Role, Selection, Task};
use crate::domain::{REMOVED, Tagging};
use crate::failure::Failure;
use crate::ours::ES_ROCKSDB;
use crate::profile::Sampler;
use crate::report::stats::Unit;

pub(crate) const READ: &str = "read";
pub(crate) const WHOLE: &str = "whole log";
pub(crate) const VISITED: &str = "whole log, visited";

pub(crate) struct Read;

/// How a case reads the log.
enum Access {
    Read(Task, Selection),
    Visit,
}

impl Access {
    fn is_offered(&self, contender: &dyn Contender) -> bool {
        match self {
            Self::Read(task, _) => contender.offers(*task).is_ok(),
            Self::Visit => contender.role() == Role::Ours,
        }
    }

    /// Reads the log once. Returns the number of events.
    async fn run(&self, opened: &dyn Opened) -> Result<u64, Failure> {
        match self {
            Self::Read(_, selection) => opened.read(selection.clone()).await,
            Self::Visit => opened.visit().await,
        }
    }
}

/// Returns the events per second over as many runs as fit into a round, at least one.
async fn measure(bench: &Bench, opened: &dyn Opened, access: &Access) -> Result<f64, Failure> {
    let started = Instant::now();
    let mut events = 0;
    while events == 0 || started.elapsed() < bench.plan.seconds.div_f64(2.0) {
        let found = access.run(opened).await?;
        if found == 0 {
            return Err(Failure::new("read", "expected events, found none"));
        }
        events += found;
    }
    Ok(events as f64 / started.elapsed().as_secs_f64())
}

#[async_trait]
impl Workload for Read {
    fn name(&self) -> &'static str {
        READ
    }

    fn about(&self) -> &'static str {
        "the whole log in order (owned and borrowed events), one type (a tenth), one tag (a hundredth)"
    }

    fn task(&self) -> Task {
        Task::ReadAll
    }

    async fn run(&self, bench: &mut Bench) -> Result<(), Failure> {
        let filled_stores = data_set::filled_stores(bench, READ, Task::ReadAll).await?;
        let tag = Tagging::Spread(TAGS).tag(0, 42);
        let cases = [
            (WHOLE, Access::Read(Task::ReadAll, Selection::All)),
            (VISITED, Access::Visit),
            ("one type of two", Access::Read(Task::ReadType, Selection::Type(REMOVED))),
            ("one tag of 100", Access::Read(Task::ReadTag, Selection::Tag(tag))),
        ];
        for round in 0..bench.plan.rounds {
            for (case, access) in &cases {
                bench.progress(READ, &format!("{case}, round {}", round + 1));
                for store in &filled_stores {
                    if !access.is_offered(&*store.contender) {
                        continue;
                    }
                    match measure(bench, &*store.opened, access).await {
                        Ok(value) => {
                            bench.report.add(READ, case, store.contender.name(), Unit::EventsPerSecond, value);
                        }
                        Err(failure) => bench.record_failure(READ, case, &store.contender, &failure),
                    }
                }
            }
        }
        let ours = filled_stores.iter().find(|store| bench.plan.profile && store.contender.name() == ES_ROCKSDB);
        for (case, access) in &cases {
            let Some(store) = ours else { break };
            let (sampler, started) = (Sampler::start()?, Instant::now());
            let per_second = measure(bench, &*store.opened, access).await?;
            let events = (per_second * started.elapsed().as_secs_f64()) as u64;
            bench.report.profile.extend(sampler.end(ES_ROCKSDB, &format!("{READ}, {case}"), events)?);
        }
        Ok(())
    }
}
