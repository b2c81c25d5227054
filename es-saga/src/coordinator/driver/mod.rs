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

mod acts;
mod children;
mod commits;
mod outcomes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use es_core::aggregate::{Aggregate, LoadError};
use es_core::consumer::lease::HeldLease;
use es_core::consumer::timer::Timer;
use es_core::{Commit, CommitError, Revision, StoreError, StreamId, Timestamp};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use uuid::Uuid;

use crate::coordinator::call::{Finished, message};
use crate::coordinator::shared::Shared;
use crate::coordinator::wake::{Slot, idle_timer, quarantined};
use crate::graph::Definition;
use crate::hooks::{HookAction, HookPlace, HookPoint};
use crate::id::{Direction, SagaId, StepKey};
use crate::instance::{Act, SagaInstance, Transition, Unit};
use crate::record::stored_now;
use crate::step::StepContext;

/// The largest number of calls of one saga at the same time, and of outcomes in one commit.
const MAX_CALLS: usize = 64;

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
    /// The [namespace](SagaId::namespace) of the keys and the correlation id of the saga.
    namespace: Uuid,
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
        let (slot, namespace) = (Slot::of(&stream), id.namespace());
        Some(Self {
            shared,
            lease,
            stream,
            slot,
            id,
            namespace,
            calls: FuturesUnordered::new(),
            in_flight: BTreeSet::new(),
            finished: VecDeque::new(),
            batch: MAX_CALLS,
            conflicts: BTreeMap::new(),
        })
    }

    /// Runs the saga until it has nothing to do. A panic of code that belongs to the saga quarantines it.
    pub(super) async fn run(mut self) -> Result<DriveEnd, StoreError> {
        // After a panic, only fields that no call of user code changes are used.
        let panic = match AssertUnwindSafe(self.drive()).catch_unwind().await {
            Ok(end) => return end,
            Err(panic) => panic,
        };
        // Calls in progress end here: their outcomes would not be recorded.
        self.calls.clear();
        if let Some(timer) = self.slot.queue().get(&*self.shared.store, &self.stream).await? {
            self.quarantine(&timer, format!("its code panicked: {}", message(&*panic))).await?;
        }
        Ok(DriveEnd::Idle(None))
    }

    async fn drive(&mut self) -> Result<DriveEnd, StoreError> {
        let mut running = None;
        loop {
            let Some(mut current) = self.load().await? else { return Ok(DriveEnd::Idle(None)) };
            let is_new = current.revision.is_some_and(|revision| revision == Revision::FIRST);
            if running.is_none() {
                running = self.shared.metrics.get(self.id.saga()).map(|metrics| metrics.run(is_new));
            }
            let mut progress = self.observe_children(&mut current).await?;
            loop {
                match progress {
                    Progress::Continue => progress = self.step(&mut current).await?,
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
            if let Some(migration) = definition.migration_from(version) {
                let migrated = migration.transition(&state, &definition.shape);
                let current = Current { state, revision, timer: Some(timer.clone()), definition };
                return match migrated {
                    Ok(transition) => self.migrate(current, transition).await,
                    Err(reason) => {
                        let reason = format!("it cannot be carried over from version {version}: {reason}");
                        self.quarantine(&timer, reason).await.map(|()| None)
                    }
                };
            }
            let reason = format!(
                "it was created by another version of the graph: expected version {} with fingerprint {expected}, \
                 found version {version} with fingerprint {found}",
                definition.shape.version
            );
            return self.quarantine(&timer, reason).await.map(|()| None);
        }
        Ok(Some(Current { state, revision, timer: Some(timer), definition }))
    }

    /// Carries the saga to the registered version of its graph. Returns `None` if it was changed at the same time; the
    /// next scan finds it.
    async fn migrate(&mut self, mut current: Current, transition: Transition) -> Result<Option<Current>, StoreError> {
        let now = stored_now(&*self.shared.clock);
        let Ok(events) = current.state.transition(transition, now) else { return Ok(None) };
        tracing::info!(saga = %self.id, version = current.definition.shape.version, "saga carried to another version");
        let timer = self.timer_after(&current, false, now);
        match self.commit(&mut current, Commit::new(), events, timer).await? {
            Progress::Continue => Ok(Some(current)),
            Progress::Reload | Progress::End(_) => Ok(None),
        }
    }

    /// Sets the saga aside with a reason, so that it is not tried again by this program.
    async fn quarantine(&mut self, timer: &Timer, reason: String) -> Result<(), StoreError> {
        tracing::error!(saga = %self.id, reason, "saga quarantined");
        if let Some(metrics) = self.shared.metrics.get(self.id.saga()) {
            metrics.quarantined.increment(1);
        }
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
        // The acts are performed at the time for which they were computed: a delay that is over stays over.
        let now = stored_now(&*self.shared.clock);
        let acts = if self.shared.is_running() { self.acts(current, now) } else { Vec::new() };
        if !acts.is_empty() {
            return self.act(current, acts, now).await;
        }
        if self.calls.is_empty() {
            return self.finish(current).await;
        }
        Ok(self.wait(current).await)
    }

    /// Returns what to do now, without what is in progress already.
    fn acts(&self, current: &Current, now: Timestamp) -> Vec<Act> {
        let free = MAX_CALLS.saturating_sub(self.in_flight.len());
        let acts = current.state.next(now).into_iter().filter(|act| match act {
            Act::Execute(unit) | Act::Interrupt(unit) | Act::Undo(unit) => !self.in_flight.contains(unit),
            Act::List(_) | Act::Delay(_) | Act::EndDelay(_) | Act::Expire => true,
        });
        acts.take(free).collect()
    }

    /// Waits for the outcome of a call, or for the next time at which the saga has something to do. Child sagas may
    /// have ended in the meantime.
    async fn wait(&mut self, current: &Current) -> Progress {
        let now = self.shared.clock.now();
        let until = current.state.wake_at().and_then(|at| (at - now).to_std().ok());
        let pause = until.unwrap_or(self.shared.poll).clamp(Duration::from_millis(1), self.shared.poll);
        tokio::select! {
            biased;
            finished = self.calls.next() => self.finished.extend(finished),
            () = tokio::time::sleep(pause) => {
                let has_children = current.state.awaited_children().next().is_some();
                return if has_children { Progress::Reload } else { Progress::Continue };
            }
        }
        while self.finished.len() < MAX_CALLS
            && let Some(Some(finished)) = self.calls.next().now_or_never()
        {
            self.finished.push_back(finished);
        }
        Progress::Continue
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
        let key = StepKey::in_namespace(&self.namespace, name, unit.item, run, direction);
        let metadata = Arc::clone(&current.state.metadata);
        StepContext { saga: self.id.clone(), node: name.into(), item: unit.item, attempt, direction, key, metadata }
    }

    fn hook(&self, current: &Current, unit: Unit, direction: Direction, place: HookPlace) -> HookAction {
        let (node, item) = (current.state.node_name(unit.node), unit.item);
        self.shared.hook(HookPoint { saga: &self.id, node, item, direction, place })
    }
}
