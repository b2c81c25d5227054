//! [`ParticipantRecord`]: a transaction at a participant that keeps its state durably.

use serde::{Deserialize, Serialize};

use super::termination::{Asker, StateReport, Termination, terminate};
use crate::participant::{Finished, Outcome, ParticipantState, Protocol};

/// The state of a transaction at a participant.
///
/// ```text
///                 abort (it may arrive before prepare)
///   Unknown -------------------------------------> Aborted
///      | prepared                                     ^
///      v                     abort, termination       |
///   Prepared -- pre_commit --> PreCommitted ----------+
///      |                          |
///      +----- commit -------------+--> Committed
/// ```
///
/// The participant makes a changed record durable, together with the effects of the change, before it answers. Of the
/// fields, only the states of other participants in [`begin_round`](Self::begin_round) are not durable, and a record
/// that was read from the disk is passed to [`restarted`](Self::restarted) before it is used.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ParticipantRecord {
    state: ParticipantState,
    protocol: Protocol,
    is_heuristic: bool,
    #[serde(skip)]
    has_restarted: bool,
    #[serde(skip)]
    round: Option<TerminationRound>,
}

/// What a participant does that is asked to prepare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrepareAnswer {
    /// It decides on the request, and calls [`ParticipantRecord::prepared`] if it votes prepared.
    Decide,
    /// It returns its first vote again, and changes nothing.
    Repeat,
    /// It votes no: the transaction is aborted.
    Refuse,
}

/// The states of the other participants, as far as they have been asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct TerminationRound {
    own: usize,
    count: usize,
    /// The reports of the first participants other than this one.
    others: Vec<StateReport>,
}

impl TerminationRound {
    fn next(&self) -> Option<usize> {
        let next = self.others.len() + usize::from(self.others.len() >= self.own);
        (next < self.count).then_some(next)
    }
}

impl Default for ParticipantRecord {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

impl ParticipantRecord {
    /// A transaction that the participant does not know.
    pub const UNKNOWN: Self = Self {
        state: ParticipantState::Unknown,
        protocol: Protocol::TwoPhase,
        is_heuristic: false,
        has_restarted: false,
        round: None,
    };

    /// Returns the state.
    #[must_use]
    pub const fn state(&self) -> ParticipantState {
        self.state
    }

    /// Returns whether an operator, or the participant on its own, decided without the coordinator, and nobody has
    /// forgotten it.
    #[must_use]
    pub const fn is_heuristic(&self) -> bool {
        self.is_heuristic
    }

    /// Returns whether the participant has restarted while it was in doubt. Two-phase commit does not need it.
    #[must_use]
    pub const fn has_restarted(&self) -> bool {
        self.has_restarted
    }

    /// Returns the protocol; two-phase commit for a transaction that was never prepared.
    pub(crate) const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Returns whether the participant holds its locks and waits for the outcome.
    #[must_use]
    pub const fn is_in_doubt(&self) -> bool {
        matches!(self.state, ParticipantState::Prepared | ParticipantState::PreCommitted)
    }

    /// Continues after a restart, or after the participant was unreachable for longer than the timeout of a call.
    pub fn restarted(&mut self) {
        self.round = None;
        self.has_restarted |= self.protocol == Protocol::ThreePhase && self.is_in_doubt();
    }

    /// Returns what to do with a call of [`prepare`](crate::Participant::prepare).
    #[must_use]
    pub const fn prepare(&self) -> PrepareAnswer {
        match self.state {
            ParticipantState::Unknown => PrepareAnswer::Decide,
            // The vote was yes, so a repeated or late call changes nothing.
            ParticipantState::Prepared | ParticipantState::PreCommitted | ParticipantState::Committed => {
                PrepareAnswer::Repeat
            }
            ParticipantState::Aborted => PrepareAnswer::Refuse,
        }
    }

    /// Records that the participant votes prepared. It has no effect if the transaction is known.
    pub fn prepared(&mut self, protocol: Protocol) {
        if self.state == ParticipantState::Unknown {
            self.protocol = protocol;
            self.set(ParticipantState::Prepared);
        }
    }

    /// Records that all participants are prepared, and returns the answer.
    pub fn pre_commit(&mut self) -> Finished {
        match self.state {
            ParticipantState::Unknown => return Finished::Unknown,
            ParticipantState::Prepared => self.set(ParticipantState::PreCommitted),
            ParticipantState::PreCommitted => {}
            ParticipantState::Committed => return self.finished(Outcome::Committed, Outcome::Committed),
            ParticipantState::Aborted => return self.finished(Outcome::Aborted, Outcome::Committed),
        }
        Finished::Done
    }

    /// Commits, and returns the answer.
    pub fn commit(&mut self) -> Finished {
        match self.state {
            ParticipantState::Unknown => Finished::Unknown,
            ParticipantState::Prepared | ParticipantState::PreCommitted => {
                self.set(ParticipantState::Committed);
                Finished::Done
            }
            ParticipantState::Committed => self.finished(Outcome::Committed, Outcome::Committed),
            ParticipantState::Aborted => self.finished(Outcome::Aborted, Outcome::Committed),
        }
    }

    /// Aborts, and returns the answer. An unknown transaction is recorded as aborted, so that a prepare that arrives
    /// late does not lock anything. The record of an aborted two-phase commit that is not heuristic may be deleted at
    /// any time: a late prepare then stays in doubt until the recovery of the coordinator aborts it. The record of a
    /// three-phase commit is kept until the coordinator has called with the outcome, and longer than others may be in
    /// doubt: the [termination rule](crate::machine::terminate) takes a participant that has forgotten for one that
    /// was not asked to prepare.
    pub fn abort(&mut self) -> Finished {
        match self.state {
            ParticipantState::Unknown | ParticipantState::Prepared | ParticipantState::PreCommitted => {
                self.set(ParticipantState::Aborted);
                Finished::Done
            }
            ParticipantState::Committed => self.finished(Outcome::Committed, Outcome::Aborted),
            ParticipantState::Aborted => self.finished(Outcome::Aborted, Outcome::Aborted),
        }
    }

    /// Decides without the coordinator, for an operator. Returns whether the transaction was in doubt; otherwise it
    /// has no effect.
    pub fn decide_heuristically(&mut self, outcome: Outcome) -> bool {
        let is_in_doubt = self.is_in_doubt();
        if is_in_doubt {
            self.set(state_after(outcome));
            self.is_heuristic = true;
        }
        is_in_doubt
    }

    /// Forgets that the outcome was heuristic. The outcome itself stays.
    pub fn forget(&mut self) {
        self.is_heuristic = false;
    }

    /// Returns the report for another participant, or for the coordinator. A round that is in progress ends, because
    /// its result could contradict the report.
    pub fn report(&mut self) -> StateReport {
        self.round = None;
        self.current()
    }

    /// Begins to ask the other participants, and returns whether it does: a three-phase commit is in doubt. `own` is
    /// the index of this participant among the `count` names of [`Prepare::participants`](crate::Prepare).
    ///
    /// Call it if the coordinator is down. The answers of calls that an earlier round made are dropped.
    pub fn begin_round(&mut self, own: usize, count: usize) -> bool {
        let is_begun = self.protocol == Protocol::ThreePhase && self.is_in_doubt() && own < count;
        self.round = is_begun.then(|| TerminationRound { own, count, others: Vec::new() });
        is_begun
    }

    /// Returns whether a round is in progress.
    #[must_use]
    pub const fn has_round(&self) -> bool {
        self.round.is_some()
    }

    /// Returns the index of the participant to ask now. `None` if no round is in progress, or if all have been asked.
    #[must_use]
    pub fn next_to_ask(&self) -> Option<usize> {
        self.round.as_ref().and_then(TerminationRound::next)
    }

    /// Adds the report of the participant that was to be asked.
    pub fn on_report(&mut self, report: StateReport) {
        if let Some(round) = self.round.as_mut().filter(|round| round.next().is_some()) {
            round.others.push(report);
        }
    }

    /// Ends the round and applies its result, which it returns. It returns `None`, and has no effect, unless a round is
    /// in progress and all others have been asked.
    pub fn end_round(&mut self) -> Option<Termination> {
        let round = self.round.take_if(|round| round.next().is_none())?;
        let mut reports = round.others;
        reports.insert(round.own.min(reports.len()), self.current());
        let termination = terminate(Asker::Participant(round.own), &reports);
        match termination {
            Termination::Commit => self.set(ParticipantState::Committed),
            Termination::Abort => self.set(ParticipantState::Aborted),
            Termination::PreCommit { .. } => self.set(ParticipantState::PreCommitted),
            Termination::Wait => {}
        }
        Some(termination)
    }

    fn set(&mut self, state: ParticipantState) {
        self.state = state;
        // The coordinator, or an operator, was faster than the round.
        if !self.is_in_doubt() {
            self.round = None;
            self.has_restarted = false;
        }
    }

    const fn current(&self) -> StateReport {
        StateReport::Reached { state: self.state, has_restarted: self.has_restarted }
    }

    /// Returns the answer to a call that wants an outcome if the participant has one.
    fn finished(&self, own: Outcome, wanted: Outcome) -> Finished {
        if self.is_heuristic || own != wanted { Finished::Heuristic(own) } else { Finished::Done }
    }
}

const fn state_after(outcome: Outcome) -> ParticipantState {
    match outcome {
        Outcome::Committed => ParticipantState::Committed,
        Outcome::Aborted => ParticipantState::Aborted,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ParticipantState::{Aborted, Committed, PreCommitted, Prepared, Unknown};
    use super::*;

    const STATES: [ParticipantState; 5] = [Unknown, Prepared, PreCommitted, Committed, Aborted];

    fn record(state: ParticipantState) -> ParticipantRecord {
        ParticipantRecord { state, protocol: Protocol::ThreePhase, ..ParticipantRecord::UNKNOWN }
    }

    fn up(state: ParticipantState) -> StateReport {
        StateReport::Reached { state, has_restarted: false }
    }

    #[test]
    fn calls_are_answered_in_every_state() {
        use Finished::{Done, Heuristic};
        let committed = Heuristic(Outcome::Committed);
        let aborted = Heuristic(Outcome::Aborted);
        type Method = fn(&mut ParticipantRecord) -> Finished;
        for (call, answers, after) in [
            (
                ParticipantRecord::pre_commit as Method,
                [Finished::Unknown, Done, Done, Done, aborted],
                [Unknown, PreCommitted, PreCommitted, Committed, Aborted],
            ),
            (
                ParticipantRecord::commit,
                [Finished::Unknown, Done, Done, Done, aborted],
                [Unknown, Committed, Committed, Committed, Aborted],
            ),
            (
                ParticipantRecord::abort,
                [Done, Done, Done, committed, Done],
                [Aborted, Aborted, Aborted, Committed, Aborted],
            ),
        ] {
            for ((before, answer), after) in STATES.into_iter().zip(answers).zip(after) {
                let mut record = record(before);
                assert_eq!((call(&mut record), record.state()), (answer, after), "{before:?}");
                assert_eq!((call(&mut record), record.state()), (answer, after), "{before:?}, repeated");
            }
        }
    }

    #[test]
    fn a_late_prepare_of_an_aborted_transaction_is_refused() {
        let mut record = ParticipantRecord::UNKNOWN;
        assert_eq!(record.prepare(), PrepareAnswer::Decide);
        assert_eq!(record.abort(), Finished::Done);
        assert_eq!(record.prepare(), PrepareAnswer::Refuse);
        record.prepared(Protocol::TwoPhase);
        assert_eq!(record.state(), Aborted);
    }

    #[test]
    fn a_heuristic_outcome_is_reported_until_it_is_forgotten() {
        let mut record = record(Prepared);
        assert!(record.decide_heuristically(Outcome::Committed));
        assert!(!record.decide_heuristically(Outcome::Aborted));
        assert_eq!(record.commit(), Finished::Heuristic(Outcome::Committed));
        record.forget();
        assert_eq!(record.commit(), Finished::Done);
        assert_eq!(record.abort(), Finished::Heuristic(Outcome::Committed));
    }

    #[test]
    fn a_round_asks_the_others_in_order() {
        let mut record = record(Prepared);
        assert!(record.begin_round(1, 3));
        assert_eq!(record.next_to_ask(), Some(0));
        assert_eq!(record.end_round(), None);
        record.on_report(StateReport::Unreachable);
        assert_eq!(record.next_to_ask(), Some(2));
        record.on_report(up(PreCommitted));
        assert_eq!(record.next_to_ask(), None);
        assert_eq!(record.end_round(), Some(Termination::PreCommit { participant: 1 }));
        assert_eq!(record.state(), PreCommitted);
    }

    #[test]
    fn a_participant_that_reports_its_state_begins_its_round_again() {
        let mut record = record(Prepared);
        assert!(record.begin_round(0, 2));
        record.on_report(up(Prepared));
        assert_eq!(record.report(), up(Prepared));
        assert_eq!(record.end_round(), None);
    }

    #[test]
    fn a_participant_of_a_two_phase_commit_never_decides() {
        let mut record = ParticipantRecord::UNKNOWN;
        record.prepared(Protocol::TwoPhase);
        record.restarted();
        assert!(!record.begin_round(0, 2));
        assert_eq!((record.end_round(), record.has_restarted()), (None, false));
    }

    #[test]
    fn a_restart_is_not_part_of_the_durable_record() {
        let mut before = record(Prepared);
        before.begin_round(0, 2);
        let text = serde_json::to_string(&before).unwrap();
        assert_eq!(text, r#"{"state":"prepared","protocol":"three-phase","is_heuristic":false}"#);
        let mut after: ParticipantRecord = serde_json::from_str(&text).unwrap();
        after.restarted();
        assert_eq!(after.report(), StateReport::Reached { state: Prepared, has_restarted: true });
    }

    proptest! {
        #[test]
        fn an_outcome_never_changes(calls in prop::collection::vec(0..9u8, 0..24)) {
            let mut record = ParticipantRecord::UNKNOWN;
            let mut outcome = None;
            for call in calls {
                match call {
                    0 => record.prepared(Protocol::ThreePhase),
                    1 => drop(record.pre_commit()),
                    2 => drop(record.commit()),
                    3 => drop(record.abort()),
                    4 => drop(record.decide_heuristically(Outcome::Aborted)),
                    5 => record.restarted(),
                    6 => drop(record.begin_round(0, 2)),
                    7 => record.on_report(up(Prepared)),
                    _ => drop(record.end_round()),
                }
                prop_assert!(outcome.is_none_or(|outcome| outcome == record.state()));
                outcome = matches!(record.state(), Committed | Aborted).then(|| record.state());
            }
        }
    }
}
