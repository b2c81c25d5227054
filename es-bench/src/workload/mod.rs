//! The workloads: each module has one implementation of [`Workload`].

pub(crate) mod append;
pub(crate) mod catch_up;
mod data_set;
pub(crate) mod encode;
pub(crate) mod footprint;
pub(crate) mod latency;
pub(crate) mod load;
pub(crate) mod read;
pub(crate) mod replication;
pub(crate) mod sagas;
pub(crate) mod scale;
mod transactions;
pub(crate) mod view_latency;
pub(crate) mod volume;

use async_trait::async_trait;

use crate::bench::Bench;
use crate::contender::Task;
use crate::failure::Failure;

/// A measurement of contenders.
#[async_trait]
pub(crate) trait Workload: Send + Sync {
    /// Returns the name for `--only` and the tables.
    fn name(&self) -> &'static str;
    /// Returns one line for `--list`.
    fn about(&self) -> &'static str;
    /// Returns the task that a contender must offer.
    fn task(&self) -> Task;
    /// Returns whether only this project is measured.
    fn is_ours_only(&self) -> bool {
        false
    }
    /// Measures all contenders that offer the task, with interleaved rounds, and adds the figures to the report.
    async fn run(&self, bench: &mut Bench) -> Result<(), Failure>;
}

/// Returns all workloads in the order of execution.
pub(crate) fn all() -> Vec<Box<dyn Workload>> {
    vec![
        Box::new(append::Appends::durable()),
        Box::new(append::Appends::ten()),
        Box::new(append::Appends::buffered()),
        Box::new(append::Appends::conditional()),
        Box::new(encode::Encode),
        Box::new(load::Load),
        Box::new(read::Read),
        Box::new(latency::Latency),
        Box::new(footprint::Footprint),
        Box::new(volume::Volume),
        Box::new(scale::Scale),
        Box::new(catch_up::CatchUp),
        Box::new(view_latency::ViewLatency),
        Box::new(sagas::Sagas),
        Box::new(replication::Replication),
        Box::new(transactions::TransactionRates),
    ]
}
