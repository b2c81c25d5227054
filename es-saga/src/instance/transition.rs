//! The outcomes of calls, and the consequences for the saga.

use std::time::Duration;

use chrono::TimeDelta;
use es_core::{CommandContext, Decide, Decision, Timestamp};
use serde_json::Value;

use crate::failure::{ErrorClass, Exhausted, StepFailure, StepRetry};
use crate::id::{Direction, SagaId, StepKey};
use crate::instance::event::{MigratedOutput, OperatorNote, RecordedValue, SagaEvent, Unit};
use crate::instance::state::{NodeState, Phase, SagaInstance, UnitState, UnitStatus};
use crate::shape::{Fingerprint, SagaShape, Undo};

/// A change of a saga that the coordinator makes.
#[derive(Debug, Clone, PartialEq)]
pub enum Transition {
    /// Create the instance.
    Create {
        /// The graph.
        shape: SagaShape,
        /// The input.
        input: Value,
        /// When the saga turns back unless it is finished or past its pivot.
        deadline: Option<Timestamp>,
        /// The saga of which the instance is a step.
        parent: Option<SagaId>,
    },
    /// The instance continues with another version of the graph.
    Migrate {
        /// The new graph.
        shape: SagaShape,
        /// The converted input; `None` if it is unchanged.
        input: Option<RecordedValue>,
        /// The outputs that were converted.
        outputs: Vec<MigratedOutput>,
    },
    /// The list of a node has this many items.
    List {
        /// The node.
        node: u32,
        /// The number of items.
        count: u32,
    },
    /// The condition of a node does not hold.
    Omit {
        /// The node.
        node: u32,
    },
    /// An external step is about to be called.
    Start {
        /// The step.
        unit: Unit,
        /// The idempotency key.
        key: StepKey,
        /// A digest of the input.
        input: String,
        /// The compensation; ignored for a later attempt.
        compensation: Value,
    },
    /// The child saga of a step is created in the same commit.
    StartChild {
        /// The step.
        unit: Unit,
        /// The child saga.
        child: SagaId,
        /// A digest of the input.
        input: String,
    },
    /// The child saga of a step is stuck, or cannot be read.
    ReportChild {
        /// The step.
        unit: Unit,
        /// The reason.
        reason: String,
    },
    /// A delay starts.
    StartDelay {
        /// The delay.
        unit: Unit,
    },
    /// The time of a delay has passed.
    EndDelay {
        /// The delay.
        unit: Unit,
    },
    /// A step has had its effect.
    Succeed {
        /// The step.
        unit: Unit,
        /// The output.
        output: Value,
    },
    /// An attempt of a step failed.
    Fail {
        /// The step.
        unit: Unit,
        /// The failure.
        failure: StepFailure,
        /// Whether and when it is tried again.
        retry: StepRetry,
        /// The random number for the pause.
        roll: u64,
    },
    /// A step was started, and no call of it is in progress.
    Interrupt {
        /// The step.
        unit: Unit,
    },
    /// The deadline has passed.
    Expire,
    /// The saga of which this one is a step turns back.
    CancelByParent {
        /// The reason.
        note: OperatorNote,
    },
    /// The compensation of an external step is about to be called.
    StartUndo {
        /// The step.
        unit: Unit,
        /// The idempotency key.
        key: StepKey,
    },
    /// A step is undone.
    SucceedUndo {
        /// The step.
        unit: Unit,
    },
    /// An attempt to undo a step failed.
    FailUndo {
        /// The step.
        unit: Unit,
        /// The failure.
        failure: StepFailure,
        /// Whether and when it is tried again.
        retry: StepRetry,
        /// The random number for the pause.
        roll: u64,
    },
}

/// A transition does not fit the state: it was computed for another state of the saga. Reload the saga.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a transition of saga {saga:?} needs {expected}, found {found}")]
pub struct StaleTransition {
    /// The id of the saga.
    pub saga: String,
    /// The state that the transition needs.
    pub expected: &'static str,
    /// The state that was found.
    pub found: String,
}

impl SagaInstance {
    /// Applies a transition and its consequences at this time. Returns their events, which must be committed together.
    ///
    /// # Errors
    /// [`StaleTransition`] if the transition does not fit the state, which is then unchanged.
    pub fn transition(&mut self, transition: Transition, now: Timestamp) -> Result<Vec<SagaEvent>, StaleTransition> {
        let first = self.first_event(transition, now)?;
        Ok(self.record(first, now))
    }

    /// Applies an event and its consequences at this time. Returns all of them, which must be committed together.
    pub(crate) fn record(&mut self, first: SagaEvent, now: Timestamp) -> Vec<SagaEvent> {
        let mut events = Vec::with_capacity(2);
        self.apply(first, now, &mut events);
        self.apply_consequences(now, &mut events);
        events
    }

    /// Applies an event, and appends it to `events`.
    pub(super) fn apply(&mut self, event: SagaEvent, now: Timestamp, events: &mut Vec<SagaEvent>) {
        self.evolve_at(&event, now);
        events.push(event);
    }

    fn first_event(&self, transition: Transition, now: Timestamp) -> Result<SagaEvent, StaleTransition> {
        Ok(match transition {
            Transition::Create { shape, input, deadline, parent } => {
                self.need(self.phase == Phase::Missing, "a new instance")?;
                let fingerprint = Fingerprint::of(&shape);
                SagaEvent::Created { shape, fingerprint, input, deadline, parent }
            }
            Transition::Migrate { shape, input, outputs } => {
                let can_migrate = !self.phase.is_final() && self.check_migration(&shape).is_ok();
                self.need(can_migrate, "an unfinished saga that fits the graph")?;
                SagaEvent::Migrated { shape, input, outputs }
            }
            Transition::List { node, count } => {
                let is_unlisted = self.nodes.get(node as usize).is_some_and(|node| node.is_unlisted);
                self.need(self.phase == Phase::Running && is_unlisted, "a running saga without the list")?;
                SagaEvent::ItemsListed { node, count }
            }
            Transition::Omit { node } => {
                let is_pending = self.nodes.get(node as usize).is_some_and(|node| !node.is_started());
                self.need(self.phase == Phase::Running && is_pending, "a running saga without the step")?;
                SagaEvent::StepOmitted { node }
            }
            Transition::Start { unit, key, input, compensation } => {
                let state = self.startable(unit)?;
                let compensation = state.compensation.is_none().then_some(RecordedValue { value: compensation });
                SagaEvent::StepStarted { unit, attempt: state.attempts.saturating_add(1), key, input, compensation }
            }
            Transition::StartChild { unit, child, input } => {
                self.startable(unit)?;
                SagaEvent::ChildStarted { unit, child, input }
            }
            Transition::ReportChild { unit, reason } => {
                let is_awaited = self.awaited_children().any(|(awaited, _)| awaited == unit);
                self.need(!self.phase.is_final() && is_awaited, "an unfinished saga that waits for a child saga")?;
                SagaEvent::ChildStuck { unit, reason }
            }
            Transition::StartDelay { unit } => {
                self.startable(unit)?;
                let Some(delay) = self.delay_of(unit.node) else { return Err(self.stale("a delay")) };
                SagaEvent::DelayStarted { unit, until: after(now, delay) }
            }
            Transition::EndDelay { unit } => {
                let state = self.existing(unit)?;
                let is_over = matches!(state.status, UnitStatus::Delayed(until) if until <= now);
                self.need(self.phase == Phase::Running && is_over, "a running saga and a delay that is over")?;
                SagaEvent::StepSucceeded { unit, output: Value::Null }
            }
            Transition::Succeed { unit, output } => {
                self.executing(unit)?;
                SagaEvent::StepSucceeded { unit, output }
            }
            Transition::Fail { unit, failure, retry, roll } => {
                let state = self.executing(unit)?;
                self.failed(unit, state, failure, retry, roll, now)
            }
            Transition::Interrupt { unit } => {
                let state = self.executing(unit)?;
                let message = "interrupted before its outcome was recorded".to_owned();
                SagaEvent::StepFailed {
                    unit,
                    attempt: state.attempts,
                    class: ErrorClass::Ambiguous,
                    message,
                    retry_at: None,
                    then: Exhausted::Compensate,
                }
            }
            Transition::Expire => {
                let deadline = self.deadline.filter(|deadline| *deadline <= now && !self.is_past_pivot());
                self.need(self.phase == Phase::Running && deadline.is_some(), "a running saga after its deadline")?;
                SagaEvent::Compensating { reason: "the deadline has passed".to_owned() }
            }
            Transition::CancelByParent { note } => {
                let can_cancel = matches!(self.phase, Phase::Running | Phase::Stuck(_) | Phase::Completed);
                self.need(can_cancel && !self.is_past_pivot(), "a saga that can be cancelled")?;
                SagaEvent::Cancelled(note)
            }
            Transition::StartUndo { unit, key } => {
                let state = self.undoable(unit)?;
                SagaEvent::UndoStarted { unit, attempt: state.undo_attempts.saturating_add(1), key }
            }
            Transition::SucceedUndo { unit } => {
                self.undoable(unit)?;
                SagaEvent::UndoSucceeded { unit }
            }
            Transition::FailUndo { unit, failure, retry, roll } => {
                let state = self.undoable(unit)?;
                // The start of an external compensation has counted the attempt already.
                let uncounted = u32::from(state.status != UnitStatus::Undoing);
                let attempt = state.undo_attempts.saturating_add(uncounted);
                let pause = retry.pause(attempt, roll);
                let elapsed = since(state.undo_started_at, now).saturating_add(pause);
                let has_another = failure.class != ErrorClass::Terminal && retry.has_another(attempt, elapsed);
                let retry_at = has_another.then(|| after(now, pause));
                SagaEvent::UndoFailed { unit, attempt, message: failure.message, retry_at }
            }
        })
    }

    fn failed(
        &self,
        unit: Unit,
        state: &UnitState,
        failure: StepFailure,
        retry: StepRetry,
        roll: u64,
        now: Timestamp,
    ) -> SagaEvent {
        let StepFailure { class, message } = failure;
        // The start of an external step has counted the attempt already.
        let is_counted = matches!(state.status, UnitStatus::Running | UnitStatus::AwaitingChild);
        let attempt = state.attempts.saturating_add(u32::from(!is_counted));
        let goes_forward = matches!(self.phase, Phase::Running | Phase::Stuck(Direction::Forward));
        let pause = retry.pause(attempt, roll);
        let elapsed = since(state.started_at, now).saturating_add(pause);
        let has_another = goes_forward && class != ErrorClass::Terminal && retry.has_another(attempt, elapsed);
        let retry_at = has_another.then(|| after(now, pause));
        let then = if class == ErrorClass::Terminal { Exhausted::Compensate } else { retry.exhausted };
        SagaEvent::StepFailed { unit, attempt, class, message, retry_at, then }
    }

    /// Applies what follows from the state: the end of the saga, or a change of its direction.
    pub(super) fn apply_consequences(&mut self, now: Timestamp, events: &mut Vec<SagaEvent>) {
        if self.phase == Phase::Running
            && let Some(event) = self.consequence_forward()
        {
            self.apply(event, now, events);
        }
        if self.phase == Phase::Compensating
            && let Some(event) = self.consequence_backward()
        {
            self.apply(event, now, events);
        }
    }

    fn consequence_forward(&self) -> Option<SagaEvent> {
        let Some((unit, state)) = self.units().find(|(_, unit)| unit.is_failed()) else {
            return self.nodes.iter().all(NodeState::is_done).then_some(SagaEvent::Completed);
        };
        let error = state.error.clone().unwrap_or_default();
        let reason = format!("step {:?} failed: {error}", self.node_name(unit.node));
        let stuck = |reason| SagaEvent::Stuck { unit, direction: Direction::Forward, reason };
        Some(match state.then {
            _ if self.is_past_pivot() => stuck(format!("{error}; the saga is past its pivot")),
            Exhausted::Compensate => SagaEvent::Compensating { reason },
            Exhausted::Pause => stuck(error),
            Exhausted::Kill => SagaEvent::Killed(OperatorNote::new("the policy of the step", reason)),
        })
    }

    fn consequence_backward(&self) -> Option<SagaEvent> {
        if self.is_clear() {
            return Some(SagaEvent::Compensated);
        }
        let clear = self.clear_dependents();
        let is_clear = |unit: Unit| clear.get(unit.node as usize) == Some(&true);
        let stuck = |unit, reason| SagaEvent::Stuck { unit, direction: Direction::Backward, reason };
        let (unit, state) = self.units().find(|(unit, state)| match state.status {
            UnitStatus::UndoFailed => true,
            UnitStatus::Succeeded | UnitStatus::Owed => self.undo_of(unit.node) == Undo::Pause && is_clear(*unit),
            _ => false,
        })?;
        Some(match state.status {
            UnitStatus::UndoFailed => stuck(unit, state.error.clone().unwrap_or_default()),
            _ => stuck(unit, "the step cannot be undone by the saga; undo it by hand, then skip it".to_owned()),
        })
    }

    /// Returns a unit that can be started, or started again.
    fn startable(&self, unit: Unit) -> Result<&UnitState, StaleTransition> {
        let state = self.existing(unit)?;
        let can_start = matches!(state.status, UnitStatus::Pending | UnitStatus::Waiting(_) | UnitStatus::Running);
        self.need(self.phase == Phase::Running && can_start, "a running saga and a step to start")?;
        Ok(state)
    }

    /// Returns a unit whose attempt can have an outcome.
    fn executing(&self, unit: Unit) -> Result<&UnitState, StaleTransition> {
        let state = self.existing(unit)?;
        let is_local = matches!(state.status, UnitStatus::Pending | UnitStatus::Waiting(_));
        let is_called = matches!(state.status, UnitStatus::Running | UnitStatus::AwaitingChild);
        let can_end = is_called || (is_local && self.phase == Phase::Running);
        self.need(!self.phase.is_final() && can_end, "an unfinished saga and a step in progress")?;
        Ok(state)
    }

    /// Returns a unit that is being undone, or can be.
    fn undoable(&self, unit: Unit) -> Result<&UnitState, StaleTransition> {
        use UnitStatus::{AwaitingChild, Owed, Succeeded, UndoWaiting, Undoing};
        let state = self.existing(unit)?;
        let goes_backward = matches!(self.phase, Phase::Compensating | Phase::Stuck(Direction::Backward));
        let can_undo = matches!(state.status, AwaitingChild | Succeeded | Owed | Undoing | UndoWaiting(_));
        self.need(goes_backward && can_undo, "a compensating saga and a step to undo")?;
        Ok(state)
    }

    fn existing(&self, unit: Unit) -> Result<&UnitState, StaleTransition> {
        self.unit(unit).ok_or_else(|| self.stale("an existing step"))
    }

    fn need(&self, holds: bool, expected: &'static str) -> Result<(), StaleTransition> {
        if holds { Ok(()) } else { Err(self.stale(expected)) }
    }

    fn stale(&self, expected: &'static str) -> StaleTransition {
        StaleTransition { saga: self.id.to_string(), expected, found: format!("a saga that is {}", self.phase.name()) }
    }
}

/// Returns the time since `start`, or zero.
fn since(start: Option<Timestamp>, now: Timestamp) -> Duration {
    start.and_then(|start| (now - start).to_std().ok()).unwrap_or_default()
}

fn after(now: Timestamp, pause: Duration) -> Timestamp {
    TimeDelta::from_std(pause).ok().and_then(|pause| now.checked_add_signed(pause)).unwrap_or(Timestamp::MAX_UTC)
}

impl Decide<Transition> for SagaInstance {
    type Rejection = StaleTransition;

    fn decide(&self, command: Transition, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, StaleTransition> {
        Ok(self.clone().transition(command, at.time())?.into())
    }
}
