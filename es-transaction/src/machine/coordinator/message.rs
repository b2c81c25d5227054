//! What passes between the state of a transaction and its driver.

use serde_json::Value;

use crate::machine::record::LogRecord;
use crate::machine::termination::StateReport;
use crate::participant::{Finished, Outcome, Protocol, Vote};

/// What a transaction consists of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TransactionPlan {
    /// The protocol.
    pub protocol: Protocol,
    /// The names of the participants, each once.
    pub participants: Vec<String>,
    /// Whether the transaction may commit without a record if exactly one participant is prepared: nothing else
    /// changes together with it.
    ///
    /// A recovery aborts such a transaction if it is in doubt. If the commit of the previous epoch arrives between the
    /// question and the abort, the recovered coordinator reports [`Damage::Mixed`] although nothing is damaged.
    pub allows_one_phase: bool,
}

/// A call to a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// [`Participant::prepare`](crate::Participant::prepare).
    Prepare,
    /// [`Participant::pre_commit`](crate::Participant::pre_commit).
    PreCommit,
    /// [`Participant::commit`](crate::Participant::commit).
    Commit,
    /// [`Participant::abort`](crate::Participant::abort).
    Abort,
    /// [`Participant::status`](crate::Participant::status).
    Status,
    /// [`Participant::forget`](crate::Participant::forget). No answer is expected.
    Forget,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CoordinatorInput {
    /// A participant voted.
    Voted {
        /// The participant.
        from: usize,
        /// The vote.
        vote: Vote<Value>,
    },
    /// A participant answered the pre-commit.
    PreCommitted {
        /// The participant.
        from: usize,
        /// The answer.
        finished: Finished,
    },
    /// A participant answered the commit or the abort.
    Finished {
        /// The participant.
        from: usize,
        /// The answer.
        finished: Finished,
    },
    /// A participant reported its state.
    Reported {
        /// The participant.
        from: usize,
        /// The state.
        report: StateReport,
    },
    /// A call failed, or was not answered in time. It may have had an effect.
    Failed {
        /// The participant.
        from: usize,
        /// The call.
        call: Call,
    },
    /// A record is durable, and so are all records before it.
    Durable {
        /// The number of the record.
        record: u32,
    },
    /// The decision to commit was not written: the changes that the coordinator's own store would have made in the same
    /// commit were refused. Nothing was written.
    Refused {
        /// The number of the record.
        record: u32,
        /// The reason.
        reason: String,
    },
    /// The caller no longer waits. The transaction aborts if its participants still vote; later it continues.
    GiveUp,
    /// An operator accepts the damage. While participants have not answered yet, it has an effect if there is damage
    /// already, at their last answer.
    Forget,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CoordinatorAct {
    /// Call a participant.
    Send {
        /// The participant.
        to: usize,
        /// The call.
        call: Call,
    },
    /// Append a record to the log, and report when it is durable.
    Write {
        /// The number of the record in this process, from 1.
        number: u32,
        /// The record.
        record: LogRecord,
    },
    /// Tell the caller the outcome.
    Report {
        /// The outcome.
        outcome: Outcome,
        /// Why the transaction aborted.
        reason: Option<AbortReason>,
    },
}

/// Why a transaction aborted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AbortReason {
    /// A participant voted no.
    Refused {
        /// The participant.
        participant: usize,
        /// Its reason.
        reason: String,
    },
    /// The coordinator's own store refused its changes.
    Own {
        /// The reason.
        reason: String,
    },
    /// A participant did not vote.
    Unavailable {
        /// The participant.
        participant: usize,
    },
    /// The caller no longer waited.
    GivenUp,
    /// A participant aborted before it was told, or the termination rule of three-phase commit did.
    Terminated {
        /// The participant, if one aborted.
        participant: Option<usize>,
    },
    /// The coordinator restarted before it had recorded anything.
    Restarted,
}

/// How the participants contradict a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Damage {
    /// A participant does not know the transaction that it is to commit. Its part may not have been done.
    Hazard,
    /// A participant has the opposite outcome.
    Mixed,
}
