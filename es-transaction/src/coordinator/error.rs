//! The errors of a coordinator.

use es_core::StoreError;
use es_core::model::{ParseTransactionIdError, TransactionId};

/// A coordinator could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartCoordinatorError {
    /// The name is invalid. Choose another one.
    #[error(transparent)]
    Name(#[from] ParseTransactionIdError),
    /// Two participants have the same name. Give each its own.
    #[error("duplicate participant {name:?}; give each participant of a coordinator its own name")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// Another process runs the coordinator. Stop it, or wait until its lease has expired.
    #[error("coordinator {name:?} runs in another process; stop it, or wait until its lease has expired")]
    Held {
        /// The name of the coordinator.
        name: String,
    },
    /// The caller is outside of a tokio runtime.
    #[error("a coordinator must be started in a tokio runtime")]
    NoRuntime,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A transaction did not commit, or its outcome is not known.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError<E> {
    /// The function returned an error. Nothing was prepared.
    #[error("nothing was prepared, because the function of the transaction failed: {0}")]
    Function(E),
    /// The function did not return in time. Nothing was prepared.
    #[error("transaction {transaction}: the function did not return in time; nothing was prepared")]
    TimedOut {
        /// The transaction.
        transaction: TransactionId,
    },
    /// The transaction aborted. No change is visible anywhere.
    #[error("transaction {transaction} aborted: {reason}")]
    Aborted {
        /// The transaction.
        transaction: TransactionId,
        /// The reason.
        reason: String,
    },
    /// The outcome is not known: the store failed, or the coordinator stopped or lost its lease. The transaction is
    /// committed or aborted later, in all places alike. If it has a recorded decision,
    /// [`Transactions::outcome`](super::Transactions::outcome) returns it after a restart of the coordinator. A commit
    /// of the coordinator's own store only, or in one phase at a single prepared participant, has no record: read the
    /// store or the participant then.
    #[error("the outcome of transaction {transaction} is not known yet; look it up after a restart of the coordinator")]
    Unknown {
        /// The transaction.
        transaction: TransactionId,
    },
    /// The coordinator has been shut down, its store failed while a record was written, or another process has taken
    /// over. Nothing was prepared. After a failure of the store, start the coordinator again.
    #[error(
        "the coordinator has stopped: it was shut down, its store failed, or another process has taken over; start the \
         coordinator again, or begin the transaction in the other process"
    )]
    Stopped,
}

/// A participant could not be enlisted.
#[derive(Debug, thiserror::Error)]
pub enum EnlistError {
    /// The participant is not registered with the coordinator, which could not reach it after a restart.
    #[error("participant {participant:?} is not registered; register it with the coordinator before it starts")]
    Unregistered {
        /// The participant.
        participant: String,
    },
    /// The participant is enlisted already. Put all of its changes into one request.
    #[error("participant {participant:?} is enlisted already; put all of its changes into one request")]
    Twice {
        /// The participant.
        participant: String,
    },
    /// The request could not be written as JSON.
    #[error("the request to participant {participant:?} could not be written as JSON")]
    Request {
        /// The participant.
        participant: String,
        /// The failure.
        source: serde_json::Error,
    },
}

/// An operator's action on a transaction failed.
#[derive(Debug, thiserror::Error)]
pub enum OperateTransactionError {
    /// The coordinator has no unfinished transaction with this id.
    #[error("this coordinator has no unfinished transaction {transaction}")]
    NotUnfinished {
        /// The transaction.
        transaction: TransactionId,
    },
    /// Only a transaction whose participants contradict the decision can be forgotten. Others end by themselves.
    #[error("transaction {transaction} has no damage to forget; it ends when all participants have answered")]
    NoDamage {
        /// The transaction.
        transaction: TransactionId,
    },
    /// The transaction is not decided, or the participant has answered.
    #[error("transaction {transaction} does not wait for an answer of participant {participant:?}")]
    NotWaiting {
        /// The transaction.
        transaction: TransactionId,
        /// The participant.
        participant: String,
    },
    /// Participants have not answered yet. The action has an effect when they have, unless the coordinator stops
    /// before.
    #[error(
        "transaction {transaction} has not ended yet: a participant has not answered; resolve it, or repeat the action"
    )]
    NotEnded {
        /// The transaction.
        transaction: TransactionId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The coordinator has been shut down, its store failed while a record was written, or another process has taken
    /// over.
    #[error(
        "the coordinator has stopped: it was shut down, its store failed, or another process has taken over; start the \
         coordinator again"
    )]
    Stopped,
}
