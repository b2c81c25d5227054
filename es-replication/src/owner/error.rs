//! The errors of forwarded commands and of hand-overs.

use es_core::aggregate::{ExecuteError, InfrastructureError, Locked};
use es_core::store::{Conflict, Home, NotOwner};
use es_core::{CommitError, StoreError, StreamId};

use crate::error::{CommitFailure, PeerError, Refusal};
use crate::owner::handlers::may_be_executed;

/// A command was not executed, or its result is unknown: see [`may_be_executed`](Self::may_be_executed).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError<R> {
    /// The domain rejected the command. Nothing was written. Report it to the user.
    #[error("the command is rejected: {0}")]
    Rejected(R),
    /// No peer decides on the aggregate, or its hand-over has not arrived at the next home in time. Nothing was
    /// written. Retry; if the home is lost, [take the stream over](crate::Replica::take_over).
    #[error(transparent)]
    NotOwner(NotOwner),
    /// The home could not be reached. Nothing was sent. Retry, or tell the user that the home is cut off.
    #[error("could not reach {home}, which decides; the command was not sent")]
    Unreachable {
        /// The home.
        home: Home,
        /// The first failure of a peer that may be the home.
        source: PeerError,
    },
    /// The command was sent, and no result arrived. It may have been executed, or be executed later. Repeat it with the
    /// same command id: it counts once.
    #[error("node {node:?} did not answer; repeat the command with the same id, which counts once")]
    Unanswered {
        /// The home.
        node: String,
        /// The failure.
        source: PeerError,
    },
    /// The home did not execute the command: it does not accept commands of this type, other writers were faster in
    /// every attempt, or its content is invalid. Nothing was written.
    #[error("node {node:?} did not execute the command: {reason}")]
    Refused {
        /// The home.
        node: String,
        /// The reason.
        reason: String,
    },
    /// The command cannot be encoded as JSON and decoded again, or a rejection cannot be decoded. Nothing was written.
    #[error("could not encode the command or decode its rejection")]
    Encode(#[from] serde_json::Error),
    /// The command is too long to be forwarded. Nothing was sent.
    #[error("a forwarded command must have at most {max} bytes as JSON, found {found}")]
    TooLong {
        /// The length in bytes.
        found: usize,
        /// The maximum length in bytes.
        max: usize,
    },
    /// Other writers on this node were faster in every attempt. Nothing was written.
    #[error(transparent)]
    Conflict(Conflict),
    /// A distributed transaction locks the aggregate on this node. Nothing was written.
    #[error(transparent)]
    Locked(Locked),
    /// This node failed. See [`InfrastructureError`].
    #[error(transparent)]
    Failed(InfrastructureError),
}

impl<R> ForwardError<R> {
    /// Returns `true` if the command may have been executed, or may be executed later. Repeat it with the same command
    /// id to know. Otherwise it was not executed, and nothing was written.
    #[must_use]
    pub const fn may_be_executed(&self) -> bool {
        match self {
            Self::Unanswered { .. } => true,
            Self::Failed(error) => may_be_executed(error),
            _ => false,
        }
    }
}

impl<R> From<ExecuteError<R>> for ForwardError<R> {
    fn from(error: ExecuteError<R>) -> Self {
        match error {
            ExecuteError::Rejected(rejection) => Self::Rejected(rejection),
            ExecuteError::Conflict(conflict) => Self::Conflict(conflict),
            ExecuteError::Locked(locked) => Self::Locked(locked),
            ExecuteError::NotOwner(error) => Self::NotOwner(error),
            ExecuteError::Failed(error) => Self::Failed(error),
        }
    }
}

/// A stream was not handed over. Nothing was written, except possibly for [`Store`](Self::Store).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandOverError {
    /// Another node decides on the stream. Only the home hands it over.
    #[error(transparent)]
    NotOwner(NotOwner),
    /// The stream has no events on this node, so no home.
    #[error("stream {stream:?} has no events on this node; only a stream with events is handed over")]
    NoEvents {
        /// The stream.
        stream: StreamId,
    },
    /// The next home did not say which origin it has. A stream is handed over only to a node that is reachable.
    #[error("could not ask the next home for its origin")]
    Peer(#[from] PeerError),
    /// The aggregate does not declare `owner` on this node, or the stream was handed over in the meantime.
    #[error(transparent)]
    Refused(Refusal),
    /// The store rejected the event for another reason.
    #[error("could not write the hand-over")]
    Commit(#[source] CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<CommitError> for HandOverError {
    fn from(error: CommitError) -> Self {
        match error.into() {
            CommitFailure::NotOwner(error) => Self::NotOwner(error),
            CommitFailure::Refused(refusal) => Self::Refused(refusal),
            CommitFailure::Commit(error) => Self::Commit(error),
            CommitFailure::Store(error) => Self::Store(error),
        }
    }
}
