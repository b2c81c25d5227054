//! Runs one saga until it has nothing to do.
//!
//! ```text
//!   load --> acts: intents of calls --commit--> calls --> outcomes --commit--> acts ... --> idle: timer --> end
//!     ^                                  conflict |                   |
//!     +-------------------------------------------+-------------------+
//! ```
//!
//! Every commit expects the revision of the instance and the lease of its slot. A coordinator that lost the lease, or
//! an operator who changed the instance, is therefore noticed by the next commit, before a call starts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use es_core::aggregate::{Aggregate, LoadError};
use es_core::consumer::lease::HeldLease;
use es_core::consumer::timer::Timer;
use es_core::store::{Committed, Conflict, FailedCheck};
use es_core::{Commit, CommitError, Revision, StoreError, StreamId, Timestamp};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use crate::coordinator::call::{Call, Finished, Returned};
use crate::coordinator::record::{Recorder, stored_now};
use crate::coordinator::shared::Shared;
use crate::coordinator::wake::{Slot, idle_timer, quarantined};
use crate::failure::{ErrorClass, StepFailure, StepRetry};
use crate::graph::Definition;
use crate::hooks::{HookAction, HookPlace, HookPoint};
use crate::id::{Direction, SagaId, StepKey};
use crate::instance::{Act, Phase, SagaEvent, SagaInstance, Transition, Unit, UnitStatus};
use crate::shape::{Effect, Repeat};
use crate::step::StepContext;

/// The largest number of calls of one saga at the same time, and of outcomes in one commit.
const MAX_CALLS: usize = 64;
/// The number of commits of a local step that may conflict before the attempt counts as failed.
const MAX_CONFLICTS: u32 = 20;

/// Why a run of a saga ended.
pub(super) enum DriveEnd {
    /// Nothing is to be done before this time, or at all.
    Idle(Option<Timestamp>),
    /// The coordinator is stopping.
    Stopped,
    /// Another coordinator owns the slot.
    LeaseLost,
}

/// A test hook has simulated a crash: nothing more may be done.
struct Crashed;

/// What follows a step of the loop.
enum Progress {
    /// The state is current.
    Continue,
    /// The instance was changed by another writer, or a commit was refused: load it again.
    Reload,
    End(DriveEnd),
}

/// The instance as it was loaded, with the changes that were committed since.
struct Current {
    state: SagaInstance,
    revision: Option<Revision>,
    timer: Option<Timer>,
    definition: Arc<Definition>,
}

pub(super) struct Driver {
    shared: Arc<Shared>,
    lease: HeldLease,
    stream: StreamId,
    slot: Slot,
    id: SagaId,
    calls: FuturesUnordered<BoxFuture<'static, Finished>>,
    in_flight: BTreeSet<Unit>,
    /// Outcomes that are not recorded yet.
    finished: VecDeque<Finished>,
    /// The largest number of outcomes in the next commit.
    batch: usize,
    conflicts: BTreeMap<Unit, u32>,
}

impl Driver {
    /// Returns a driver of the saga in this stream, or `None` if the stream has no saga.
    pub(super) fn new(shared: Arc<Shared>, lease: HeldLease, stream: StreamId) -> Option<Self> {
        let id = SagaInstance::id_of(&stream)?;
        let slot = Slot::of(&stream);
        Some(Self {
            shared,
            lease,
            stream,
            slot,
            id,
            calls: FuturesUnordered::new(),
            in_flight: BTreeSet::new(),
            finished: VecDeque::new(),
            batch: MAX_CALLS,
            conflicts: BTreeMap::new(),
        })
    }

    /// Runs the saga until it has nothing to do.
    pub(super) async fn run(mut self) -> Result<DriveEnd, StoreError> {
        loop {
            let Some(mut current) = self.load().await? else { return Ok(DriveEnd::Idle(None)) };
            loop {
                match self.step(&mut current).await? {
                    Progress::Continue => {}
                    Progress::Reload => break,
                    Progress::End(end) => return Ok(end),
                }
            }
            if !self.lease.is_held(&*self.shared.store).await? {
                return Ok(DriveEnd::LeaseLost);
            }
        }
    }

    /// Loads the instance. Returns `None` if there is nothing to run; an instance that cannot be run is quarantined.
    async fn load(&mut self) -> Result<Option<Current>, StoreError> {
        // ORDER: the timer is read before the instance, so that a change in between is a conflict.
        let Some(timer) = self.slot.queue().get(&*self.shared.store, &self.stream).await? else { return Ok(None) };
        let loaded = match self.shared.repository.load(&self.id).await {
            Ok(loaded) => loaded,
            Err(LoadError::Store(error)) if !matches!(error, StoreError::Damaged { .. }) => return Err(error),
            Err(error) => {
                let reason = format!("it cannot be read: {}", es_core::model::ErrorChain(&error));
                return self.quarantine(&timer, reason).await.map(|()| None);
            }
        };
        let (state, revision) = (loaded.state, loaded.revision);
        if let Some(defect) = state.defect().map(ToOwned::to_owned) {
            return self
                .quarantine(&timer, format!("its events are not those of a saga: {defect}"))
                .await
                .map(|()| None);
        }
        let Some(definition) = self.shared.definitions.get(self.id.saga()).map(Arc::clone) else {
            return self.quarantine(&timer, "its definition is not registered".to_owned()).await.map(|()| None);
        };
        if !state.phase().is_final() && state.fingerprint() != Some(definition.fingerprint) {
            let found = state.fingerprint().map(|found| found.to_string()).unwrap_or_default();
            let (version, expected) = (state.shape().version, definition.fingerprint);
            let reason = format!(
                "it was created by another version of the graph: expected version {} with fingerprint {expected}, \
                 found version {version} with fingerprint {found}",
                definition.shape.version
            );
            return self.quarantine(&timer, reason).await.map(|()| None);
        }
        Ok(Some(Current { state, revision, timer: Some(timer), definition }))
    }

    /// Sets the saga aside with a reason, so that it is not tried again by this program.
    async fn quarantine(&mut self, timer: &Timer, reason: String) -> Result<(), StoreError> {
        tracing::error!(saga = %self.id, reason, "saga quarantined");
        let next = Timer::new(self.stream.clone(), quarantined()).with_note(reason);
        let commit =
            self.slot.queue().replace(self.lease.expect(Commit::new()), &self.stream, Some(timer), Some(&next))?;
        match self.shared.store.commit(commit).await {
            // After a conflict, the owner of the slot or the next run sets it aside.
            Ok(_) | Err(CommitError::Conflict(_)) => Ok(()),
            Err(CommitError::Store(error)) => Err(error),
            Err(error) => Err(StoreError::io("quarantine a saga", error)),
        }
    }

    /// Records outcomes, starts calls, and waits if there is nothing else to do.
    async fn step(&mut self, current: &mut Current) -> Result<Progress, StoreError> {
        if current.state.phase().is_final() {
            return self.finish(current).await;
        }
        if !self.finished.is_empty() {
            return self.record(current).await;
        }
        let acts = if self.shared.is_running() { self.acts(current) } else { Vec::new() };
        if !acts.is_empty() {
            return self.act(current, acts).await;
        }
        if self.calls.is_empty() {
            return self.finish(current).await;
        }
        self.wait(current).await;
        Ok(Progress::Continue)
    }

    /// Returns what to do now, without what is in progress already.
    fn acts(&self, current: &Current) -> Vec<Act> {
        let free = MAX_CALLS.saturating_sub(self.in_flight.len());
        let acts = current.state.next(stored_now(&*self.shared.clock)).into_iter().filter(|act| match act {
            Act::Execute(unit) | Act::Interrupt(unit) | Act::Undo(unit) => !self.in_flight.contains(unit),
            Act::List(_) | Act::Expire => true,
        });
        acts.take(free).collect()
    }

    /// Waits for the outcome of a call, or for the next time at which the saga has something to do.
    async fn wait(&mut self, current: &Current) {
        let now = self.shared.clock.now();
        let until = current.state.wake_at().and_then(|at| (at - now).to_std().ok());
        let pause = until.unwrap_or(self.shared.poll).clamp(Duration::from_millis(1), self.shared.poll);
        tokio::select! {
            finished = self.calls.next() => self.finished.extend(finished),
            () = tokio::time::sleep(pause) => return,
        }
        while self.finished.len() < MAX_CALLS
            && let Some(Some(finished)) = self.calls.next().now_or_never()
        {
            self.finished.push_back(finished);
        }
    }

    /// Sets the timer of a saga for which nothing is to be done, and ends the run.
    async fn finish(&mut self, current: &mut Current) -> Result<Progress, StoreError> {
        if !current.state.phase().is_final() && !self.shared.is_running() {
            return Ok(Progress::End(DriveEnd::Stopped));
        }
        let idle = idle_timer(&self.stream, &current.state);
        if idle != current.timer {
            match self.commit(current, Commit::new(), Vec::new(), idle.clone()).await? {
                Progress::Continue => {}
                other => return Ok(other),
            }
        }
        Ok(Progress::End(DriveEnd::Idle(idle.map(|timer| timer.due))))
    }

    /// Performs acts: records the intents of calls in one commit, then starts the calls.
    async fn act(&mut self, current: &mut Current, acts: Vec<Act>) -> Result<Progress, StoreError> {
        let now = stored_now(&*self.shared.clock);
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
                // An earlier act of this round has turned the saga back.
                Act::Execute(_) | Act::Undo(_) => Ok(None),
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
            if self.start(current, unit, direction).is_err() {
                return Ok(Progress::End(DriveEnd::Stopped));
            }
        }
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
        if shape.repeat == Repeat::Optional && state.status == UnitStatus::Pending && state.attempts == 0 {
            match code.includes(&current.state) {
                Ok(true) => {}
                Ok(false) => return Ok(Some(Transition::Omit { node: unit.node })),
                Err(error) => {
                    let message = es_core::model::ErrorChain(&error).to_string();
                    return fail(StepFailure::new(ErrorClass::Terminal, message));
                }
            }
        }
        let context = self.context(current, unit, Direction::Forward, state.attempts.saturating_add(1));
        if self.hook(&context, HookPlace::BeforeIntent) == HookAction::Crash {
            return Err(Crashed);
        }
        if shape.effect == Effect::Local {
            started.push((unit, Direction::Forward));
            return Ok(None);
        }
        let Some(step) = self.shared.steps.get(code.step()) else { return Ok(None) };
        let prepared = code.prepare(&step.instance, &current.state, &context);
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
        let Some((_, shape)) = self.node(current, unit) else { return Ok(None) };
        let attempts = current.state.unit(unit).map_or(0, |state| state.undo_attempts);
        let attempt = attempts.saturating_add(1);
        let context = self.context(current, unit, Direction::Backward, attempt);
        if self.hook(&context, HookPlace::BeforeIntent) == HookAction::Crash {
            return Err(Crashed);
        }
        started.push((unit, Direction::Backward));
        Ok((shape.effect == Effect::External).then_some(Transition::StartUndo { unit, key: context.key }))
    }

    /// Starts a call whose intent is recorded.
    fn start(&mut self, current: &Current, unit: Unit, direction: Direction) -> Result<(), Crashed> {
        let Some((code, shape)) = self.node(current, unit) else { return Ok(()) };
        let Some(state) = current.state.unit(unit) else { return Ok(()) };
        let attempts = if direction == Direction::Forward { state.attempts } else { state.undo_attempts };
        // The intent of an external step has counted the attempt already.
        let attempt = attempts.saturating_add(u32::from(shape.effect == Effect::Local));
        let context = self.context(current, unit, direction, attempt);
        let place = if shape.effect == Effect::Local { HookPlace::BeforeIntent } else { HookPlace::BeforeCall };
        let hook = self.hook(&context, place);
        if hook == HookAction::Crash {
            return Err(Crashed);
        }
        let Some(step) = self.shared.steps.get(code.step()) else { return Ok(()) };
        let call = Call {
            code,
            step: &step.instance,
            permits: step.permits.clone(),
            instance: &current.state,
            unit,
            effect: shape.effect,
            context,
            hook,
        };
        self.calls.push(call.start());
        self.in_flight.insert(unit);
        Ok(())
    }

    /// Records outcomes: those of external steps together, that of a local step alone, with its effect.
    async fn record(&mut self, current: &mut Current) -> Result<Progress, StoreError> {
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
            let context = self.context(current, finished.unit, finished.direction, 0);
            if self.hook(&context, HookPlace::BeforeOutcome) == HookAction::Crash {
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
        for finished in self.finished.drain(..count).collect::<Vec<_>>() {
            self.in_flight.remove(&finished.unit);
            self.conflicts.remove(&finished.unit);
            let context = self.context(current, finished.unit, finished.direction, 0);
            if self.hook(&context, HookPlace::AfterOutcome) == HookAction::Crash {
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

    fn failed(&self, unit: Unit, failure: StepFailure, retry: StepRetry) -> Transition {
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
            Err(CommitError::Conflict(conflict)) if self.is_own(&conflict) || !is_local => Ok(Progress::Reload),
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

    /// Returns whether a conflict concerns the instance or its timer, and not the effect of a local step.
    fn is_own(&self, conflict: &Conflict) -> bool {
        conflict.failed.iter().any(|check| match check {
            FailedCheck::Revision { stream, .. } | FailedCheck::Deleted { stream, .. } => *stream == self.stream,
            FailedCheck::Row { table, .. } => table.as_str() == "es.timers",
            _ => false,
        })
    }

    /// Commits events that have no outcome of a call.
    async fn commit(
        &mut self,
        current: &mut Current,
        commit: Commit,
        events: Vec<SagaEvent>,
        timer: Option<Timer>,
    ) -> Result<Progress, StoreError> {
        match self.write(current, commit, &events, timer.as_ref()).await {
            Ok(committed) => {
                current.revision = committed.revision(&self.stream).or(current.revision);
                current.timer = timer;
                Ok(Progress::Continue)
            }
            Err(CommitError::Conflict(conflict)) if self.lease.is_lost_by(&conflict) => {
                Ok(Progress::End(DriveEnd::LeaseLost))
            }
            Err(CommitError::Conflict(_)) => Ok(Progress::Reload),
            Err(CommitError::Store(error)) => Err(error),
            Err(error) => {
                let reason = format!("its events are refused: {}", es_core::model::ErrorChain(&error));
                if let Some(timer) = current.timer.clone() {
                    self.quarantine(&timer, reason).await?;
                }
                Ok(Progress::End(DriveEnd::Idle(None)))
            }
        }
    }

    async fn write(
        &mut self,
        current: &Current,
        commit: Commit,
        events: &[SagaEvent],
        timer: Option<&Timer>,
    ) -> Result<Committed, CommitError> {
        let commit = self.build(current, commit, events, timer)?;
        self.shared.store.commit(commit).await
    }

    /// Adds events, the timer and the conditions to a commit.
    fn build(
        &self,
        current: &Current,
        commit: Commit,
        events: &[SagaEvent],
        timer: Option<&Timer>,
    ) -> Result<Commit, CommitError> {
        let (now, entropy) = (stored_now(&*self.shared.clock), &*self.shared.entropy);
        let recorder = Recorder { id: &self.id, stream: &self.stream, revision: current.revision, now, entropy };
        let commit = recorder.add(commit, events).map_err(|error| CommitError::Rejected(error.into()))?;
        let commit = self.lease.expect(commit);
        if timer == current.timer.as_ref() {
            return Ok(commit);
        }
        Ok(self.slot.queue().replace(commit, &self.stream, current.timer.as_ref(), timer)?)
    }

    /// Returns the timer with which the next commit leaves the saga: that of an idle saga if nothing more is to be
    /// done, otherwise one that is due, so that the saga continues after a crash.
    fn timer_after(&self, current: &Current, has_more: bool, now: Timestamp) -> Option<Timer> {
        let calls = self.in_flight.len() > self.finished.len();
        if current.state.phase().is_final() || !(has_more || calls || !current.state.next(now).is_empty()) {
            return idle_timer(&self.stream, &current.state);
        }
        let due = current.timer.clone().filter(|timer| timer.due <= now);
        Some(due.unwrap_or_else(|| Timer::new(self.stream.clone(), now)))
    }

    fn node<'a>(
        &self,
        current: &'a Current,
        unit: Unit,
    ) -> Option<(&'a dyn crate::graph::NodeCode, &'a crate::shape::NodeShape)> {
        let code = current.definition.codes.get(unit.node as usize)?;
        Some((&**code, current.definition.shape.nodes.get(unit.node as usize)?))
    }

    fn context(&self, current: &Current, unit: Unit, direction: Direction, attempt: u32) -> StepContext {
        let name = current.state.node_name(unit.node);
        let run = current.state.nodes().get(unit.node as usize).map_or(0, |node| node.run);
        let key = StepKey::of(&self.id, name, unit.item, run, direction);
        StepContext { saga: self.id.clone(), node: name.into(), item: unit.item, attempt, direction, key }
    }

    fn hook(&self, context: &StepContext, place: HookPlace) -> HookAction {
        let StepContext { saga, node, item, direction, .. } = context;
        self.shared.hook(HookPoint { saga, node, item: *item, direction: *direction, place })
    }
}
