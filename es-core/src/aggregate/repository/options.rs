//! The options of an execution: those of all its commands, and the precondition of one command.

use std::fmt;

use crate::aggregate::repository::command_id::Binding;
use crate::aggregate::repository::loaded::Loaded;
use crate::aggregate::repository::unit::Stop;
use crate::model::{Context, ExpectedRevision, Metadata, StreamId, Timestamp, TransactionId, Version};
use crate::store::{Commit, Conflict, FailedCheck, StoreError};

/// The options that all commands of an execution share.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// The command id, and the commands that it is bound to.
    pub(super) binding: Option<Binding>,
    /// The time in the domain at which the commands take effect, or `None` for the time of the call.
    pub(super) occurred_at: Option<Timestamp>,
    /// The metadata of every event.
    pub(super) metadata: Metadata,
    /// The context, or `None` for that of the current task.
    pub(super) context: Option<Context>,
    /// The conditions of the commit that the caller added. For a batch, also its other events and rows.
    pub(super) conditions: Commit,
    /// The transaction in which the commands are prepared instead of committed.
    pub(super) preparation: Option<Preparation>,
}

/// A transaction in which commands are prepared.
pub(super) struct Preparation {
    pub(super) transaction: TransactionId,
    /// What the participant keeps with the prepared transaction.
    pub(super) details: serde_json::Value,
    /// Adds the rows of the participant to the commit that locks these streams.
    pub(super) rows: Box<AddRows>,
}

/// Adds rows to the commit that locks streams.
pub(super) type AddRows = dyn Fn(&[StreamId], Commit) -> Result<Commit, StoreError> + Send + Sync;

impl fmt::Debug for Preparation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preparation").field("transaction", &self.transaction).finish_non_exhaustive()
    }
}

impl Preparation {
    /// Returns the commit that prepares the events of a commit.
    pub(super) fn prepare(&self, commit: Commit) -> Result<Commit, StoreError> {
        let commit = commit.prepare(&self.transaction, &self.details)?;
        let streams: Vec<StreamId> = commit.events().iter().map(|(stream, _)| stream.clone()).collect();
        (self.rows)(&streams, commit)
    }
}

/// The condition of a caller on the stored aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precondition {
    #[default]
    None,
    Revision(ExpectedRevision),
    Version(Version),
}

impl Precondition {
    /// Checks the stored state. Returns a conflict if the condition does not hold.
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
