//! Child sagas: created, observed and compensated by the saga of which they are steps.
//!
//! A child saga is created and compensated in the commit of its parent that records it. Its end wakes the parent, which
//! loads the child and records the outcome.

use std::sync::Arc;

use es_core::aggregate::{Aggregate, LoadError};
use es_core::consumer::timer::Timer;
use es_core::{Commit, CommitError, Revision, StoreError, StreamId, Timestamp};
use serde_json::Value;

use crate::coordinator::driver::{Current, DriveEnd, Driver, Progress};
use crate::coordinator::record::{NewInstance, Recorder};
use crate::coordinator::wake::{Slot, concerns_parent, wake};
use crate::failure::{ErrorClass, Exhausted, StepFailure, StepRetry};
use crate::graph::Definition;
use crate::hooks::{HookAction, HookPlace};
use crate::id::{Direction, SagaId, StepKey};
use crate::instance::{OperatorNote, Phase, SagaInstance, Transition, Unit, UnitState, UnitStatus};
use crate::record::stored_now;
use crate::shape::Repeat;

/// A child saga as it is in the store.
enum Child {
    Loaded(Box<SagaInstance>, Option<Revision>),
    Unreadable(String),
}

/// No further attempt.
const LAST: StepRetry = StepRetry { attempts: 0, ..StepRetry::DEFAULT };

impl Driver {
    /// Records the outcomes of the child sagas for which the saga waits.
    pub(super) async fn observe_children(&mut self, current: &mut Current) -> Result<Progress, StoreError> {
        let now = stored_now(&*self.shared.clock);
        let awaited: Vec<(Unit, SagaId)> =
            current.state.awaited_children().map(|(unit, child)| (unit, child.clone())).collect();
        let (mut events, mut recorded) = (Vec::new(), Vec::new());
        for (unit, id) in awaited {
            let child = self.load_child(&id).await?;
            let Some(state) = current.state.unit(unit) else { continue };
            let definition = self.child_definition(current, unit);
            let Some(transition) = observed(unit, state, &id, &child, definition.as_deref()) else { continue };
            let is_undo = state.status == UnitStatus::Undoing;
            let direction = if is_undo { Direction::Backward } else { Direction::Forward };
            if self.hook(current, unit, direction, HookPlace::BeforeOutcome) == HookAction::Crash {
                return Ok(Progress::End(DriveEnd::Stopped));
            }
            match current.state.transition(transition, now) {
                Ok(more) => events.extend(more),
                Err(stale) => tracing::warn!(saga = %self.id, error = %stale, "the outcome of a child saga is dropped"),
            }
            recorded.push((unit, direction));
        }
        if events.is_empty() {
            return Ok(Progress::Continue);
        }
        let timer = self.timer_after(current, false, now);
        let progress = self.commit(current, Commit::new(), events, timer).await?;
        for (unit, direction) in recorded {
            if self.hook(current, unit, direction, HookPlace::AfterOutcome) == HookAction::Crash {
                return Ok(Progress::End(DriveEnd::Stopped));
            }
        }
        Ok(progress)
    }

    /// Creates the child saga of a step, or records that it cannot be created.
    pub(super) async fn start_child(&mut self, current: &mut Current, unit: Unit) -> Result<Progress, StoreError> {
        let now = stored_now(&*self.shared.clock);
        if self.hook(current, unit, Direction::Forward, HookPlace::BeforeIntent) == HookAction::Crash {
            return Ok(Progress::End(DriveEnd::Stopped));
        }
        let context = self.context(current, unit, Direction::Forward, 1);
        let Some((code, _)) = self.node(current, unit) else { return Ok(Progress::Reload) };
        let Some(definition) = code.child().map(Arc::clone) else { return Ok(Progress::Reload) };
        let prepared = match self.is_included(current, unit) {
            Ok(true) => code.prepare(None, &current.state, &context).map(Some),
            Ok(false) => Ok(None),
            Err(failure) => Err(failure),
        };
        let started = match prepared {
            Ok(Some((digest, input))) => self.creation_of_child(current, unit, &definition, digest, input, now).await?,
            Ok(None) => Ok((Transition::Omit { node: unit.node }, Commit::new())),
            Err(failure) => Err(failure),
        };
        let (transition, commit) = match started {
            Ok(started) => started,
            Err(failure) => (self.failed(unit, failure, LAST), Commit::new()),
        };
        let Ok(events) = current.state.transition(transition, now) else { return Ok(Progress::Reload) };
        // A child saga without steps has ended already.
        let has_ended = definition.shape.nodes.is_empty() && current.state.awaited_children().next().is_some();
        let timer = self.timer_after(current, has_ended, now);
        let progress = self.commit(current, commit, events, timer).await?;
        if let Some(child) = current.state.unit(unit).and_then(|state| state.child.clone()) {
            self.shared.notify(&child);
        }
        if has_ended {
            return Ok(Progress::Reload);
        }
        Ok(progress)
    }

    /// Returns the start of a child saga, and the commit that creates it.
    async fn creation_of_child(
        &mut self,
        current: &Current,
        unit: Unit,
        definition: &Definition,
        digest: String,
        input: Value,
        now: Timestamp,
    ) -> Result<Result<(Transition, Commit), StepFailure>, StoreError> {
        let refused = |reason: String| Ok(Err(StepFailure::new(ErrorClass::Terminal, reason)));
        let (name, run) = (current.state.node_name(unit.node), current.state.nodes().get(unit.node as usize));
        let is_list = current.state.shape().nodes.get(unit.node as usize).map(|node| node.repeat) == Some(Repeat::Each);
        let item = is_list.then_some(unit.item);
        let id = match self.id.child(&definition.shape.name, name, item, run.map_or(0, |node| node.run)) {
            Ok(id) => id,
            Err(error) => return refused(error.to_string()),
        };
        let stream = match SagaInstance::stream(&id) {
            Ok(stream) => stream,
            Err(error) => return refused(format!("the child saga cannot be created: {error}")),
        };
        if self.shared.store.revision(&stream).await?.is_some() {
            return refused(format!("the child saga {:?} exists already", id.to_string()));
        }
        let parent = Some(self.id.clone());
        let new =
            NewInstance { definition, id: &id, stream: &stream, input, parent, metadata: &current.state.metadata };
        match new.add(Commit::new(), now, &*self.shared.entropy) {
            Ok(commit) => Ok(Ok((Transition::StartChild { unit, child: id, input: digest }, commit))),
            Err(error) => refused(es_core::model::ErrorChain(&error).to_string()),
        }
    }

    /// Has the child saga of a step compensated, or records that it cannot be.
    pub(super) async fn undo_child(&mut self, current: &mut Current, unit: Unit) -> Result<Progress, StoreError> {
        let now = stored_now(&*self.shared.clock);
        if self.hook(current, unit, Direction::Backward, HookPlace::BeforeIntent) == HookAction::Crash {
            return Ok(Progress::End(DriveEnd::Stopped));
        }
        let attempts = current.state.unit(unit).map_or(0, |state| state.undo_attempts);
        let context = self.context(current, unit, Direction::Backward, attempts.saturating_add(1));
        let Some(id) = current.state.unit(unit).and_then(|state| state.child.clone()) else {
            return Ok(Progress::Reload);
        };
        // ORDER: the timer is read before the child saga, so that a change in between is a conflict.
        let Ok(stream) = SagaInstance::stream(&id) else { return Ok(Progress::Reload) };
        let timer = Slot::of(&stream).queue().get(&*self.shared.store, &stream).await?;
        let child = self.load_child(&id).await?;
        let (transitions, commit) = self.undo_of_child(unit, &id, &stream, timer.as_ref(), child, context.key, now)?;
        let mut events = Vec::new();
        for transition in transitions {
            let Ok(more) = current.state.transition(transition, now) else { return Ok(Progress::Reload) };
            events.extend(more);
        }
        let timer = self.timer_after(current, false, now);
        let progress = self.commit(current, commit, events, timer).await?;
        self.shared.notify(&id);
        Ok(progress)
    }

    /// Returns the transitions of a step whose child saga is to be compensated, and the commit that cancels the child.
    #[expect(clippy::too_many_arguments, reason = "they are what was read of the child saga")]
    fn undo_of_child(
        &self,
        unit: Unit,
        id: &SagaId,
        stream: &StreamId,
        timer: Option<&Timer>,
        child: Child,
        key: StepKey,
        now: Timestamp,
    ) -> Result<(Vec<Transition>, Commit), StoreError> {
        let start = Transition::StartUndo { unit, key };
        let (mut state, revision) = match child {
            Child::Loaded(state, revision) => (state, revision),
            Child::Unreadable(reason) => return Ok((vec![undo_failed(unit, reason)], Commit::new())),
        };
        let can_cancel = !state.is_past_pivot();
        match state.phase() {
            Phase::Compensated => return Ok((vec![Transition::SucceedUndo { unit }], Commit::new())),
            Phase::Running | Phase::Stuck(Direction::Forward) | Phase::Completed if can_cancel => {}
            // It ends by itself, or waits for a person.
            Phase::Running | Phase::Compensating | Phase::Stuck(_) => return Ok((vec![start], Commit::new())),
            Phase::Completed => {
                let reason = format!("child saga {:?} is past its pivot", id.to_string());
                return Ok((vec![undo_failed(unit, reason)], Commit::new()));
            }
            Phase::Missing | Phase::Killed | Phase::Abandoned => {
                let reason = format!("child saga {:?} is {}", id.to_string(), state.phase().name());
                return Ok((vec![undo_failed(unit, reason)], Commit::new()));
            }
        }
        let note = OperatorNote::new(self.id.to_string(), "it turns back");
        let Ok(events) = state.transition(Transition::CancelByParent { note }, now) else {
            return Ok((vec![start], Commit::new()));
        };
        let metadata = &state.metadata;
        let (correlation, entropy) = (id.correlation(), &*self.shared.entropy);
        let recorder = Recorder { correlation, stream, revision, now, entropy, metadata };
        let commit =
            recorder.add(Commit::new(), &events).map_err(|error| StoreError::io("cancel a child saga", error))?;
        let next = (!state.phase().is_final()).then(|| Timer::new(stream.clone(), now));
        let commit = Slot::of(stream).queue().replace(commit, stream, timer, next.as_ref())?;
        let transitions = match state.phase() {
            // It had no effect.
            Phase::Compensated => vec![Transition::SucceedUndo { unit }],
            // It has a step that only a person can undo.
            Phase::Stuck(_) => vec![start, Transition::ReportChild { unit, reason: description(id, &state) }],
            _ => vec![start],
        };
        Ok((transitions, commit))
    }

    async fn load_child(&mut self, id: &SagaId) -> Result<Child, StoreError> {
        match self.shared.repository.load(id).await {
            Ok(loaded) if loaded.state.defect().is_none() => Ok(Child::Loaded(Box::new(loaded.state), loaded.revision)),
            Ok(loaded) => {
                let defect = loaded.state.defect().unwrap_or_default();
                Ok(Child::Unreadable(format!("child saga {:?} cannot be read: {defect}", id.to_string())))
            }
            Err(LoadError::Store(error)) if !matches!(error, StoreError::Damaged { .. }) => Err(error),
            Err(error) => {
                let error = es_core::model::ErrorChain(&error);
                Ok(Child::Unreadable(format!("child saga {:?} cannot be read: {error}", id.to_string())))
            }
        }
    }

    fn child_definition(&self, current: &Current, unit: Unit) -> Option<Arc<Definition>> {
        self.node(current, unit)?.0.child().map(Arc::clone)
    }

    /// Adds the wake-up of the saga of which this one is a step, if this one ends or is stuck with this commit.
    pub(super) async fn wake_parent(&mut self, current: &Current, commit: Commit) -> Result<Commit, CommitError> {
        let Some(parent) = current.state.parent().filter(|_| concerns_parent(&current.state)) else {
            return Ok(commit);
        };
        Ok(wake(&*self.shared.store, commit, parent, stored_now(&*self.shared.clock)).await?)
    }
}

fn undo_failed(unit: Unit, reason: String) -> Transition {
    Transition::FailUndo { unit, failure: StepFailure::new(ErrorClass::Terminal, reason), retry: LAST, roll: 0 }
}

fn description(id: &SagaId, child: &SagaInstance) -> String {
    let reason = child.reason().unwrap_or("no reason");
    format!("child saga {:?} is {}: {reason}", id.to_string(), child.phase().name())
}

/// Returns what is recorded of a child saga, or `None` while there is nothing to record.
fn observed(
    unit: Unit,
    state: &UnitState,
    id: &SagaId,
    child: &Child,
    definition: Option<&Definition>,
) -> Option<Transition> {
    let report =
        |reason: String| (state.error.as_ref() != Some(&reason)).then_some(Transition::ReportChild { unit, reason });
    let child = match child {
        Child::Loaded(child, _) => child,
        Child::Unreadable(reason) => return report(reason.clone()),
    };
    let text = description(id, child);
    if state.status == UnitStatus::Undoing {
        return match child.phase() {
            Phase::Compensated => Some(Transition::SucceedUndo { unit }),
            Phase::Completed | Phase::Killed | Phase::Abandoned | Phase::Missing => Some(undo_failed(unit, text)),
            Phase::Stuck(_) => report(text),
            Phase::Running | Phase::Compensating => None,
        };
    }
    let failed = |class, exhausted, message: String| {
        let retry = StepRetry { exhausted, ..LAST };
        Some(Transition::Fail { unit, failure: StepFailure::new(class, message), retry, roll: 0 })
    };
    match child.phase() {
        Phase::Completed => match definition?.output(child) {
            Ok(output) => Some(Transition::Succeed { unit, output }),
            // Its effects remain, so it must be undone.
            Err(error) => {
                let error = es_core::model::ErrorChain(&error).to_string();
                failed(ErrorClass::Ambiguous, Exhausted::Compensate, error)
            }
        },
        Phase::Compensated => failed(ErrorClass::Terminal, Exhausted::Compensate, text),
        // Its effects remain, and it cannot undo them any more.
        Phase::Killed | Phase::Abandoned => failed(ErrorClass::Ambiguous, Exhausted::Pause, text),
        Phase::Stuck(_) => report(text),
        Phase::Missing | Phase::Running | Phase::Compensating => None,
    }
}
