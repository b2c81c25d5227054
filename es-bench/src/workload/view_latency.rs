//! Latency from a command to its view at a constant rate: until a background view shows it, and until a commit with an
//! inline view is acknowledged, compared with `fdatasync` at the same rate.
//!
//! The load is open, as in [`latency`]: latencies count from when a command was due.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use es_core::prelude::*;
use es_core::projection::inline::Inline;
use es_core::projection::view::{View, Views};
use es_core::projection::{ProjectionHandle, ProjectionOptions, Supervisor};
use es_rocksdb::{Durability, Options};
use serde::{Deserialize, Serialize};

use super::{Workload, latency};
use crate::bench::Bench;
use crate::contender::{Append, Opened, Seen, Task};
use crate::domain::{AddLine, Order, OrderEvent, Sample};
use crate::failure::Failure;
use crate::limits::file;
use crate::ours::ES_ROCKSDB;
use crate::report::stats::{Unit, percentile};

pub(crate) const VIEW_LATENCY: &str = "view-latency";

const PERCENTILES: [(&str, f64); 3] = [(latency::P50, 0.5), (latency::P99, 0.99), ("max", 1.0)];
/// The time limit for a command.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The row of an order and, as [`TOTAL`], of all orders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Lines {
    lines: u64,
    cents: u64,
}

const ORDERS: View<String, Lines> = View::new("orders");
/// The row that every command changes.
const TOTAL: View<(), Lines> = View::new("total");

/// The projection of the lines and the sum of each order and of all orders.
#[derive(Debug, Clone, Copy)]
struct OrderSums;

impl Projection for OrderSums {
    type Source = Order;
    const NAME: &'static str = "order-sums";

    fn apply(&self, event: &OrderEvent, context: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let (lines, cents) = match event {
            OrderEvent::Added(line) => (1, line.cents * u64::from(line.quantity)),
            OrderEvent::Removed(_) => (0, 0),
        };
        let add = |sums: &mut Lines| (sums.lines, sums.cents) = (sums.lines + lines, sums.cents + cents);
        rows.view(&ORDERS)?.update(&context.stream().as_str().to_owned(), add)?;
        rows.view(&TOTAL)?.update(&(), add)
    }
}

/// The kind of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// A command is complete when the background view shows it.
    Background,
    /// The view is part of the commit: a command is complete when it is acknowledged.
    Inline,
}

impl Mode {
    fn case(self, percentile: &str) -> String {
        match self {
            Self::Background => format!("shown in the background, {percentile}"),
            Self::Inline => format!("committed inline, {percentile}"),
        }
    }
}

pub(crate) struct ViewLatency;

#[async_trait]
impl Workload for ViewLatency {
    fn name(&self) -> &'static str {
        VIEW_LATENCY
    }

    fn about(&self) -> &'static str {
        "from a command to its view at a constant rate, in the background and inline: p50, p99, max, compared with \
         fdatasync"
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
        let (duration, rate) = (bench.plan.seconds * 3, f64::from(bench.plan.rate));
        for round in 0..bench.plan.rounds {
            bench.progress(VIEW_LATENCY, &format!("{rate} commands per second, round {}", round + 1));
            let dir = bench.dir()?;
            let syncs = file::syncs(dir.path(), rate, duration, bench.shape.commit + bench.shape.event)?;
            for mode in [Mode::Background, Mode::Inline] {
                let latencies = measure(bench, mode, duration).await?;
                note(bench, mode, latency::FSYNC, &syncs);
                note(bench, mode, ES_ROCKSDB, &latencies);
            }
        }
        Ok(())
    }
}

fn note(bench: &mut Bench, mode: Mode, contender: &str, latencies: &[Duration]) {
    let micros: Vec<f64> = latencies.iter().map(|latency| latency.as_secs_f64() * 1e6).collect();
    for (name, share) in PERCENTILES {
        bench.report.add(VIEW_LATENCY, &mode.case(name), contender, Unit::Microseconds, percentile(&micros, share));
    }
}

async fn measure(bench: &Bench, mode: Mode, duration: Duration) -> Result<Vec<Duration>, Failure> {
    let (dir, rate) = (bench.dir()?, f64::from(bench.plan.rate));
    let commands = latency::WARM + (rate * duration.as_secs_f64()) as u64;
    run(dir.path(), mode, rate, commands, bench.plan.payload).await
}

async fn run(dir: &Path, mode: Mode, rate: f64, commands: u64, payload: usize) -> Result<Vec<Duration>, Failure> {
    let options = Options::new().durability(Durability::Sync);
    let options = if mode == Mode::Inline { options.hook(Inline::new(OrderSums)) } else { options };
    let store = options.open(dir).await.map_err(|error| Failure::new("open the store", error))?;
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    let views = Views::of::<OrderSums>(shared.clone());
    let seen = Arc::new(Seen::default());
    let supervisor = Supervisor::new();
    let supervisor = match mode {
        Mode::Background => supervisor.projection(OrderSums, ProjectionOptions::new()),
        Mode::Inline => supervisor,
    };
    let running = supervisor
        .start(Arc::clone(&shared))
        .await
        .map_err(|error| Failure::caused_by("start a projection", &error))?;
    let viewed = Viewed {
        repository: Repository::new(shared).without_snapshots(),
        views: views.clone(),
        projection: running.projection(OrderSums::NAME).cloned(),
        seen: Arc::clone(&seen),
    };
    let opened: Arc<dyn Opened> = Arc::new(viewed);
    let latencies = latency::paced(&opened, &seen, rate, commands, payload).await?;
    drop(opened);
    running.shutdown(TIMEOUT).await.map_err(|error| Failure::caused_by("stop a projection", &error))?;
    let total = views.view(&TOTAL).get(&()).await.map_err(|error| Failure::caused_by("read the view", &error))?;
    let lines = total.map_or(0, |total| total.lines);
    if lines != commands {
        return Err(Failure::new("read the view", format!("expected {commands} lines in total, found {lines}")));
    }
    store.close().await.map_err(|error| Failure::caused_by("close the store", &error))?;
    Ok(latencies)
}

/// A repository whose commands are complete when their view shows them.
struct Viewed {
    repository: Repository<Order>,
    views: Views,
    /// `None` for an inline view.
    projection: Option<ProjectionHandle>,
    seen: Arc<Seen>,
}

impl Viewed {
    async fn check(&self, order: &str) -> Result<(), Failure> {
        let shown = self.views.view(&ORDERS).get(&order.to_owned()).await;
        match shown.map_err(|error| Failure::caused_by("read the view", &error))? {
            Some(Lines { lines: 1, .. }) => Ok(()),
            other => Err(Failure::new("read the view", format!("expected one line of {order}, found {other:?}"))),
        }
    }
}

#[async_trait]
impl Opened for Viewed {
    async fn append(&self, _: Append) -> Result<u64, Failure> {
        Err(Failure::new("append", "not offered"))
    }

    async fn command(&self, stream: u64, event: Sample) -> Result<(), Failure> {
        let line =
            serde_json::from_slice(&event.payload).map_err(|error| Failure::caused_by("create a command", &error))?;
        let executed = self.repository.execute(&stream, AddLine(line)).await;
        let executed = executed.map_err(|error| Failure::caused_by("execute", &error))?;
        let order = format!("{}-{stream}", crate::domain::CATEGORY);
        match &self.projection {
            Some(projection) => {
                let shown = projection.wait_for(executed.position, TIMEOUT).await;
                shown.map_err(|error| Failure::caused_by("wait for the view", &error))?;
                self.check(&order).await?;
                self.seen.record(&event.payload);
                Ok(())
            }
            None => {
                self.seen.record(&event.payload);
                self.check(&order).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn each_measured_command_has_a_latency_in_both_modes() {
        for mode in [Mode::Background, Mode::Inline] {
            let dir = tempfile::tempdir().unwrap();
            let latencies = run(dir.path(), mode, 2000.0, latency::WARM + 50, 200).await.unwrap();
            assert_eq!(latencies.len(), 50, "{mode:?}");
            assert!(latencies.iter().all(|latency| !latency.is_zero()));
        }
    }
}
