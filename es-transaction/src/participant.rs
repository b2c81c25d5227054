//! [`Participant`]: a resource that takes part in a transaction.

use std::future::Future;
use std::time::Duration;

use es_core::model::{CoordinatorEpoch, Timestamp, TransactionId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A resource that takes part in a transaction, such as a store of aggregates, or a service.
///
/// ```text
///   prepare --> Prepared, locked --> commit --> Committed          every call may be repeated,
///      |              |       \----> abort ---> Aborted            also after a restart of either side
///      |              +--> pre_commit (three-phase commit only)
///      +--> No, ReadOnly: takes no further part
/// ```
///
/// A participant that has voted [`Vote::Prepared`] can commit and can abort, whatever happens, also after a crash. It
/// waits for the outcome, unless it declares a heuristic outcome, which is reported if it contradicts the decision.
/// Calls are repeated until they succeed, so each must return the same result when it is repeated. The semantics are
/// those of X/Open XA, with presumed abort (Mohan, Lindsay 1983).
pub trait Participant: Send + Sync + 'static {
    /// What the participant is asked to do, for example a command.
    type Request: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What [`prepare`](Self::prepare) returns. The coordinator stores it with its decision and hands it back.
    type Prepared: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// Returns the name of the participant, which is unique among the participants of a coordinator and never changes.
    fn name(&self) -> &str;

    /// Decides on the request, and makes it durable so that it can be committed and aborted. Nobody sees its effects
    /// before the commit. The same transaction and request may be prepared again and return the same vote.
    ///
    /// # Errors
    /// [`ParticipantError`] if it is not known whether the participant is prepared.
    fn prepare(
        &self,
        prepare: &Prepare,
        request: &Self::Request,
    ) -> impl Future<Output = Result<Vote<Self::Prepared>, ParticipantError>> + Send;

    /// Records that all participants are prepared. Only three-phase commit calls it.
    ///
    /// # Errors
    /// [`ParticipantError`]. The default returns [`ParticipantError::Unsupported`].
    fn pre_commit(
        &self,
        transaction: &TransactionId,
        prepared: &Self::Prepared,
    ) -> impl Future<Output = Result<Finished, ParticipantError>> + Send {
        let _ = (transaction, prepared);
        async { Err(ParticipantError::Unsupported { operation: "pre_commit" }) }
    }

    /// Makes the effects of the transaction visible, and releases its locks.
    ///
    /// # Errors
    /// [`ParticipantError`] if it is not known whether the participant has committed. The call is repeated.
    fn commit(
        &self,
        transaction: &TransactionId,
        prepared: &Self::Prepared,
    ) -> impl Future<Output = Result<Finished, ParticipantError>> + Send;

    /// Removes what was prepared, and releases its locks. A transaction that the participant does not know is aborted
    /// already. `prepared` is `None` if the vote of the participant was not received.
    ///
    /// # Errors
    /// [`ParticipantError`] if it is not known whether the participant has aborted. The call is repeated.
    fn abort(
        &self,
        transaction: &TransactionId,
        prepared: Option<&Self::Prepared>,
    ) -> impl Future<Output = Result<Finished, ParticipantError>> + Send;

    /// Returns what the participant knows of a transaction.
    ///
    /// # Errors
    /// [`ParticipantError`] if the participant cannot be reached, or cannot read its state.
    fn status(
        &self,
        transaction: &TransactionId,
    ) -> impl Future<Output = Result<ParticipantStatus, ParticipantError>> + Send;

    /// Returns the transactions of a coordinator that are prepared here without an outcome, and those with a heuristic
    /// outcome that is not forgotten. From then on it refuses to prepare transactions of earlier epochs of the
    /// coordinator.
    ///
    /// # Errors
    /// [`ParticipantError`] if the participant cannot be reached, or cannot read its state.
    fn in_doubt(
        &self,
        epoch: &CoordinatorEpoch,
    ) -> impl Future<Output = Result<Vec<TransactionId>, ParticipantError>> + Send;

    /// Forgets a heuristic outcome. The coordinator calls it after an operator has accepted the outcome.
    ///
    /// # Errors
    /// [`ParticipantError`] if it is not known whether the outcome is forgotten. The default forgets nothing.
    fn forget(&self, transaction: &TransactionId) -> impl Future<Output = Result<(), ParticipantError>> + Send {
        let _ = transaction;
        async { Ok(()) }
    }
}

/// The protocol of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Prepare, then commit or abort. Participants wait for the coordinator, however long it is unavailable.
    TwoPhase,
    /// Prepare, pre-commit, then commit or abort (Skeen 1981). Participants decide without the coordinator if it
    /// crashes. It does not survive a partition of the network.
    ThreePhase,
}

/// The first message of a transaction to a participant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// The transaction.
    pub transaction: TransactionId,
    /// The protocol.
    pub protocol: Protocol,
    /// The names of all participants. The termination rule of three-phase commit needs them.
    pub participants: Vec<String>,
    /// The time, in milliseconds, within which the coordinator expects the vote. A participant waits no longer for a
    /// lock of another transaction.
    pub timeout_ms: u64,
}

impl Prepare {
    /// Returns the time within which the coordinator expects the vote.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// The vote of a participant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vote<P> {
    /// The participant is prepared.
    Prepared(P),
    /// The request changes nothing. The participant takes no further part, and holds no lock.
    ReadOnly,
    /// The participant refuses the request. The transaction aborts.
    No {
        /// The reason, for the caller of the transaction.
        reason: String,
    },
}

/// The outcome of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All effects are visible.
    Committed,
    /// No effect is visible.
    Aborted,
}

/// The answer of a participant to a pre-commit, a commit or an abort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finished {
    /// The participant has followed the coordinator.
    Done,
    /// The participant had decided on its own before, or an operator for it. The outcome may contradict the decision of
    /// the coordinator.
    Heuristic(Outcome),
    /// The participant does not know what it is asked to commit: it has lost its state, or was restored from an old
    /// backup. Its part may not have been done.
    Unknown,
}

/// What a participant knows of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParticipantStatus {
    /// The state.
    pub state: ParticipantState,
    /// Whether the participant, or an operator for it, decided without the coordinator.
    pub is_heuristic: bool,
    /// Whether the participant has restarted since the transaction was prepared. The termination rule of three-phase
    /// commit needs it: the other participants may have decided while this one was down.
    pub has_restarted: bool,
    /// The time at which the transaction was prepared.
    pub prepared_at: Option<Timestamp>,
}

/// The state of a transaction at a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParticipantState {
    /// The participant does not know the transaction: it was never prepared here.
    Unknown,
    /// Prepared, in doubt.
    Prepared,
    /// Prepared, and told that all participants are.
    PreCommitted,
    /// Committed.
    Committed,
    /// Aborted.
    Aborted,
}

/// A call to a participant failed. It may have had an effect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParticipantError {
    /// The participant could not be reached, did not answer in time, or its infrastructure failed. The call is
    /// repeated.
    #[error("participant {participant:?} is unavailable")]
    Unavailable {
        /// The name of the participant.
        participant: String,
        /// The failure.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The participant cannot read its state. It is left alone and reported: nothing is concluded from it.
    #[error(
        "participant {participant:?} cannot read its state: {detail}; repair it; the coordinator then repeats the call"
    )]
    Unreadable {
        /// The name of the participant.
        participant: String,
        /// The failure.
        detail: String,
    },
    /// Another process has taken over the coordinator. This one must stop.
    #[error("a later epoch of coordinator {:?} is known, {known}, found {found}; another process has taken over",
        found.coordinator())]
    Fenced {
        /// The newest epoch that the participant knows.
        known: CoordinatorEpoch,
        /// The epoch of the call.
        found: CoordinatorEpoch,
    },
    /// The participant refused the call, for example because the coordinator is not known to it. A repeated call fails
    /// in the same way.
    #[error("participant {participant:?} refused the call: {detail}")]
    Refused {
        /// The name of the participant.
        participant: String,
        /// The reason.
        detail: String,
    },
    /// The participant does not implement the operation.
    #[error("the participant does not implement {operation}; use two-phase commit")]
    Unsupported {
        /// The operation.
        operation: &'static str,
    },
}
