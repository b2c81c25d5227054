//! Loads of one stream of 10, 100 and 1,000 events, decoded into the typed event and folded, from events only and from
//! a snapshot at its end. The limit is a raw scan of RocksDB that decodes and folds the same JSON.

use std::time::Instant;

use async_trait::async_trait;

use super::Workload;
use super::data_set::{self, LENGTHS};
use crate::bench::Bench;
use crate::contender::{Opened, Task};
use crate::failure::Failure;
use crate::ours::ES_ROCKSDB;
use crate::profile::Sampler;
use crate::report::stats::{Unit, median, number};

pub(crate) const LOAD: &str = "load";

/// Returns the name of the case with streams of this length.
pub(crate) fn case(length: u64) -> String {
    format!("{} events", if length < 1000 { length.to_string() } else { number(length as f64) })
}

pub(crate) struct Load;

/// The durations of loads.
struct Loads {
    /// In microseconds.
    median: f64,
    count: u64,
}

/// Loads streams in turn for half a round.
async fn measure(bench: &Bench, opened: &dyn Opened, length: usize, from_snapshot: bool) -> Result<Loads, Failure> {
    let (streams, started) = (bench.plan.streams, Instant::now());
    let mut took = Vec::new();
    let mut nth = 0_u64;
    while started.elapsed() < bench.plan.seconds.div_f64(2.0) || took.len() < 5 {
        // A stride coprime to most numbers of streams, so that neighbours are not loaded in sequence.
        nth = nth.wrapping_add(7919);
        let begun = Instant::now();
        let folded = opened.load(data_set::stream(streams, length, nth), from_snapshot).await?;
        took.push(begun.elapsed().as_secs_f64() * 1e6);
        if folded.events != LENGTHS[length] {
            return Err(Failure::new("load", format!("expected {} events, found {}", LENGTHS[length], folded.events)));
        }
    }
    Ok(Loads { median: median(&took), count: took.len() as u64 })
}

#[async_trait]
impl Workload for Load {
    fn name(&self) -> &'static str {
        LOAD
    }

    fn about(&self) -> &'static str {
        "loading a stream of 10, 100, 1,000 events, typed and folded, with and without a snapshot"
    }

    fn task(&self) -> Task {
        Task::Load
    }

    async fn run(&self, bench: &mut Bench) -> Result<(), Failure> {
        let filled_stores = data_set::filled_stores(bench, LOAD, Task::Load).await?;
        for round in 0..bench.plan.rounds {
            for (index, length) in LENGTHS.into_iter().enumerate() {
                for from_snapshot in [false, true] {
                    let case = format!("{}{}", case(length), if from_snapshot { ", snapshot" } else { "" });
                    bench.progress(LOAD, &format!("{case}, round {}", round + 1));
                    for store in &filled_stores {
                        if from_snapshot && store.contender.offers(Task::LoadSnapshot).is_err() {
                            continue;
                        }
                        match measure(bench, &*store.opened, index, from_snapshot).await {
                            Ok(loads) => {
                                bench.report.add(LOAD, &case, store.contender.name(), Unit::Microseconds, loads.median);
                            }
                            Err(failure) => bench.record_failure(LOAD, &case, &store.contender, &failure),
                        }
                    }
                }
            }
        }
        let ours = filled_stores.iter().find(|store| bench.plan.profile && store.contender.name() == ES_ROCKSDB);
        if let Some(store) = ours {
            let (longest, sampler) = (LENGTHS.len() - 1, Sampler::start()?);
            let loads = measure(bench, &*store.opened, longest, false).await?.count;
            let case = format!("{LOAD}, {}", case(LENGTHS[longest]));
            bench.report.profile.extend(sampler.end(ES_ROCKSDB, &case, loads * LENGTHS[longest])?);
        }
        Ok(())
    }
}
