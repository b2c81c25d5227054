//! The recovery of a transaction from the log.

use super::message::{AbortReason, CoordinatorAct};
use super::{CoordinatorPhase, CoordinatorState, Member, Step};
use crate::machine::record::{LogRecord, RecordedParticipant};
use crate::participant::{Outcome, Protocol};

/// The records of a transaction contradict each other. The transaction is left alone and reported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// A record does not follow from the records before it.
    #[error("record {number} of the transaction is {found}, expected {expected}; inspect the log of the coordinator")]
    Order {
        /// The number of the record, from 1.
        number: u32,
        /// The kind of the record.
        found: &'static str,
        /// The kinds that may follow.
        expected: &'static str,
    },
    /// A record names a participant that the decision does not have.
    #[error("record {number} of the transaction names {participant:?}, which is not a participant of its decision")]
    Participant {
        /// The number of the record, from 1.
        number: u32,
        /// The participant.
        participant: String,
    },
}

impl CoordinatorState {
    /// Continues a transaction after the process that ran it has ended, or a later epoch of the coordinator has begun:
    /// nobody else can write records of the transaction. Returns its state and the first acts.
    ///
    /// | records | what happens |
    /// |---|---|
    /// | none | abort, at the participants that `in_doubt` names |
    /// | `pre-committing` | all participants are asked, and the [termination rule](crate::machine::terminate) applies |
    /// | `decided` | the participants without a `finished` record are told again |
    /// | `ended`, `forgotten` | nothing |
    ///
    /// `in_doubt` has the names of the participants that [report](crate::Participant::in_doubt) the transaction:
    ///
    /// - Without a record the transaction was never pre-committed, so that no participant can have committed it by the
    ///   termination rule.
    /// - If nobody reports it either, there is nothing to recover, and its outcome is not known: it may have changed
    ///   nothing, or have committed in one phase.
    /// - A participant that reports it, but is not named by its records, prepared again after it had voted read-only.
    ///   The caller aborts it there.
    ///
    /// # Errors
    /// [`RecoverError`] if the records contradict each other.
    pub fn recover(records: &[LogRecord], in_doubt: Vec<String>) -> Result<(Self, Vec<CoordinatorAct>), RecoverError> {
        let mut folded: Option<Self> = None;
        for (number, record) in (1..).zip(records) {
            let mut next = fold(folded.take(), number, record)?;
            next.records = number;
            folded = Some(next);
        }
        let mut state = folded.unwrap_or_else(|| presumed_aborted(in_doubt));
        let mut acts = state.outstanding();
        if let CoordinatorPhase::Finishing { outcome } = state.phase {
            acts.extend(state.count_answers(outcome));
        }
        Ok((state, acts))
    }
}

fn presumed_aborted(in_doubt: Vec<String>) -> CoordinatorState {
    let member = |name| Member { name, prepared: None, step: Step::Voting };
    let phase = CoordinatorPhase::Finishing { outcome: Outcome::Aborted };
    // The protocol is not known, and does not matter for an abort.
    let mut state = CoordinatorState::new(Protocol::TwoPhase, in_doubt.into_iter().map(member).collect(), phase);
    state.abort_reason = Some(AbortReason::Restarted);
    state
}

fn fold(state: Option<CoordinatorState>, number: u32, record: &LogRecord) -> Result<CoordinatorState, RecoverError> {
    let error = |found, expected| RecoverError::Order { number, found, expected };
    match (record, state) {
        (LogRecord::PreCommitting { participants }, None) => {
            let phase = CoordinatorPhase::Terminating { reports: vec![None; participants.len()], pre_committing: None };
            Ok(CoordinatorState::new(Protocol::ThreePhase, members(participants), phase))
        }
        (LogRecord::PreCommitting { .. }, Some(_)) => Err(error("pre-committing", "no record before it")),
        (LogRecord::Decided { outcome, protocol, participants }, state) => {
            if state.is_some_and(|state| state.outcome().is_some()) {
                return Err(error("decided", "finished, ended or forgotten"));
            }
            let phase = CoordinatorPhase::Finishing { outcome: *outcome };
            let mut state = CoordinatorState::new(*protocol, members(participants), phase);
            state.has_decision_record = true;
            Ok(state)
        }
        (LogRecord::Finished { participant, finished }, Some(mut state)) if is_finishing(&state) => {
            let mut members = state.members.iter_mut();
            match members.find(|member| member.name == *participant) {
                Some(member) => member.step = Step::Finished(*finished),
                None => return Err(RecoverError::Participant { number, participant: participant.clone() }),
            }
            Ok(state)
        }
        (LogRecord::Finished { .. }, _) => Err(error("finished", "pre-committing or decided")),
        (LogRecord::Ended | LogRecord::Forgotten, Some(mut state)) if is_finishing(&state) => {
            let outcome = state.outcome().unwrap_or(Outcome::Aborted);
            state.phase = CoordinatorPhase::Ended { outcome };
            Ok(state)
        }
        (LogRecord::Ended, _) => Err(error("ended", "pre-committing or decided")),
        (LogRecord::Forgotten, _) => Err(error("forgotten", "pre-committing or decided")),
    }
}

fn is_finishing(state: &CoordinatorState) -> bool {
    matches!(state.phase, CoordinatorPhase::Finishing { .. })
}

fn members(participants: &[RecordedParticipant]) -> Vec<Member> {
    let member = |participant: &RecordedParticipant| Member {
        name: participant.name.clone(),
        prepared: participant.prepared.clone(),
        step: if participant.prepared.is_some() { Step::Prepared } else { Step::Voting },
    };
    participants.iter().map(member).collect()
}
