//! What is measured: each workload is a module with one implementation of [`Workload`].

pub(crate) mod append;
pub(crate) mod catch_up;
pub(crate) mod footprint;
pub(crate) mod latency;
mod library;
pub(crate) mod load;
pub(crate) mod read;
pub(crate) mod scale;
pub(crate) mod view_latency;
pub(crate) mod volume;

use async_trait::async_trait;

use crate::bench::Bench;
use crate::contender::Task;
use crate::failure::Failure;

/// Something that contenders are asked to do.
#[async_trait]
pub(crate) trait Workload: Send + Sync {
    /// For `--only` and the tables.
    fn name(&self) -> &'static str;
    /// One line for `--list`.
    fn about(&self) -> &'static str;
    /// What a contender must offer to be measured.
    fn task(&self) -> Task;
    /// Whether nobody else is asked for it, so that nobody can be ahead.
    fn is_ours_alone(&self) -> bool {
        false
    }
    /// Measures all that offer it, rounds interleaved, and adds the figures to the report.
    async fn run(&self, bench: &mut Bench) -> Result<(), Failure>;
}

/// All of them, in the order in which they run.
pub(crate) fn all() -> Vec<Box<dyn Workload>> {
    vec![
        Box::new(append::Appends::durable()),
        Box::new(append::Appends::ten()),
        Box::new(append::Appends::buffered()),
        Box::new(append::Appends::conditional()),
        Box::new(load::Load),
        Box::new(read::Read),
        Box::new(latency::Latency),
        Box::new(footprint::Footprint),
        Box::new(volume::Volume),
        Box::new(scale::Scale),
        Box::new(catch_up::CatchUp),
        Box::new(view_latency::ViewLatency),
    ]
}
