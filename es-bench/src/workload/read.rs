//! Reading the log in order: all of it, the events of one type, the events with one tag. The limit of the first is a raw scan
//! of RocksDB over as many bytes.

use std::time::Instant;

use async_trait::async_trait;

use super::Workload;
use super::library::{self, TAGS};
use crate::bench::Bench;
use crate::contender::{Opened, Selection, Task};
use crate::domain::{REMOVED, Tagging};
use crate::failure::Failure;
use crate::ours::ES_ROCKSDB;
use crate::profile::Sampler;
use crate::report::stats::Unit;

pub(crate) const READ: &str = "read";
pub(crate) const WHOLE: &str = "whole log";

pub(crate) struct Read;

/// Events per second over as many reads as fit into a round, at least one.
async fn measure(bench: &Bench, opened: &dyn Opened, selection: &Selection) -> Result<f64, Failure> {
    let started = Instant::now();
    let mut events = 0;
    while events == 0 || started.elapsed() < bench.plan.seconds.div_f64(2.0) {
        let found = opened.read(selection.clone()).await?;
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
        "reading the whole log in order, one type (a tenth), one tag (a hundredth)"
    }

    fn task(&self) -> Task {
        Task::ReadAll
    }

    async fn run(&self, bench: &mut Bench) -> Result<(), Failure> {
        let shelves = library::shelves(bench, READ, Task::ReadAll).await?;
        let selections = [
            (WHOLE, Task::ReadAll, Selection::All),
            ("one type of two", Task::ReadType, Selection::Type(REMOVED)),
            ("one tag of 100", Task::ReadTag, Selection::Tag(Tagging::Spread(TAGS).tag(0, 42))),
        ];
        for round in 0..bench.plan.rounds {
            for (case, task, selection) in &selections {
                bench.say(READ, &format!("{case}, round {}", round + 1));
                for shelf in &shelves {
                    if shelf.who.offers(*task).is_err() {
                        continue;
                    }
                    match measure(bench, &*shelf.opened, selection).await {
                        Ok(value) => bench.report.add(READ, case, shelf.who.name(), Unit::EventsPerSecond, value),
                        Err(failure) => bench.failed(READ, case, &shelf.who, &failure),
                    }
                }
            }
        }
        let ours = shelves.iter().find(|shelf| bench.plan.profile && shelf.who.name() == ES_ROCKSDB);
        for (case, _, selection) in &selections {
            let Some(shelf) = ours else { break };
            let (sampler, started) = (Sampler::start()?, Instant::now());
            let per_second = measure(bench, &*shelf.opened, selection).await?;
            let events = (per_second * started.elapsed().as_secs_f64()) as u64;
            bench.report.profile.extend(sampler.end(ES_ROCKSDB, &format!("{READ}, {case}"), events)?);
        }
        Ok(())
    }
}
