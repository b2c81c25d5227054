//! Loading one stream of 10, 100, 1,000 events: decoded into the typed event and folded, from its events alone and from a
//! snapshot at its end. The limit is a raw scan of RocksDB that decodes and folds the same JSON.

use std::time::Instant;

use async_trait::async_trait;

use super::Workload;
use super::library::{self, LENGTHS};
use crate::bench::Bench;
use crate::contender::{Opened, Task};
use crate::failure::Failure;
use crate::ours::ES_ROCKSDB;
use crate::profile::Sampler;
use crate::report::stats::{Unit, median, number};

pub(crate) const LOAD: &str = "load";

/// The case of streams of this length.
pub(crate) fn case(length: u64) -> String {
    format!("{} events", if length < 1000 { length.to_string() } else { number(length as f64) })
}

pub(crate) struct Load;

/// What loads took.
struct Loads {
    /// In microseconds.
    median: f64,
    count: u64,
}

/// Loads of streams in turn, for half a round.
async fn measure(bench: &Bench, opened: &dyn Opened, length: usize, from_snapshot: bool) -> Result<Loads, Failure> {
    let (streams, started) = (bench.plan.streams, Instant::now());
    let mut took = Vec::new();
    let mut nth = 0_u64;
    while started.elapsed() < bench.plan.seconds.div_f64(2.0) || took.len() < 5 {
        // NOTE: a stride that is coprime to most numbers of streams, so that neighbours do not follow each other.
        nth = nth.wrapping_add(7919);
        let begun = Instant::now();
        let folded = opened.load(library::stream(streams, length, nth), from_snapshot).await?;
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
        let shelves = library::shelves(bench, LOAD, Task::Load).await?;
        for round in 0..bench.plan.rounds {
            for (index, length) in LENGTHS.into_iter().enumerate() {
                for from_snapshot in [false, true] {
                    let case = format!("{}{}", case(length), if from_snapshot { ", snapshot" } else { "" });
                    bench.say(LOAD, &format!("{case}, round {}", round + 1));
                    for shelf in &shelves {
                        if from_snapshot && shelf.who.offers(Task::LoadSnapshot).is_err() {
                            continue;
                        }
                        match measure(bench, &*shelf.opened, index, from_snapshot).await {
                            Ok(loads) => {
                                bench.report.add(LOAD, &case, shelf.who.name(), Unit::Microseconds, loads.median);
                            }
                            Err(failure) => bench.failed(LOAD, &case, &shelf.who, &failure),
                        }
                    }
                }
            }
        }
        let ours = shelves.iter().find(|shelf| bench.plan.profile && shelf.who.name() == ES_ROCKSDB);
        if let Some(shelf) = ours {
            let (longest, sampler) = (LENGTHS.len() - 1, Sampler::start()?);
            let loads = measure(bench, &*shelf.opened, longest, false).await?.count;
            let case = format!("{LOAD}, {}", case(LENGTHS[longest]));
            bench.report.profile.extend(sampler.end(ES_ROCKSDB, &case, loads * LENGTHS[longest])?);
        }
        Ok(())
    }
}
