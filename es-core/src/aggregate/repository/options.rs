//! What a caller can ask for beside the commands themselves: of one command, or of all commands of a unit of work.

use crate::aggregate::repository::load::Loaded;
use crate::aggregate::repository::unit::Stop;
use crate::model::CommandId;
use crate::model::{Context, ExpectedRevision, Metadata, StreamId, Timestamp, Version};
use crate::store::{Commit, Conflict, FailedCheck};

/// How commands are executed.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) command_id: Option<CommandId>,
    /// When the commands take effect in the domain; `None` for the time of the call.
    pub(super) occurred_at: Option<Timestamp>,
    /// The metadata of every event.
    pub(super) metadata: Metadata,
    /// `None` for the context of the running task.
    pub(super) context: Option<Context>,
    /// The conditions of the commit that do not follow from the commands.
    pub(super) conditions: Commit,
}

/// What a command demands of the stored aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Demand {
    #[default]
    None,
    Revision(ExpectedRevision),
    Version(Version),
}

impl Demand {
    /// Checks the stored state.
    pub(super) fn check<A, R>(self, stream: &StreamId, stored: &Loaded<A>) -> Result<(), Stop<R>> {
        let failed = match self {
            Self::Revision(expected) if !expected.is_met_by(stored.revision) => {
                FailedCheck::Revision { stream: stream.clone(), expected, actual: stored.revision }
            }
            Self::Version(expected) if stored.version() != Some(expected) => {
                FailedCheck::Version { stream: stream.clone(), expected, actual: stored.version() }
            }
            _ => return Ok(()),
        };
        Err(Stop::Conflict(Conflict { failed: vec![failed] }))
    }
}
