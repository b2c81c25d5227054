//! Projections in the background: [`Supervisor`], its workers, and [`ProjectionAdmin`].
//!
//! ```text
//!   ProjectionAdmin: pause, resume, reset, rebuild, retry, skip
//!       |
//!       | writes rows, which the runner reads
//!       v
//!   Supervisor -- one task per projection --> Runner: lease, prepare, repartition, follow
//!       |                                        |
//!       | restarts it after a failure            +-- Follower per partition: subscription --> apply --> Commit
//!       |                                        +-- the same for the generation that is being built
//!       +-- ProjectionHandle: status, wait_for   +-- sweep: removes the rows of retired generations
//! ```
//!
//! One commit holds the rows, the checkpoint, and the condition that the lease, the control row and the checkpoint are
//! unchanged. Therefore each event is applied exactly once, also when a worker is killed, restarted, or replaced while
//! it still runs.
//!
//! Not in this module: effects outside of the store, and any knowledge of a particular view.

mod admin;
mod cleanup;
mod control;
mod feed;
mod follower;
pub mod metrics;
mod options;
mod parked;
mod partition_log;
mod pipeline;
mod plan;
mod progress;
mod retry;
mod rows;
mod runner;
mod schedule;
mod status;
mod supervisor;

pub use admin::{AdminError, ProjectionAdmin};
pub use control::RebuildFrom;
pub use options::{MAX_PARTITIONS, ProjectionOptions, RebuildErrors};
pub use parked::{ParkedEvent, ParkedKey};
pub(crate) use parked::{count_parked, is_any_parked};
pub(crate) use rows::worker_rows;
pub use status::{LastError, ProjectionState, ProjectionStatus, RebuildStatus, SettledStatus};
pub use supervisor::{ProjectionHandle, RunningProjections, Supervisor};
