//! The task of one transaction: executes the acts of its [`CoordinatorState`].
//!
//! ```text
//!   acts --> calls of participants (in parallel) --answers--> CoordinatorState::on --> acts ...
//!        --> record: one commit, which also has the changes of the coordinator's own store
//!        --> report to the caller
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use es_core::CommitError;
use es_core::aggregate::{CommandBatch, InfrastructureError, UnitError};
use es_core::model::{ErrorChain, TransactionId};
use es_core::store::Committed;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::coordinator::calls::{Answer, CallContext};
use crate::coordinator::log;
use crate::coordinator::shared::{OperatorInput, RunState, Shared};
use crate::hooks::{HookAction, HookPlace};
use crate::machine::{
    AbortReason, Call, CoordinatorAct, CoordinatorInput, CoordinatorPhase, CoordinatorState, Damage, LogRecord,
};
use crate::participant::{Outcome, Prepare};

/// The outcome of a transaction, for its caller.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) outcome: Outcome,
    pub(super) reason: Option<String>,
    /// Whether only the coordinator's own store has changed, in one commit.
    pub(super) is_one_commit: bool,
}

/// What a transaction needs while its participants vote.
pub(super) struct Voting {
    pub(super) prepare: Prepare,
    /// The request to each participant, by name.
    pub(super) requests: BTreeMap<String, Value>,
    /// The changes of the coordinator's own store, which are part of the decision.
    pub(super) batch: CommandBatch,
    /// Receives the report. It is dropped if the outcome is not known.
    pub(super) caller: oneshot::Sender<Report>,
}

/// The task of one transaction.
pub(super) struct Driver {
    shared: Arc<Shared>,
    transaction: TransactionId,
    state: CoordinatorState,
    /// `None` for a transaction that has been recovered.
    prepare: Option<Prepare>,
    requests: BTreeMap<String, Value>,
    batch: Option<CommandBatch>,
    caller: Option<oneshot::Sender<Report>>,
    /// The inputs of operators.
    operator: mpsc::Receiver<OperatorInput>,
    calls: JoinSet<(usize, Call, Answer)>,
    in_flight: BTreeSet<(usize, Call)>,
    repeat_at: Option<Instant>,
    pause: Duration,
}

/// The result of writing a record.
enum Written {
    Durable,
    /// The changes of the coordinator's own store are refused. Nothing was written.
    Refused(String),
    /// Another process has taken over, or the log shows whether the record was written. The task ends; a search
    /// continues the transaction.
    Interrupted,
    /// The store failed. It is not known whether the record is durable, or becomes durable later.
    StoreFailed,
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        transaction: TransactionId,
        state: CoordinatorState,
        operator: mpsc::Receiver<OperatorInput>,
    ) -> Self {
        let pause = shared.times.first_pause;
        Self {
            shared,
            transaction,
            state,
            prepare: None,
            requests: BTreeMap::new(),
            batch: None,
            caller: None,
            operator,
            calls: JoinSet::new(),
            in_flight: BTreeSet::new(),
            repeat_at: None,
            pause,
        }
    }

    /// Adds what the transaction needs while its participants vote.
    pub(super) fn voting(mut self, voting: Voting) -> Self {
        let Voting { prepare, requests, batch, caller } = voting;
        self.prepare = Some(prepare);
        self.requests = requests;
        self.batch = Some(batch).filter(|batch| !batch.is_empty());
        self.caller = Some(caller);
        self
    }

    /// Runs the transaction until nothing is left to do, or the coordinator ends.
    pub(super) async fn run(mut self, acts: Vec<CoordinatorAct>) {
        let mut queue = VecDeque::from(acts);
        loop {
            while let Some(act) = queue.pop_front() {
                let Some(next) = self.execute(act).await else { return };
                queue.extend(next);
            }
            if self.is_done() {
                return self.end().await;
            }
            let Some(next) = self.next_input().await else { return };
            queue.extend(next);
        }
    }

    fn is_done(&self) -> bool {
        let has_phase = matches!(self.state.phase(), CoordinatorPhase::Ended { .. } | CoordinatorPhase::Damaged { .. });
        has_phase && self.in_flight.is_empty()
    }

    /// Executes an act. Returns the acts that follow, or `None` if the task must end.
    async fn execute(&mut self, act: CoordinatorAct) -> Option<Vec<CoordinatorAct>> {
        match act {
            CoordinatorAct::Send { to, call } => {
                self.call(to, call);
                Some(Vec::new())
            }
            CoordinatorAct::Write { number, record } => {
                if self.hook(HookPlace::BeforeRecord { number }) == HookAction::Crash {
                    return None;
                }
                let input = match self.write(number, &record).await {
                    Written::Durable => CoordinatorInput::Durable { record: number },
                    Written::Refused(reason) => CoordinatorInput::Refused { record: number, reason },
                    Written::Interrupted => return None,
                    Written::StoreFailed => {
                        // Another task of this epoch must not presume that the transaction aborted.
                        self.shared.enter(RunState::StoreFailed);
                        return None;
                    }
                };
                if self.hook(HookPlace::AfterRecord { number }) == HookAction::Crash {
                    return None;
                }
                Some(self.state.on(input))
            }
            CoordinatorAct::Report { outcome, reason } => {
                self.report(outcome, reason).await;
                Some(Vec::new())
            }
        }
    }

    /// Waits until something happens. Returns the acts that follow, or `None` if the task must end.
    async fn next_input(&mut self) -> Option<Vec<CoordinatorAct>> {
        self.schedule_repeat();
        let repeat_at = self.repeat_at;
        let is_voting = *self.state.phase() == CoordinatorPhase::Preparing;
        tokio::select! {
            biased;
            () = self.shared.ended() => None,
            Some(joined) = self.calls.join_next() => {
                // The call of a participant returns an error if it panics. Only a test hook panics here.
                let Ok((from, call, answer)) = joined else { return Some(Vec::new()) };
                self.in_flight.remove(&(from, call));
                let input = self.input_of(from, call, answer);
                Some(input.map(|input| self.state.on(input)).unwrap_or_default())
            }
            Some(input) = self.operator.recv() => {
                let input = input.for_state(&self.state);
                Some(input.map(|input| self.state.on(input)).unwrap_or_default())
            }
            () = gone(&mut self.caller), if is_voting => {
                self.caller = None;
                Some(self.state.on(CoordinatorInput::GiveUp))
            }
            () = until(repeat_at) => {
                self.repeat_at = None;
                Some(self.state.outstanding())
            }
        }
    }

    /// Plans the repetition of calls that were not answered, after a pause.
    fn schedule_repeat(&mut self) {
        let is_missing = |act: &CoordinatorAct| match act {
            CoordinatorAct::Send { to, call } => !self.in_flight.contains(&(*to, *call)),
            _ => false,
        };
        let is_due = self.state.outstanding().iter().any(is_missing);
        if is_due && self.repeat_at.is_none() {
            self.repeat_at = Some(Instant::now() + self.pause);
            self.pause = (self.pause * 2).min(self.shared.times.longest_pause);
        }
    }

    fn call(&mut self, to: usize, call: Call) {
        let Some(name) = self.state.participants().nth(to).map(str::to_owned) else { return };
        if !self.in_flight.insert((to, call)) {
            return;
        }
        let context = CallContext {
            shared: Arc::clone(&self.shared),
            transaction: self.transaction.clone(),
            prepare: self.prepare.clone(),
            request: self.requests.get(&name).cloned(),
            prepared: self.state.prepared(to).cloned(),
            name,
        };
        self.calls.spawn(async move { (to, call, context.call(call).await) });
    }

    fn input_of(&mut self, from: usize, call: Call, answer: Answer) -> Option<CoordinatorInput> {
        match answer {
            Answer::Voted(vote) => Some(CoordinatorInput::Voted { from, vote }),
            Answer::Finished(finished) if call == Call::PreCommit => {
                Some(CoordinatorInput::PreCommitted { from, finished })
            }
            Answer::Finished(finished) => Some(CoordinatorInput::Finished { from, finished }),
            Answer::Reported(report) => Some(CoordinatorInput::Reported { from, report }),
            Answer::Forgotten => None,
            Answer::Failed(error) => {
                self.shared.metrics.calls_failed.increment(1);
                let participant = self.state.participants().nth(from).unwrap_or_default();
                tracing::warn!(
                    transaction = %self.transaction, participant, ?call, error = %ErrorChain(&error),
                    "a participant did not answer"
                );
                Some(CoordinatorInput::Failed { from, call })
            }
        }
    }

    /// Writes a record. The decision to commit also has the changes of the coordinator's own store.
    async fn write(&mut self, number: u32, record: &LogRecord) -> Written {
        let commit = match log::commit_of(&self.shared.lease, &self.transaction, number, record) {
            Ok(commit) => commit,
            Err(error) => return self.interrupted(&error),
        };
        let is_commit = matches!(record, LogRecord::Decided { outcome: Outcome::Committed, .. });
        match self.batch.take().filter(|_| is_commit) {
            Some(batch) => match batch.commit(commit).await {
                Ok(_) => Written::Durable,
                Err(error) => self.refused(error),
            },
            None => match self.shared.store.commit(commit).await {
                Ok(Committed { .. }) => Written::Durable,
                Err(CommitError::Conflict(conflict)) if self.shared.lease.is_lost_by(&conflict) => self.fenced(),
                Err(CommitError::Store(error)) => self.store_failed(&error),
                Err(error) => self.interrupted(&error),
            },
        }
    }

    /// Returns the result of a commit with changes of the own store that failed.
    fn refused(&self, error: UnitError<String>) -> Written {
        match error {
            UnitError::Conflict(conflict) if self.shared.lease.is_lost_by(&conflict) => self.fenced(),
            UnitError::Rejected { rejection, .. } => Written::Refused(rejection),
            UnitError::Conflict(conflict) => Written::Refused(conflict.to_string()),
            UnitError::Locked(locked) => Written::Refused(locked.to_string()),
            UnitError::NotOwner(error) => Written::Refused(error.to_string()),
            UnitError::Failed(InfrastructureError::Store(error)) => self.store_failed(&error),
            UnitError::Failed(
                error @ (InfrastructureError::Invalid(_)
                | InfrastructureError::Rejected(_)
                | InfrastructureError::Encode(_)
                | InfrastructureError::Tags(_)
                | InfrastructureError::KeysWithoutEvent { .. }),
            ) => Written::Refused(ErrorChain(&error).to_string()),
            // Some of these are found after the commit, for example an event that cannot be folded.
            UnitError::Failed(error) => self.interrupted(&error),
        }
    }

    fn fenced(&self) -> Written {
        tracing::warn!(
            transaction = %self.transaction, epoch = %self.shared.epoch,
            "another process has taken over the coordinator"
        );
        self.shared.enter(RunState::Fenced);
        Written::Interrupted
    }

    fn interrupted(&self, error: &(dyn std::error::Error + 'static)) -> Written {
        tracing::error!(
            transaction = %self.transaction, error = %ErrorChain(error),
            "a commit of the transaction failed; the next search reads from the log whether it was written"
        );
        Written::Interrupted
    }

    fn store_failed(&self, error: &(dyn std::error::Error + 'static)) -> Written {
        tracing::error!(
            transaction = %self.transaction, error = %ErrorChain(error),
            "the store failed, and it is not known whether a commit of the transaction is durable; if it was a record, \
             the coordinator stops: start it again"
        );
        Written::StoreFailed
    }

    /// Tells the caller the outcome. If no participant is prepared, the changes of the own store are committed now.
    async fn report(&mut self, outcome: Outcome, reason: Option<AbortReason>) {
        let reason = reason.map(|reason| self.text_of(reason));
        let mut report = Report { outcome, reason, is_one_commit: false };
        if let Some(batch) = self.batch.take().filter(|_| outcome == Outcome::Committed) {
            report.is_one_commit = true;
            match batch.commit(self.shared.lease.expect(es_core::Commit::new())).await {
                Ok(_) => {}
                Err(error) => match self.refused(error) {
                    Written::Refused(reason) => {
                        report.outcome = Outcome::Aborted;
                        report.reason = Some(reason);
                    }
                    // No participant is prepared, so that nobody presumes an outcome.
                    Written::Durable | Written::Interrupted | Written::StoreFailed => {
                        self.caller = None;
                        return;
                    }
                },
            }
        }
        if let Some(caller) = self.caller.take() {
            // The caller may have dropped its receiver.
            let _ = caller.send(report);
        }
    }

    /// Returns why the transaction aborted, with the name of the participant that is the cause.
    fn text_of(&self, reason: AbortReason) -> String {
        let name = |participant| self.state.participants().nth(participant).unwrap_or_default();
        match reason {
            AbortReason::Refused { reason, .. } | AbortReason::Own { reason } => reason,
            AbortReason::Unavailable { participant } => {
                format!("participant {:?} did not vote in time", name(participant))
            }
            AbortReason::GivenUp => "the caller no longer waits".to_owned(),
            AbortReason::Terminated { participant: Some(participant) } => {
                format!("participant {:?} had aborted", name(participant))
            }
            AbortReason::Terminated { participant: None } => "no participant was ready to commit".to_owned(),
            AbortReason::Restarted => "the coordinator restarted before it had decided".to_owned(),
        }
    }

    /// Reports damage, unless an operator has accepted it.
    async fn end(&mut self) {
        let is_damaged = matches!(self.state.phase(), CoordinatorPhase::Damaged { .. });
        let Some(damage) = self.state.damage().filter(|_| is_damaged) else { return };
        let counter = match damage {
            Damage::Mixed => &self.shared.metrics.mixed,
            Damage::Hazard => &self.shared.metrics.hazard,
        };
        counter.increment(1);
        tracing::error!(
            transaction = %self.transaction, ?damage,
            "a participant contradicts the decision; an operator must forget the transaction"
        );
    }

    fn hook(&self, place: HookPlace<'_>) -> HookAction {
        self.shared.hook(&self.transaction, place)
    }
}

/// Waits until the caller no longer waits for the report.
async fn gone(caller: &mut Option<oneshot::Sender<Report>>) {
    match caller {
        Some(caller) => caller.closed().await,
        None => std::future::pending().await,
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
