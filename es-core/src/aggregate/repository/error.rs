//! The errors of loads and commands.

use crate::model::CommandId;
use crate::model::{NameError, StreamId, TransactionId};
use crate::model::{Position, Revision, found};
use crate::model::{TimeAheadOfLog, Timestamp};
use crate::schema::{DecodeEventError, EncodeEventError};
use crate::store::home::NotOwner;
use crate::store::{CommitError, Conflict, IdConflict, InvalidCommit, StoreError, TagError};

/// The state of an aggregate could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The id cannot be part of a stream name. Check it where it enters the domain.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The aggregate's event type cannot decode an event of the stream.
    #[error("could not read stream {stream:?}, revision {revision} (position {position})")]
    Event {
        /// The stream.
        stream: StreamId,
        /// The revision of the event.
        revision: Revision,
        /// The position of the event.
        position: Position,
        /// The decode error.
        source: DecodeEventError,
    },
    /// The requested revision is after the last one of the stream.
    #[error("stream {stream:?}: expected to reach revision {wanted}, found {}; ask for a lower one", found(*.actual))]
    NotYet {
        /// The stream.
        stream: StreamId,
        /// The requested revision.
        wanted: Revision,
        /// The last revision, or `None` if there is no stream.
        actual: Option<Revision>,
    },
    /// The requested time is in the future, so that the state may still change.
    #[error(transparent)]
    TimeAheadOfLog(#[from] TimeAheadOfLog),
    /// A [rule](crate::retention) has truncated events that the state needs, and no snapshot covers them. Widen or
    /// clear the rule, which helps unless a scavenge has removed the events. Take snapshots before events are
    /// truncated. To start an aggregate from scratch, delete its stream instead.
    #[error(
        "stream {stream:?}: expected its events from revision {from} on, found the first at {first}: revisions {from} \
         to {} were truncated and no snapshot covers them; widen the rule, or keep a snapshot",
        .first.get().saturating_sub(1)
    )]
    Truncated {
        /// The stream.
        stream: StreamId,
        /// The first revision that the load needs.
        from: Revision,
        /// The first retained revision, or the one after the last if none is retained.
        first: Revision,
    },
    /// A late event precedes more events than a load can sort in memory. Take snapshots of the aggregate, so that fewer
    /// events follow the newest one.
    #[error(
        "stream {stream:?}: expected at most {max} events to sort after the newest usable snapshot, found more; take \
         snapshots of the aggregate"
    )]
    TooManyEvents {
        /// The stream.
        stream: StreamId,
        /// The maximum number of events that a load sorts.
        max: usize,
    },
    /// The requested revision is before the last deletion of the stream.
    #[error("stream {stream:?}: expected a revision from {begins} on, found {wanted}: earlier events were deleted")]
    Deleted {
        /// The stream.
        stream: StreamId,
        /// The requested revision.
        wanted: Revision,
        /// The revision at which the stream begins.
        begins: Revision,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A distributed transaction that is not decided yet locks an aggregate. Nothing was written. Repeat the command later:
/// the transaction is decided as soon as its coordinator is available. An operator sees it in the list of transactions
/// in doubt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stream {stream:?} is locked by transaction {transaction}, which is not decided yet; repeat the command later")]
pub struct Locked {
    /// The stream of the aggregate.
    pub stream: StreamId,
    /// The transaction.
    pub transaction: TransactionId,
}

/// A command failed.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError<R> {
    /// The domain rejected the command. Nothing was written. Report it to the user.
    #[error("the command is rejected: {0}")]
    Rejected(R),
    /// A precondition of the caller does not hold, or other writers were faster in every attempt. Nothing was written.
    /// Reload, and let the user decide again.
    #[error(transparent)]
    Conflict(Conflict),
    /// A distributed transaction locked the aggregate for longer than the command
    /// [waits](super::Repository::with_lock_wait).
    #[error(transparent)]
    Locked(Locked),
    /// Another node decides on the aggregate, which declares `owner`. Nothing was written. Send the command there.
    #[error(transparent)]
    NotOwner(NotOwner),
    /// The infrastructure failed. The command may be valid. See [`InfrastructureError`].
    #[error(transparent)]
    Failed(InfrastructureError),
}

impl<R> ExecuteError<R> {
    /// Returns the conflict, if the error is one.
    #[must_use]
    pub const fn conflict(&self) -> Option<&Conflict> {
        match self {
            Self::Conflict(conflict) => Some(conflict),
            _ => None,
        }
    }

    /// Returns the rejection by the domain, if the error is one.
    #[must_use]
    pub const fn rejection(&self) -> Option<&R> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }
}

impl<R, E: Into<InfrastructureError>> From<E> for ExecuteError<R> {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The infrastructure failed during the execution of a command.
#[derive(Debug, thiserror::Error)]
pub enum InfrastructureError {
    /// The state could not be loaded.
    #[error("could not load the aggregate")]
    Load(#[from] LoadError),
    /// An event could not be encoded.
    #[error("could not encode an event")]
    Encode(#[from] EncodeEventError),
    /// The commit exceeds a limit that does not depend on the log, such as the number of events or bytes.
    #[error("could not commit")]
    Invalid(#[from] InvalidCommit),
    /// A [hook](crate::store::implement::DecisionHook) of the store, such as an inline projection, rejected the commit.
    /// Nothing was written.
    #[error("a hook of the store rejected the commit")]
    Rejected(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An append condition selects events of the aggregate type by a tag, and an older event lacks the tag. Nothing was
    /// written. See [`TagError::Incomplete`].
    #[error("could not check an append condition by tags")]
    Tags(#[from] TagError),
    /// The decision claims or releases unique keys but has no events. Key changes are stored with an event, so add one
    /// that records what happened.
    #[error(
        "stream {stream:?}: expected an event that claims or releases the unique keys, found a decision without \
         events; add an event to the decision"
    )]
    KeysWithoutEvent {
        /// The stream of the aggregate.
        stream: StreamId,
    },
    /// The log already contains an event id of the commit. Ids that this crate generates are unique: report this as a
    /// bug.
    #[error("could not commit")]
    IdConflict(#[from] IdConflict),
    /// The store failed. The command may have been executed. Repeat it with the same command id; a repeated command is
    /// not executed twice.
    #[error("could not commit")]
    Store(#[from] StoreError),
    /// The command id was used for another command to the same aggregate: one of another type, with other content, or
    /// at another time of the domain. Nothing was written now. Use a command id for one command only.
    #[error("command id {command_id:?} was used for {first}, found {repeated}; use another command id")]
    CommandIdReused {
        /// The command id.
        command_id: CommandId,
        /// The types of the commands that were executed under the id, and their streams.
        first: String,
        /// The types of the commands that were refused, and their streams.
        repeated: String,
    },
    /// The command id cannot be bound to the command. Nothing was written.
    #[error("could not bind command id {command_id:?} to its commands: {detail}")]
    UnboundCommand {
        /// The command id.
        command_id: CommandId,
        /// The reason, and what to do.
        detail: &'static str,
    },
    /// The stored first result of this command id cannot be decoded: the row is damaged, or another version wrote it.
    #[error("command {command_id:?}: could not use its stored first result: {detail}; use another command id")]
    CommandResult {
        /// The command id.
        command_id: CommandId,
        /// The difference between the expected and the stored result.
        detail: String,
    },
    /// The command was executed before under this id, but [retention](crate::retention) has hidden or removed events of
    /// its first result. Nothing was written now. Treat the command as executed.
    #[error(
        "command {command_id:?} was executed, but events of its result in stream {stream:?} were removed since; treat \
         it as executed"
    )]
    ResultRemoved {
        /// The command id.
        command_id: CommandId,
        /// The stream of the events.
        stream: StreamId,
    },
    /// A repository of a unit of work uses another store than the unit. Nothing was written. Create the repositories
    /// and the unit from clones of one `Arc<dyn EventStore>`.
    #[error(
        "the repository of stream {stream:?} uses another store than the unit of work; create both from clones of one \
         Arc<dyn EventStore>"
    )]
    OtherStore {
        /// The stream of the command.
        stream: StreamId,
    },
    /// A [`Plan`](crate::aggregate::Plan) was completed with a commit that does not contain its events. Pass the result
    /// of the commit to which the plan was added.
    #[error("the commit does not contain the events of the plan for stream {stream:?}")]
    NotCommitted {
        /// The stream of the plan.
        stream: StreamId,
    },
}

impl From<NameError> for InfrastructureError {
    fn from(error: NameError) -> Self {
        Self::Load(error.into())
    }
}

/// Separates a conflict from the other errors of a commit.
pub(crate) fn conflict_or_failure(error: CommitError) -> Result<Conflict, InfrastructureError> {
    match error {
        CommitError::Conflict(conflict) => Ok(conflict),
        CommitError::IdConflict(error) => Err(error.into()),
        CommitError::Invalid(error) => Err(error.into()),
        CommitError::Rejected(error) => Err(InfrastructureError::Rejected(error)),
        CommitError::Store(error) => Err(error.into()),
    }
}

/// The time of a past state, for [`Repository::load_at`](super::Repository::load_at).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// The state that the store had at this time: all events recorded up to then. It must not be in the future.
    Recorded(Timestamp),
    /// The state of the domain at this time, as known today: all events that occurred up to then, whenever they were
    /// recorded, in the order of the stream.
    Occurred(Timestamp),
}
