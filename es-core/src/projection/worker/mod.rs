//! The machinery that runs projections: [`Supervisor`], its workers, and [`ProjectionAdmin`], the verbs for people.
//!
//! ```text
//!   Supervisor -- one task per projection --> Runner: claim, prepare, level, follow     <-- rows -- ProjectionAdmin: pause, resume,
//!       |                                        |                                                  reset, rebuild, retry, skip
//!       | starts again after a failure           +-- Follower per partition: subscription --> fold --> Commit
//!       |                                        +-- the same for the generation that is built
//!       +-- ProjectionHandle: status, wait_for   +-- sweep: removes the rows of old generations
//! ```
//!
//! Exactly once is a matter of one commit: it has the rows, the checkpoint, and the demand that the claim, what an operator has
//! asked for and the checkpoint are as they were. Whatever is killed, restarted, or taken for dead and is not, can write nothing
//! twice and nothing out of turn.

mod admin;
mod claim;
mod cleanup;
mod control;
mod follower;
pub mod metrics;
mod options;
mod parked;
mod plan;
mod progress;
mod rows;
mod runner;
mod status;
mod supervisor;

pub use admin::{AdminError, ProjectionAdmin};
pub use control::RebuildFrom;
pub use options::{MAX_PARTITIONS, ProjectionOptions, RebuildErrors};
pub(crate) use parked::is_any_parked;
pub use parked::{ParkedEvent, ParkedKey};
pub(crate) use rows::machinery_rows;
pub use status::{LastError, ProjectionState, ProjectionStatus, RebuildStatus};
pub use supervisor::{ProjectionHandle, RunningProjections, ShutdownError, StartError, Supervisor, WaitError};
