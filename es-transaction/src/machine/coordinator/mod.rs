//! [`CoordinatorState`]: a transaction at its coordinator.

mod message;
mod recover;

#[cfg(test)]
mod tests;

use serde_json::Value;

pub use message::{AbortReason, Call, CoordinatorAct, CoordinatorInput, Damage, TransactionPlan};
pub use recover::RecoverError;

use super::record::{LogRecord, RecordedParticipant};
use super::termination::{Asker, StateReport, Termination, terminate};
use crate::participant::{Finished, Outcome, Protocol, Vote};

/// The state of one transaction at its coordinator.
///
/// The driver passes each input to [`on`](Self::on) and executes the acts that it returns:
///
/// - Each call is answered, or reported as [failed](CoordinatorInput::Failed), before it is repeated.
/// - [`outstanding`](Self::outstanding) returns the calls to repeat, after a pause. The driver leaves out those in
///   progress.
/// - Records are written in the order of their numbers. If the outcome of a write is unknown, or the log refuses the
///   record because a later epoch of the coordinator has begun, the driver drops the state and tells the caller that
///   the outcome is unknown. The log, or the later epoch, has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CoordinatorState {
    protocol: Protocol,
    allows_one_phase: bool,
    members: Vec<Member>,
    phase: CoordinatorPhase,
    /// The number of records that were written, also of those that are not known to be durable.
    records: u32,
    has_decision_record: bool,
    /// Whether an operator accepts the damage that the answers so far show.
    is_forgotten: bool,
    abort_reason: Option<AbortReason>,
}

/// The phase of a transaction at its coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CoordinatorPhase {
    /// The participants vote.
    Preparing,
    /// The participant that is prepared decides.
    OnePhase,
    /// The record `pre-committing` is written.
    RecordingPreCommit {
        /// The number of the record.
        record: u32,
    },
    /// The participants are pre-committed.
    PreCommitting,
    /// The coordinator has recovered, and applies the termination rule.
    Terminating {
        /// The states of the participants, as far as they are known.
        reports: Vec<Option<StateReport>>,
        /// The participant that is pre-committed now.
        pre_committing: Option<usize>,
    },
    /// The decision is written.
    Deciding {
        /// The number of the record.
        record: u32,
        /// The decision.
        outcome: Outcome,
    },
    /// The participants are told of the decision.
    Finishing {
        /// The decision.
        outcome: Outcome,
    },
    /// All participants have answered, and one contradicts the decision. An operator must forget the transaction.
    Damaged {
        /// The decision.
        outcome: Outcome,
    },
    /// The last record is written.
    Ending {
        /// The number of the record.
        record: u32,
        /// The decision.
        outcome: Outcome,
    },
    /// Nothing is left to do.
    Ended {
        /// The decision.
        outcome: Outcome,
    },
}

/// A participant in the state of the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Member {
    name: String,
    prepared: Option<Value>,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    /// Its vote was not received.
    Voting,
    /// It voted read-only or no, and takes no further part.
    Left,
    Prepared,
    /// It did not answer the pre-commit.
    Silent,
    /// It answered the pre-commit that it does not know the transaction.
    Lost,
    PreCommitted,
    Finished(Finished),
}

impl Member {
    fn is_unfinished(&self) -> bool {
        !matches!(self.step, Step::Left | Step::Finished(_))
    }
}

impl CoordinatorState {
    /// Begins a transaction, and returns its first acts.
    #[must_use]
    pub fn begin(plan: TransactionPlan) -> (Self, Vec<CoordinatorAct>) {
        let member = |name| Member { name, prepared: None, step: Step::Voting };
        let members = plan.participants.into_iter().map(member).collect();
        let mut state = Self::new(plan.protocol, members, CoordinatorPhase::Preparing);
        state.allows_one_phase = plan.allows_one_phase;
        let mut acts = state.outstanding();
        acts.extend(state.count_votes());
        (state, acts)
    }

    fn new(protocol: Protocol, members: Vec<Member>, phase: CoordinatorPhase) -> Self {
        Self {
            protocol,
            allows_one_phase: false,
            members,
            phase,
            records: 0,
            has_decision_record: false,
            is_forgotten: false,
            abort_reason: None,
        }
    }

    /// Returns the names of the participants. The index of a participant is its place among them.
    pub fn participants(&self) -> impl ExactSizeIterator<Item = &str> {
        self.members.iter().map(|member| member.name.as_str())
    }

    /// Returns what the `prepare` of a participant returned, if its vote was received.
    #[must_use]
    pub fn prepared(&self, participant: usize) -> Option<&Value> {
        self.members.get(participant).and_then(|member| member.prepared.as_ref())
    }

    /// Returns whether a decided transaction waits for the answer of a participant.
    #[must_use]
    pub fn waits_for(&self, participant: usize) -> bool {
        let is_finishing = matches!(self.phase, CoordinatorPhase::Finishing { .. });
        is_finishing && self.members.get(participant).is_some_and(Member::is_unfinished)
    }

    /// Returns the protocol.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Returns the phase.
    #[must_use]
    pub const fn phase(&self) -> &CoordinatorPhase {
        &self.phase
    }

    /// Returns the decision if it is durable, or needs no record.
    #[must_use]
    pub const fn outcome(&self) -> Option<Outcome> {
        match self.phase {
            CoordinatorPhase::Finishing { outcome }
            | CoordinatorPhase::Damaged { outcome }
            | CoordinatorPhase::Ending { outcome, .. }
            | CoordinatorPhase::Ended { outcome } => Some(outcome),
            _ => None,
        }
    }

    /// Returns the damage that the answers so far show: those that contradict the decision.
    #[must_use]
    pub fn damage(&self) -> Option<Damage> {
        let outcome = self.outcome()?;
        self.members.iter().filter_map(|member| damage_of(member.step, outcome)).max()
    }

    /// Returns the calls whose answers are missing. In the phase
    /// [`PreCommitting`](CoordinatorPhase::PreCommitting) these include the calls that failed.
    #[must_use]
    pub fn outstanding(&self) -> Vec<CoordinatorAct> {
        match &self.phase {
            CoordinatorPhase::Preparing => self.send(Call::Prepare, |member| member.step == Step::Voting),
            CoordinatorPhase::OnePhase => self.send(Call::Commit, Member::is_unfinished),
            CoordinatorPhase::PreCommitting => {
                self.send(Call::PreCommit, |member| matches!(member.step, Step::Prepared | Step::Silent))
            }
            CoordinatorPhase::Terminating { pre_committing: Some(participant), .. } => {
                vec![CoordinatorAct::Send { to: *participant, call: Call::PreCommit }]
            }
            CoordinatorPhase::Terminating { reports, pre_committing: None } => {
                let missing = reports.iter().enumerate().filter(|(_, report)| report.is_none());
                missing.map(|(to, _)| CoordinatorAct::Send { to, call: Call::Status }).collect()
            }
            CoordinatorPhase::Finishing { outcome: Outcome::Committed } => {
                self.send(Call::Commit, Member::is_unfinished)
            }
            CoordinatorPhase::Finishing { outcome: Outcome::Aborted } => self.send(Call::Abort, Member::is_unfinished),
            _ => Vec::new(),
        }
    }

    fn send(&self, call: Call, is_called: impl Fn(&Member) -> bool) -> Vec<CoordinatorAct> {
        let called = self.members.iter().enumerate().filter(|(_, member)| is_called(member));
        called.map(|(to, _)| CoordinatorAct::Send { to, call }).collect()
    }

    /// Returns what to do after something happened. An input that does not fit the phase has no effect, so that inputs
    /// may be repeated and late.
    pub fn on(&mut self, input: CoordinatorInput) -> Vec<CoordinatorAct> {
        match input {
            CoordinatorInput::Voted { from, vote } => self.on_vote(from, vote),
            CoordinatorInput::PreCommitted { from, finished } => self.on_pre_commit(from, Some(finished)),
            CoordinatorInput::Finished { from, finished } => self.on_finished(from, finished),
            CoordinatorInput::Reported { from, report } => self.on_report(from, report),
            CoordinatorInput::Failed { from, call } => match call {
                Call::Prepare if self.is_voting(from) => self.abort(AbortReason::Unavailable { participant: from }),
                Call::PreCommit => self.on_pre_commit(from, None),
                Call::Status => self.on_report(from, StateReport::Unreachable),
                // These are repeated until they are answered.
                Call::Prepare | Call::Commit | Call::Abort | Call::Forget => Vec::new(),
            },
            CoordinatorInput::Durable { record } => self.on_durable(record),
            CoordinatorInput::Refused { record, reason } => self.on_refused(record, reason),
            // Later the transaction may be committed already, by a participant or by the record that is written.
            CoordinatorInput::GiveUp if self.phase == CoordinatorPhase::Preparing => self.abort(AbortReason::GivenUp),
            CoordinatorInput::GiveUp => Vec::new(),
            CoordinatorInput::Forget => match self.phase {
                CoordinatorPhase::Damaged { outcome } => self.end(LogRecord::Forgotten, outcome),
                CoordinatorPhase::Finishing { .. } => {
                    self.is_forgotten = self.damage().is_some();
                    Vec::new()
                }
                _ => Vec::new(),
            },
        }
    }

    fn is_voting(&self, from: usize) -> bool {
        let is_voting = self.members.get(from).is_some_and(|member| member.step == Step::Voting);
        is_voting && self.phase == CoordinatorPhase::Preparing
    }

    fn on_vote(&mut self, from: usize, vote: Vote<Value>) -> Vec<CoordinatorAct> {
        if !self.is_voting(from) {
            return Vec::new();
        }
        let member = &mut self.members[from];
        match vote {
            Vote::Prepared(prepared) => {
                member.prepared = Some(prepared);
                member.step = Step::Prepared;
            }
            Vote::ReadOnly => member.step = Step::Left,
            Vote::No { reason } => {
                member.step = Step::Left;
                return self.abort(AbortReason::Refused { participant: from, reason });
            }
        }
        self.count_votes()
    }

    fn count_votes(&mut self) -> Vec<CoordinatorAct> {
        if self.members.iter().any(|member| member.step == Step::Voting) {
            return Vec::new();
        }
        let prepared = self.members.iter().filter(|member| member.step == Step::Prepared).count();
        match self.protocol {
            _ if prepared == 0 => {
                self.phase = CoordinatorPhase::Ended { outcome: Outcome::Committed };
                vec![self.report(Outcome::Committed)]
            }
            _ if prepared == 1 && self.allows_one_phase => {
                self.phase = CoordinatorPhase::OnePhase;
                self.outstanding()
            }
            Protocol::TwoPhase => self.decide(Outcome::Committed),
            Protocol::ThreePhase => {
                let write = self.write(LogRecord::PreCommitting { participants: self.recorded() });
                self.phase = CoordinatorPhase::RecordingPreCommit { record: self.records };
                vec![write]
            }
        }
    }

    /// Aborts before anything is recorded.
    fn abort(&mut self, reason: AbortReason) -> Vec<CoordinatorAct> {
        self.abort_reason = Some(reason);
        self.finish(Outcome::Aborted)
    }

    fn decide(&mut self, outcome: Outcome) -> Vec<CoordinatorAct> {
        let write = self.write_decision(outcome);
        self.phase = CoordinatorPhase::Deciding { record: self.records, outcome };
        vec![write]
    }

    /// Reports the outcome and tells the participants of it.
    fn finish(&mut self, outcome: Outcome) -> Vec<CoordinatorAct> {
        self.phase = CoordinatorPhase::Finishing { outcome };
        let mut acts = vec![self.report(outcome)];
        acts.extend(self.outstanding());
        acts.extend(self.count_answers(outcome));
        acts
    }

    fn on_pre_commit(&mut self, from: usize, answer: Option<Finished>) -> Vec<CoordinatorAct> {
        if let CoordinatorPhase::Terminating { pre_committing: Some(participant), .. } = self.phase {
            return if participant == from { self.ask_again() } else { Vec::new() };
        }
        let Some(member) = self.members.get_mut(from).filter(|_| self.phase == CoordinatorPhase::PreCommitting) else {
            return Vec::new();
        };
        if !matches!(member.step, Step::Prepared | Step::Silent) {
            return Vec::new();
        }
        member.step = match answer {
            Some(Finished::Done) => Step::PreCommitted,
            Some(Finished::Heuristic(outcome)) => {
                if outcome == Outcome::Aborted {
                    self.abort_reason = Some(AbortReason::Terminated { participant: Some(from) });
                }
                return self.decide(outcome);
            }
            Some(Finished::Unknown) => Step::Lost,
            None => Step::Silent,
        };
        self.count_pre_commits()
    }

    /// Decides if each participant has answered the pre-commit or is down. A participant that is down learns the
    /// outcome later. At least one must have answered: if the coordinator crashed, too, those that are prepared would
    /// otherwise abort.
    fn count_pre_commits(&mut self) -> Vec<CoordinatorAct> {
        let has = |step| self.members.iter().any(|member| member.step == step);
        if has(Step::Prepared) {
            return Vec::new();
        }
        if has(Step::PreCommitted) {
            return self.decide(Outcome::Committed);
        }
        if has(Step::Silent) {
            return Vec::new();
        }
        // No participant has anything to commit any more.
        self.abort_reason = Some(AbortReason::Terminated { participant: None });
        self.decide(Outcome::Aborted)
    }

    fn on_report(&mut self, from: usize, report: StateReport) -> Vec<CoordinatorAct> {
        let CoordinatorPhase::Terminating { reports, pre_committing: None } = &mut self.phase else {
            return Vec::new();
        };
        if let Some(missing) = reports.get_mut(from).filter(|known| known.is_none()) {
            *missing = Some(report);
        }
        let Some(known) = reports.iter().copied().collect::<Option<Vec<StateReport>>>() else { return Vec::new() };
        match terminate(Asker::Coordinator, &known) {
            Termination::Commit => self.decide(Outcome::Committed),
            Termination::Abort => {
                self.abort_reason = Some(AbortReason::Terminated { participant: None });
                self.decide(Outcome::Aborted)
            }
            Termination::PreCommit { participant } => {
                self.phase = self.terminating(Some(participant));
                self.outstanding()
            }
            Termination::Wait => {
                self.phase = self.terminating(None);
                Vec::new()
            }
        }
    }

    fn ask_again(&mut self) -> Vec<CoordinatorAct> {
        self.phase = self.terminating(None);
        self.outstanding()
    }

    fn terminating(&self, pre_committing: Option<usize>) -> CoordinatorPhase {
        CoordinatorPhase::Terminating { reports: vec![None; self.members.len()], pre_committing }
    }

    fn on_finished(&mut self, from: usize, finished: Finished) -> Vec<CoordinatorAct> {
        let Some(member) = self.members.get_mut(from).filter(|member| member.is_unfinished()) else {
            return Vec::new();
        };
        match self.phase {
            CoordinatorPhase::OnePhase => {
                // The participant is the only place where the transaction has an effect, so its answer is the outcome.
                let is_committed = matches!(finished, Finished::Done | Finished::Heuristic(Outcome::Committed));
                let outcome = if is_committed { Outcome::Committed } else { Outcome::Aborted };
                member.step = if finished == Finished::Unknown { Step::Left } else { Step::Finished(finished) };
                if !is_committed {
                    self.abort_reason = Some(AbortReason::Terminated { participant: Some(from) });
                }
                self.finish(outcome)
            }
            CoordinatorPhase::Finishing { outcome } => {
                member.step = Step::Finished(finished);
                let mut acts = Vec::new();
                if damage_of(member.step, outcome).is_some() {
                    let participant = member.name.clone();
                    if !self.has_decision_record {
                        acts.push(self.write_decision(outcome));
                    }
                    acts.push(self.write(LogRecord::Finished { participant, finished }));
                }
                acts.extend(self.count_answers(outcome));
                acts
            }
            _ => Vec::new(),
        }
    }

    /// Ends the transaction if all participants have answered.
    fn count_answers(&mut self, outcome: Outcome) -> Vec<CoordinatorAct> {
        if self.members.iter().any(Member::is_unfinished) {
            return Vec::new();
        }
        if self.damage().is_some() {
            if self.is_forgotten {
                return self.end(LogRecord::Forgotten, outcome);
            }
            self.phase = CoordinatorPhase::Damaged { outcome };
            return Vec::new();
        }
        if self.records > 0 {
            return self.end(LogRecord::Ended, outcome);
        }
        self.phase = CoordinatorPhase::Ended { outcome };
        self.forget_heuristics()
    }

    fn end(&mut self, last: LogRecord, outcome: Outcome) -> Vec<CoordinatorAct> {
        let write = self.write(last);
        self.phase = CoordinatorPhase::Ending { record: self.records, outcome };
        vec![write]
    }

    fn on_durable(&mut self, durable: u32) -> Vec<CoordinatorAct> {
        match self.phase {
            CoordinatorPhase::RecordingPreCommit { record } if record <= durable => {
                self.phase = CoordinatorPhase::PreCommitting;
                self.outstanding()
            }
            CoordinatorPhase::Deciding { record, outcome } if record <= durable => self.finish(outcome),
            CoordinatorPhase::Ending { record, outcome } if record <= durable => {
                self.phase = CoordinatorPhase::Ended { outcome };
                self.forget_heuristics()
            }
            _ => Vec::new(),
        }
    }

    /// Has the participants forget heuristic outcomes, which are the same as the decision or were accepted.
    fn forget_heuristics(&self) -> Vec<CoordinatorAct> {
        self.send(Call::Forget, |member| matches!(member.step, Step::Finished(Finished::Heuristic(_))))
    }

    /// Aborts a two-phase commit whose decision was refused together with the changes of the coordinator's own store.
    /// Nobody was told of it, and it is the first record.
    fn on_refused(&mut self, refused: u32, reason: String) -> Vec<CoordinatorAct> {
        match self.phase {
            CoordinatorPhase::Deciding { record, outcome: Outcome::Committed } if record == refused => {
                self.records = refused.saturating_sub(1);
                self.has_decision_record = false;
                self.abort(AbortReason::Own { reason })
            }
            _ => Vec::new(),
        }
    }

    fn report(&self, outcome: Outcome) -> CoordinatorAct {
        CoordinatorAct::Report { outcome, reason: self.abort_reason.clone() }
    }

    fn write(&mut self, record: LogRecord) -> CoordinatorAct {
        self.records += 1;
        CoordinatorAct::Write { number: self.records, record }
    }

    fn write_decision(&mut self, outcome: Outcome) -> CoordinatorAct {
        self.has_decision_record = true;
        let record = LogRecord::Decided { outcome, protocol: self.protocol, participants: self.recorded() };
        self.write(record)
    }

    /// Returns the participants that take further part.
    fn recorded(&self) -> Vec<RecordedParticipant> {
        let members = self.members.iter().filter(|member| member.step != Step::Left);
        members
            .map(|member| RecordedParticipant { name: member.name.clone(), prepared: member.prepared.clone() })
            .collect()
    }
}

/// Returns the damage that the answer of a participant shows.
fn damage_of(step: Step, outcome: Outcome) -> Option<Damage> {
    match step {
        Step::Finished(Finished::Heuristic(other)) if other != outcome => Some(Damage::Mixed),
        Step::Finished(Finished::Unknown) if outcome == Outcome::Committed => Some(Damage::Hazard),
        _ => None,
    }
}
