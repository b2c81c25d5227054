//! Appends of 1, 16, 64 and 256 writers: one or ten events per commit, durable or buffered, with an expected revision
//! or with the condition of a dynamic consistency boundary.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Workload;
use crate::bench::Bench;
use crate::contender::{Contender, Durability, Task};
use crate::domain::Tagging;
use crate::drive::{self, Stop, Writers};
use crate::failure::Failure;
use crate::ours::ES_ROCKSDB;
use crate::profile::Sampler;
use crate::report::stats::Unit;

pub(crate) const APPEND: &str = "append";

/// Returns the name of the case with this number of writers.
pub(crate) fn writers(count: u32) -> String {
    if count == 1 { "1 writer".into() } else { format!("{count} writers") }
}

/// The number of events that a writer appends to a stream before it starts another.
const PER_STREAM: u64 = 10_000;

pub(crate) struct Appends {
    name: &'static str,
    about: &'static str,
    task: Task,
    per_commit: u64,
}

impl Appends {
    pub(crate) fn durable() -> Self {
        let about = "durable appends of one event per commit, each at the expected revision of its stream";
        Self { name: APPEND, about, task: Task::Append, per_commit: 1 }
    }

    pub(crate) fn ten() -> Self {
        let about = "durable appends of ten events per commit";
        Self { name: "append-10", about, task: Task::Append, per_commit: 10 }
    }

    pub(crate) fn buffered() -> Self {
        let about = "appends that are acknowledged when the operating system has them";
        Self { name: "append-buffered", about, task: Task::AppendBuffered, per_commit: 1 }
    }

    pub(crate) fn conditional() -> Self {
        let about = "durable appends if nothing with the tag came since the writer looked (DCB)";
        Self { name: "append-if", about, task: Task::AppendIf, per_commit: 1 }
    }

    /// Runs one round of a contender in a new store, and profiles another if requested.
    async fn round(
        &self,
        bench: &mut Bench,
        contender: &Arc<dyn Contender>,
        count: u32,
        sampled: bool,
    ) -> Result<f64, Failure> {
        let buffered = self.task == Task::AppendBuffered;
        let durability = if buffered { Durability::Buffered } else { Durability::Synced };
        let dir = bench.dir()?;
        let opened = bench.open(contender, dir.path(), durability).await?;
        let conditional = self.task == Task::AppendIf;
        let payload = bench.plan.payload;
        let tagging = if conditional { Tagging::PerStream } else { Tagging::Spread(1000) };
        let writers = Writers {
            count,
            per_commit: self.per_commit,
            payload,
            tagging,
            conditional,
            per_stream: PER_STREAM,
            first_stream: 0,
            first_event: 0,
            first_seen: 0,
        };
        let warm = drive::run(&opened, writers, Stop::after(bench.plan.seconds.div_f64(5.0))).await?;
        let sampler = sampled.then(Sampler::start).transpose()?;
        let writers = Writers { first_stream: warm.next_stream, ..writers };
        let measured = drive::run(&opened, writers, Stop::after(bench.plan.seconds)).await?;
        if let Some(sampler) = sampler {
            let case = format!("{}, {}", self.name, self::writers(count));
            bench.report.profile.extend(sampler.end(contender.name(), &case, measured.events)?);
        }
        opened.close().await?;
        drop(opened);
        Ok(measured.per_second())
    }
}

#[async_trait]
impl Workload for Appends {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn task(&self) -> Task {
        self.task
    }

    async fn run(&self, bench: &mut Bench) -> Result<(), Failure> {
        let mut contenders_for = bench.contenders_for(self.name, self.task);
        let counts = if self.name == APPEND { bench.plan.writers.clone() } else { bench.plan.few_writers() };
        for count in counts {
            let case = writers(count);
            for round in 0..bench.plan.rounds {
                bench.progress(self.name, &format!("{case}, round {}", round + 1));
                // The order changes, so that no contender is always first or always after the same one.
                let shift = (round as usize) % contenders_for.len().max(1);
                contenders_for.rotate_left(shift);
                let mut left = Vec::new();
                for contender in contenders_for {
                    // A contender that hangs must not stop the others.
                    let patience = bench.plan.seconds * 10 + Duration::from_secs(120);
                    let measured = tokio::time::timeout(patience, self.round(bench, &contender, count, false)).await;
                    match measured.unwrap_or_else(|_| Err(Failure::new("finish a round", "it hung"))) {
                        Ok(value) => {
                            bench.report.add(self.name, &case, contender.name(), Unit::EventsPerSecond, value);
                            left.push(contender);
                        }
                        Err(failure) => bench.record_failure(self.name, &case, &contender, &failure),
                    }
                }
                contenders_for = left;
            }
            let ours = contenders_for.iter().find(|contender| bench.plan.profile && contender.name() == ES_ROCKSDB);
            if let Some(contender) = ours.cloned() {
                self.round(bench, &contender, count, true).await?;
            }
        }
        Ok(())
    }
}
