//! The errors of callers and operators of processes.

use es_core::aggregate::LoadError;
use es_core::model::{AheadOfLog, NameError};
use es_core::schema::EncodeEventError;
use es_core::{CommitError, StoreError};

use crate::process::definition::ReactionError;
use crate::process::id::ParseProcessIdError;

/// A process could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessStartError {
    /// The caller is outside of a tokio runtime.
    #[error("no tokio runtime found; start a process from within a tokio runtime")]
    NoRuntime,
    /// The position after which the process starts is ahead of the log.
    #[error(transparent)]
    AheadOfLog(#[from] AheadOfLog),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A signal or a completion was not handled. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// The id is not that of an instance, or it belongs to another process.
    #[error("invalid id of a process")]
    Id(#[from] ParseProcessIdError),
    /// The id cannot be part of a stream name.
    #[error("invalid id of a process")]
    Name(#[from] NameError),
    /// The signal cannot be stored.
    #[error("could not encode the signal")]
    Content(#[from] serde_json::Error),
    /// The instance is not running.
    #[error("process {process:?} is {phase}; expected it to be running")]
    NotRunning {
        /// The id.
        process: String,
        /// The name of the phase.
        phase: &'static str,
    },
    /// The id of the signal belongs to another signal of the instance. Choose another id.
    #[error("signal id {id:?} belongs to another signal of process {process:?}; choose another id")]
    IdReused {
        /// The id of the instance.
        process: String,
        /// The id of the signal.
        id: String,
    },
    /// The wait of the token was never opened.
    #[error("token {token:?} does not belong to a wait; pass the token of an open wait")]
    UnknownToken {
        /// The token.
        token: String,
    },
    /// The instance is quarantined. Send the signal again when an operator has retried it.
    #[error("process {process:?} is quarantined: {reason}; retry it first")]
    Quarantined {
        /// The id.
        process: String,
        /// The reason.
        reason: String,
    },
    /// The process refused the signal or the completion.
    #[error("process {process:?} refused it")]
    Refused {
        /// The id.
        process: String,
        /// The error of the process.
        source: ReactionError,
    },
    /// The instance cannot be read, or its reaction cannot be committed.
    #[error("process {process:?} could not react: {reason}")]
    Failed {
        /// The id.
        process: String,
        /// The reason.
        reason: String,
    },
    /// The store failed. It is not known whether the signal was handled: send it again under the same id.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An action of an operator on a process failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperateProcessError {
    /// The instance does not exist.
    #[error("no process {process:?}")]
    NoProcess {
        /// The id.
        process: String,
    },
    /// The instance is not quarantined.
    #[error("process {process:?} is not quarantined; only a quarantined process can be retried")]
    NotQuarantined {
        /// The id.
        process: String,
    },
    /// The instance has ended.
    #[error("process {process:?} has ended")]
    HasEnded {
        /// The id.
        process: String,
    },
    /// The instance has no pending event.
    #[error("process {process:?} has no pending event")]
    NoPending {
        /// The id.
        process: String,
    },
    /// There is no such parked event.
    #[error("process {process:?} has no parked event at position {position} with index {index}")]
    NoParked {
        /// The name of the process.
        process: String,
        /// The position.
        position: u64,
        /// The index.
        index: u32,
    },
    /// The id cannot be part of a stream name.
    #[error("invalid id of a process")]
    Name(#[from] NameError),
    /// The instance cannot be read. It can be retried or abandoned.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The event cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeEventError),
    /// The commit failed, after several attempts if the instance changed at the same time.
    #[error(transparent)]
    Commit(#[from] CommitError),
}
