//! The acts of a saga: intents are recorded, then the calls start.

use std::future::poll_fn;
use std::task::Poll;

use es_core::model::CorrelationId;
use es_core::{Commit, StoreError, Timestamp};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::coop::consume_budget;

use crate::coordinator::call::{Call, Finished};
use crate::coordinator::driver::{Crashed, Current, DriveEnd, Driver, Progress};
use crate::failure::{ErrorClass, StepFailure, StepRetry};
use crate::hooks::{HookAction, HookPlace};
use crate::id::Direction;
use crate::instance::{Act, Phase, Transition, Unit, UnitStatus};
use crate::shape::{Effect, Repeat};

impl Driver {
    /// Performs acts: records the intents of calls, and delays, in one commit, then starts the calls.
    pub(super) async fn act(
        &mut self,
        current: &mut Current,
        acts: Vec<Act>,
        now: Timestamp,
    ) -> Result<Progress, StoreError> {
        let unit_of_child = |act: &Act| match act {
            Act::Execute(unit) | Act::Undo(unit) if current.state.is_child(unit.node) => Some(*unit),
            _ => None,
        };
        if let Some(unit) = acts.iter().find_map(unit_of_child) {
            let is_forward = current.state.phase() == Phase::Running;
            return if is_forward {
                self.start_child(current, unit).await
            } else {
                self.undo_child(current, unit).await
            };
        }
        let (mut events, mut started) = (Vec::new(), Vec::new());
        for act in acts {
            let phase = current.state.phase();
            if !matches!(phase, Phase::Running | Phase::Compensating) {
                break;
            }
            let transition = match act {
                Act::List(node) => Ok(Some(self.list(current, node))),
                Act::Expire => Ok(Some(Transition::Expire)),
                Act::Interrupt(unit) => Ok(Some(Transition::Interrupt { unit })),
                Act::Execute(unit) if phase == Phase::Running => self.intent(current, unit, &mut started),
                Act::Undo(unit) if phase == Phase::Compensating => self.undo_intent(current, unit, &mut started),
                Act::Delay(unit) if phase == Phase::Running => self.delay(current, unit),
                Act::EndDelay(unit) if phase == Phase::Running => self.end_delay(current, unit),
                // An earlier act of this round has turned the saga back.
                Act::Execute(_) | Act::Undo(_) | Act::Delay(_) | Act::EndDelay(_) => Ok(None),
            };
            let Ok(transition) = transition else { return Ok(Progress::End(DriveEnd::Stopped)) };
            let Some(transition) = transition else { continue };
            match current.state.transition(transition, now) {
                Ok(more) => events.extend(more),
                Err(stale) => {
                    let Some(timer) = current.timer.clone() else { return Ok(Progress::Reload) };
                    self.quarantine(&timer, stale.to_string()).await?;
                    return Ok(Progress::End(DriveEnd::Idle(None)));
                }
            }
        }
        if !events.is_empty() {
            let timer = self.timer_after(current, !started.is_empty(), now);
            match self.commit(current, Commit::new(), events, timer).await? {
                Progress::Continue => {}
                other => return Ok(other),
            }
        }
        for (unit, direction) in started {
            let Ok(call) = self.start(current, unit, direction) else {
                return Ok(Progress::End(DriveEnd::Stopped));
            };
            let Some(mut call) = call else { continue };
            self.in_flight.insert(unit);
            // Most local steps end when they are first polled. Their outcome is recorded next, without a wait.
            match poll_fn(|context| Poll::Ready(call.poll_unpin(context))).await {
                Poll::Ready(finished) => self.finished.push_back(finished),
                Poll::Pending => self.calls.push(call),
            }
        }
        // Without a wait, only the budget of the task lets other tasks run between the steps.
        consume_budget().await;
        Ok(Progress::Continue)
    }

    fn list(&self, current: &Current, node: u32) -> Transition {
        let code = current.definition.codes.get(node as usize);
        let count = code.map_or(Ok(0), |code| code.count(&current.state));
        match count.map(u32::try_from) {
            Ok(Ok(count)) => Transition::List { node, count },
            // The items are executed, and each reports that its input cannot be read.
            _ => Transition::List { node, count: 1 },
        }
    }

    /// Returns whether the condition of a node holds that was not started.
    pub(super) fn is_included(&self, current: &Current, unit: Unit) -> Result<bool, StepFailure> {
        let Some((code, shape)) = self.node(current, unit) else { return Ok(true) };
        let is_new = current.state.unit(unit).is_some_and(|state| {
            state.status == UnitStatus::Pending && state.attempts == 0 && shape.repeat == Repeat::Optional
        });
        if !is_new {
            return Ok(true);
        }
        let included = code.includes(&current.state);
        included.map_err(|error| StepFailure::new(ErrorClass::Terminal, es_core::model::ErrorChain(&error).to_string()))
    }

    /// Returns the transition that starts a delay, or omits it.
    fn delay(&self, current: &Current, unit: Unit) -> Result<Option<Transition>, Crashed> {
        if self.hook(current, unit, Direction::Forward, HookPlace::BeforeIntent) == HookAction::Crash {
            return Err(Crashed);
        }
        Ok(Some(match self.is_included(current, unit) {
            Ok(true) => Transition::StartDelay { unit },
            Ok(false) => Transition::Omit { node: unit.node },
            Err(failure) => self.failed(unit, failure, StepRetry { attempts: 0, ..StepRetry::DEFAULT }),
        }))
    }

    /// Returns the transition that ends a delay.
    fn end_delay(&self, current: &Current, unit: Unit) -> Result<Option<Transition>, Crashed> {
        if self.hook(current, unit, Direction::Forward, HookPlace::BeforeOutcome) == HookAction::Crash {
            return Err(Crashed);
        }
        Ok(Some(Transition::EndDelay { unit }))
    }

    /// Prepares a call that executes a step. Returns the transition that is recorded before the call, if there is one.
    fn intent(
        &self,
        current: &Current,
        unit: Unit,
        started: &mut Vec<(Unit, Direction)>,
    ) -> Result<Option<Transition>, Crashed> {
        let Some((code, shape)) = self.node(current, unit) else { return Ok(None) };
        let Some(state) = current.state.unit(unit) else { return Ok(None) };
        let fail = |failure| Ok(Some(self.failed(unit, failure, StepRetry { attempts: 0, ..code.options().retry })));
        match self.is_included(current, unit) {
            Ok(true) => {}
            Ok(false) => return Ok(Some(Transition::Omit { node: unit.node })),
            Err(failure) => return fail(failure),
        }
        // A step that ends the process in each attempt must not end it for ever.
        let is_interrupted = state.status == UnitStatus::Running;
        if is_interrupted && code.options().retry.is_exhausted_by_crashes(state.attempts) {
            return fail(interrupted(state.attempts));
        }
        if self.hook(current, unit, Direction::Forward, HookPlace::BeforeIntent) == HookAction::Crash {
            return Err(Crashed);
        }
        if shape.effect == Effect::Local {
            started.push((unit, Direction::Forward));
            return Ok(None);
        }
        let context = self.context(current, unit, Direction::Forward, state.attempts.saturating_add(1));
        let Some(step) = self.shared.steps.get(code.step()) else { return Ok(None) };
        let prepared = code.prepare(Some(&step.instance), &current.state, &context);
        match prepared {
            Ok((input, _)) if state.input.as_ref().is_some_and(|first| *first != input) => {
                let message = "the input differs from that of the first attempt; give the graph another version";
                fail(StepFailure::new(ErrorClass::Terminal, message))
            }
            Ok((input, compensation)) => {
                started.push((unit, Direction::Forward));
                Ok(Some(Transition::Start { unit, key: context.key, input, compensation }))
            }
            Err(failure) => fail(failure),
        }
    }

    /// Prepares a call that undoes a step. Returns the transition that is recorded before the call, if there is one.
    fn undo_intent(
        &self,
        current: &Current,
        unit: Unit,
        started: &mut Vec<(Unit, Direction)>,
    ) -> Result<Option<Transition>, Crashed> {
        let Some((code, shape)) = self.node(current, unit) else { return Ok(None) };
        let Some(state) = current.state.unit(unit) else { return Ok(None) };
        let (attempts, retry) = (state.undo_attempts, code.options().retry);
        if state.status == UnitStatus::Undoing && retry.is_exhausted_by_crashes(attempts) {
            let retry = StepRetry { attempts: 0, ..retry };
            return Ok(Some(Transition::FailUndo { unit, failure: interrupted(attempts), retry, roll: 0 }));
        }
        if self.hook(current, unit, Direction::Backward, HookPlace::BeforeIntent) == HookAction::Crash {
            return Err(Crashed);
        }
        started.push((unit, Direction::Backward));
        if shape.effect != Effect::External {
            return Ok(None);
        }
        let context = self.context(current, unit, Direction::Backward, attempts.saturating_add(1));
        Ok(Some(Transition::StartUndo { unit, key: context.key }))
    }

    /// Returns a call whose intent is recorded, or `None` if there is nothing to call.
    fn start(
        &self,
        current: &Current,
        unit: Unit,
        direction: Direction,
    ) -> Result<Option<BoxFuture<'static, Finished>>, Crashed> {
        let Some((code, shape)) = self.node(current, unit) else { return Ok(None) };
        let Some(state) = current.state.unit(unit) else { return Ok(None) };
        let attempts = if direction == Direction::Forward { state.attempts } else { state.undo_attempts };
        // The intent of an external step has counted the attempt already.
        let attempt = attempts.saturating_add(u32::from(shape.effect == Effect::Local));
        let place = if shape.effect == Effect::Local { HookPlace::BeforeIntent } else { HookPlace::BeforeCall };
        let hook = self.hook(current, unit, direction, place);
        if hook == HookAction::Crash {
            return Err(Crashed);
        }
        let context = self.context(current, unit, direction, attempt);
        let Some(step) = self.shared.steps.get(code.step()) else { return Ok(None) };
        let metrics = self.shared.metrics.get(self.id.saga()).and_then(|saga| saga.step(code.step(), direction));
        let call = Call {
            code,
            step: &step.instance,
            permits: step.permits.clone(),
            instance: &current.state,
            unit,
            effect: shape.effect,
            context,
            correlation: CorrelationId::from_uuid(self.namespace),
            hook,
            metrics,
        };
        Ok(Some(call.start()))
    }
}

/// Returns the failure of a step whose attempts were all interrupted.
fn interrupted(attempts: u32) -> StepFailure {
    let message = format!("interrupted before its outcome was recorded, {attempts} attempts were made");
    StepFailure::new(ErrorClass::Ambiguous, message)
}
