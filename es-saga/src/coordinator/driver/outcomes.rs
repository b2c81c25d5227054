//! The outcomes of calls, which are recorded before any dependent step starts.

use es_core::aggregate::Aggregate;
use es_core::consumer::timer::Timer;
use es_core::store::{Conflict, FailedCheck};
use es_core::{Commit, CommitError, StoreError, StreamId};

use crate::coordinator::call::Finished;
use crate::coordinator::driver::{Current, DriveEnd, Driver, MAX_CALLS, Progress};
use crate::coordinator::wake::Slot;
use crate::failure::{ErrorClass, StepFailure, StepRetry};
use crate::graph::Returned;
use crate::hooks::{HookAction, HookPlace};
use crate::id::Direction;
use crate::instance::{SagaEvent, SagaInstance, Transition, Unit};
use crate::record::stored_now;

/// The number of commits of a local step that may conflict before the attempt counts as failed.
const MAX_CONFLICTS: u32 = 20;

impl Driver {
    /// Records outcomes: those of external steps together, that of a local step alone, with its effect.
    pub(super) async fn record(&mut self, current: &mut Current) -> Result<Progress, StoreError> {
        let now = stored_now(&*self.shared.clock);
        let mut events = Vec::new();
        let mut effect = None;
        let mut count = 0;
        for finished in self.finished.iter().take(self.batch) {
            let commit = finished.result.as_ref().ok().and_then(|returned| returned.commit.clone());
            if count > 0 && commit.is_some() {
                break;
            }
            count += 1;
            let Finished { unit, direction, .. } = *finished;
            if self.hook(current, unit, direction, HookPlace::BeforeOutcome) == HookAction::Crash {
                return Ok(Progress::End(DriveEnd::Stopped));
            }
            let Some(transition) = self.outcome(current, finished) else { continue };
            match current.state.transition(transition, now) {
                Ok(more) => events.extend(more),
                // An operator has ended or restarted the step.
                Err(stale) => tracing::warn!(saga = %self.id, error = %stale, "the outcome of a call is dropped"),
            }
            if commit.is_some() {
                effect = commit;
                break;
            }
        }
        if !events.is_empty() {
            let is_last = self.finished.len() == count;
            let timer = self.timer_after(current, !is_last, now);
            let is_local = effect.is_some();
            let committed = self.commit_outcomes(current, effect.unwrap_or_default(), events, timer, is_local, count);
            match committed.await? {
                Progress::Continue => {}
                other => return Ok(other),
            }
        }
        self.batch = MAX_CALLS;
        for _ in 0..count {
            let Some(Finished { unit, direction, .. }) = self.finished.pop_front() else { break };
            self.in_flight.remove(&unit);
            self.conflicts.remove(&unit);
            if self.hook(current, unit, direction, HookPlace::AfterOutcome) == HookAction::Crash {
                return Ok(Progress::End(DriveEnd::Stopped));
            }
        }
        Ok(Progress::Continue)
    }

    /// Returns the transition of the outcome of a call.
    fn outcome(&self, current: &Current, finished: &Finished) -> Option<Transition> {
        let Finished { unit, direction, result, is_last } = finished;
        let unit = *unit;
        let (code, _) = self.node(current, unit)?;
        let retry = code.options().retry;
        let retry = if *is_last { StepRetry { attempts: 0, ..retry } } else { retry };
        Some(match (direction, result) {
            (Direction::Forward, Ok(Returned { output, .. })) => Transition::Succeed { unit, output: output.clone() },
            (Direction::Forward, Err(failure)) => self.failed(unit, failure.clone(), retry),
            (Direction::Backward, Ok(_)) => Transition::SucceedUndo { unit },
            (Direction::Backward, Err(failure)) => {
                Transition::FailUndo { unit, failure: failure.clone(), retry, roll: self.shared.entropy.next_u64() }
            }
        })
    }

    pub(super) fn failed(&self, unit: Unit, failure: StepFailure, retry: StepRetry) -> Transition {
        Transition::Fail { unit, failure, retry, roll: self.shared.entropy.next_u64() }
    }

    /// Commits outcomes. A refused effect of a local step, or an outcome that is too large, becomes a failure.
    async fn commit_outcomes(
        &mut self,
        current: &mut Current,
        effect: Commit,
        events: Vec<SagaEvent>,
        timer: Option<Timer>,
        is_local: bool,
        count: usize,
    ) -> Result<Progress, StoreError> {
        match self.write(current, effect, &events, timer.as_ref()).await {
            Ok(committed) => {
                current.revision = committed.revision(&self.stream).or(current.revision);
                current.timer = timer;
                Ok(Progress::Continue)
            }
            Err(CommitError::Store(error)) => Err(error),
            Err(CommitError::Conflict(conflict)) if self.lease.is_lost_by(&conflict) => {
                Ok(Progress::End(DriveEnd::LeaseLost))
            }
            Err(CommitError::Conflict(conflict)) if self.is_own(current, &conflict) || !is_local => {
                Ok(Progress::Reload)
            }
            Err(CommitError::Conflict(conflict)) => {
                self.decide_again(&conflict);
                Ok(Progress::Reload)
            }
            Err(_) if count > 1 => {
                self.batch = 1;
                Ok(Progress::Reload)
            }
            Err(error) => {
                let class = if is_local { ErrorClass::Terminal } else { ErrorClass::Ambiguous };
                let message = format!("its outcome was refused: {}", es_core::model::ErrorChain(&error));
                if let Some(front) = self.finished.front_mut() {
                    (front.result, front.is_last) = (Err(StepFailure::new(class, message)), true);
                }
                Ok(Progress::Reload)
            }
        }
    }

    /// Discards the decision of a local step after a conflict, so that it is decided again.
    fn decide_again(&mut self, conflict: &Conflict) {
        let Some(front) = self.finished.front_mut() else { return };
        let conflicts = self.conflicts.entry(front.unit).or_default();
        *conflicts += 1;
        if *conflicts >= MAX_CONFLICTS {
            *conflicts = 0;
            front.result = Err(StepFailure::new(ErrorClass::Transient, conflict.to_string()));
        } else {
            self.in_flight.remove(&front.unit);
            self.finished.pop_front();
        }
    }

    /// Returns whether a conflict concerns what the driver adds to a commit, and not the effect of a local step. The
    /// effect may contain the timers of other sagas.
    fn is_own(&self, current: &Current, conflict: &Conflict) -> bool {
        let is_of_instance = |check: &FailedCheck| match check {
            FailedCheck::Revision { stream, .. } | FailedCheck::Deleted { stream, .. } => *stream == self.stream,
            check => self.slot.queue().is_timer_of(&self.stream, check),
        };
        // A commit that concerns the parent wakes it. The effect may be a conflict, too, so nothing else may have
        // failed.
        let parent = current.state.parent().and_then(|parent| SagaInstance::stream(parent).ok());
        let wakes_parent =
            |parent: &StreamId| conflict.failed.iter().all(|check| Slot::of(parent).queue().is_timer_of(parent, check));
        conflict.failed.iter().any(is_of_instance) || parent.as_ref().is_some_and(wakes_parent)
    }
}
