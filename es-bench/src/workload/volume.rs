//! Throughput while the log grows in steps, with three shapes: many streams, one stream, ten thousand tags on one
//! category. All contenders complete a step before the next one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Workload;
use crate::bench::Bench;
use crate::contender::{Contender, Durability, Opened, Task};
use crate::domain::Tagging;
use crate::drive::{self, Stop, Writers};
use crate::failure::Failure;
use crate::report::stats::{Unit, number};

pub(crate) const VOLUME: &str = "volume";
/// The number of steps in which the log grows.
const STEPS: u64 = 8;

struct VolumeShape {
    name: &'static str,
    writers: u32,
    per_commit: u64,
    per_stream: u64,
    tags: u64,
}

const SHAPES: [VolumeShape; 3] = [
    VolumeShape { name: "many streams", writers: 64, per_commit: 10, per_stream: 10, tags: 1000 },
    VolumeShape { name: "one stream", writers: 1, per_commit: 100, per_stream: u64::MAX, tags: 1000 },
    VolumeShape { name: "10,000 tags", writers: 64, per_commit: 10, per_stream: 10_000, tags: 10_000 },
];

pub(crate) struct Volume;

/// A contender with its growing log.
struct GrowingLog {
    contender: Arc<dyn Contender>,
    opened: Arc<dyn Opened>,
    rates: Vec<f64>,
    events: u64,
    elapsed: Duration,
    /// The start of the next step: the first stream and, for a single stream, its number of events.
    next_stream: u64,
    last_seen: u64,
}

#[async_trait]
impl Workload for Volume {
    fn name(&self) -> &'static str {
        VOLUME
    }

    fn about(&self) -> &'static str {
        "durable appends while the log grows: many streams, one stream, 10,000 tags; the last step to the first"
    }

    fn task(&self) -> Task {
        Task::Volume
    }

    async fn run(&self, bench: &mut Bench) -> Result<(), Failure> {
        for shape in &SHAPES {
            let mut dirs = Vec::new();
            let mut growing = Vec::new();
            for contender in bench.contenders_for(VOLUME, Task::Volume) {
                let dir = bench.dir()?;
                match bench.open(&contender, dir.path(), Durability::Synced).await {
                    Ok(opened) => growing.push(GrowingLog::new(contender, opened)),
                    Err(failure) => bench.record_failure(VOLUME, shape.name, &contender, &failure),
                }
                dirs.push(dir);
            }
            for step in 0..STEPS {
                bench.progress(VOLUME, &format!("{}, step {} of {STEPS}", shape.name, step + 1));
                let mut left = Vec::new();
                for mut one in growing {
                    match one.step(bench, shape).await {
                        Ok(()) => left.push(one),
                        Err(failure) => bench.record_failure(VOLUME, shape.name, &one.contender, &failure),
                    }
                }
                growing = left;
            }
            for one in growing {
                one.end(bench, shape).await;
            }
        }
        Ok(())
    }
}

impl GrowingLog {
    fn new(contender: Arc<dyn Contender>, opened: Arc<dyn Opened>) -> Self {
        Self { contender, opened, rates: Vec::new(), events: 0, elapsed: Duration::ZERO, next_stream: 0, last_seen: 0 }
    }

    async fn step(&mut self, bench: &Bench, shape: &VolumeShape) -> Result<(), Failure> {
        let left = bench.plan.volume_time.saturating_sub(self.elapsed);
        if left.is_zero() {
            return Ok(());
        }
        let one_stream = shape.per_stream == u64::MAX;
        let writers = Writers {
            count: shape.writers,
            per_commit: shape.per_commit,
            payload: bench.plan.payload,
            tagging: Tagging::Spread(shape.tags),
            conditional: false,
            per_stream: shape.per_stream,
            first_stream: self.next_stream,
            first_event: if one_stream { self.events } else { 0 },
            first_seen: if one_stream { self.last_seen } else { 0 },
        };
        let events = bench.plan.volume / STEPS;
        let measured = drive::run(&self.opened, writers, Stop::after_events(events, left)).await?;
        self.events += measured.events;
        self.elapsed += measured.elapsed;
        self.last_seen = measured.last_seen;
        if !one_stream {
            self.next_stream = measured.next_stream;
        }
        // A step that the time limit has stopped may be too short for a figure.
        if measured.events * 2 >= events || self.rates.is_empty() {
            self.rates.push(measured.per_second());
        }
        Ok(())
    }

    async fn end(self, bench: &mut Bench, shape: &VolumeShape) {
        let name = self.contender.name();
        for rate in &self.rates {
            bench.report.add(VOLUME, shape.name, name, Unit::EventsPerSecond, *rate);
        }
        if let [first, .., last] = self.rates[..] {
            let case = format!("{}, last to first", shape.name);
            bench.report.add(VOLUME, &case, name, Unit::Flatness, last / first);
        }
        if self.events + STEPS < bench.plan.volume {
            let after = format!("stopped by time at {} events ({})", number(self.events as f64), shape.name);
            bench.report.skip(VOLUME, name, after);
        }
        if let Err(failure) = self.opened.close().await {
            bench.record_failure(VOLUME, shape.name, &self.contender, &failure);
        }
    }
}
