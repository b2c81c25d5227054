//! [`SagaCoordinator`]: runs the sagas of a store.
//!
//! ```text
//!   create --commit--> instance, timer --scan--> slot (lease) --> driver of one saga --> calls of steps
//!                           ^                                        |
//!                           +------- events, timer: one commit ------+
//! ```
//!
//! - `wake`: the durable timers of unfinished sagas, and their distribution over slots.
//! - `slots`: one task for each slot, which holds the lease of the slot and finds the sagas that are due.
//! - `driver`: runs one saga until it has nothing to do. A waiting saga is not in memory.
//! - `call`: one call of a step, with its timeout.
//! - `metrics`: counters, gauges and histograms per saga and step.
//! - `admin`: creates and operates sagas.
//! - `list`: lists and shows sagas.

mod admin;
mod call;
mod driver;
mod error;
mod list;
mod metrics;
mod record;
mod shared;
mod slots;
mod wake;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use es_core::aggregate::Aggregate;
use es_core::consumer::lease::LeaseTerms;
use es_core::model::{Clock, Entropy, SystemClock, SystemEntropy};
use es_core::{EventStore, Repository};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::task::JoinSet;

pub use admin::SagaAdmin;
pub use error::{CreateError, ExecuteSagaError, OperateError, SagaStartError};
pub use list::{SagaCursor, SagaList, UnfinishedSaga};

use crate::graph::{Definition, Saga, StepInstance};
use crate::hooks::{Hook, HookAction, HookPoint};
use crate::id::SagaId;
use crate::instance::{OperatorNote, Phase, SagaInstance, SagaVerb};
use crate::record::owner_id;
use crate::shape::Effect;
use crate::step::{DeclaredStep, Stored};
use metrics::SagaMetrics;
use shared::{Changes, RegisteredStep, RunState, Shared};
use wake::Slot;

/// Describes the sagas of a store and how they run. [`start`](Self::start) starts it.
///
/// Several coordinators may be started on one store, also in several processes: one of them runs the sagas, another one
/// takes over when it ends or loses its leases.
pub struct SagaCoordinator {
    definitions: Vec<Arc<Definition>>,
    steps: Vec<(&'static str, StepInstance, Option<usize>)>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    hook: Option<Arc<Hook>>,
    concurrency: usize,
    poll: Duration,
    lease: Duration,
}

impl fmt::Debug for SagaCoordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sagas: Vec<&str> = self.definitions.iter().map(|definition| definition.shape.name.as_str()).collect();
        let steps: Vec<&str> = self.steps.iter().map(|(name, ..)| *name).collect();
        f.debug_struct("SagaCoordinator").field("sagas", &sagas).field("steps", &steps).finish_non_exhaustive()
    }
}

impl Default for SagaCoordinator {
    fn default() -> Self {
        Self::new()
    }
}

impl SagaCoordinator {
    /// Returns a coordinator without sagas.
    #[must_use]
    pub fn new() -> Self {
        Self {
            definitions: Vec::new(),
            steps: Vec::new(),
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
            hook: None,
            concurrency: 256,
            poll: Duration::from_secs(1),
            lease: Duration::from_secs(30),
        }
    }

    /// Registers a saga, and its child sagas.
    #[must_use]
    pub fn saga<I, O>(mut self, saga: &Saga<I, O>) -> Self {
        self.definitions.push(Arc::clone(&saga.definition));
        self
    }

    /// Registers an instance of a step, which may hold a client or a pool, under the name of the step.
    #[must_use]
    pub fn step<S: DeclaredStep>(mut self, step: S) -> Self {
        self.steps.push((S::NAME, Arc::new(step), S::OPTIONS.concurrency));
        self
    }

    /// Sets the largest number of sagas that run at the same time, at least 1; 256 by default. A saga that waits for
    /// its next attempt, its deadline or a person does not count.
    #[must_use]
    pub fn concurrency(mut self, sagas: usize) -> Self {
        self.concurrency = sagas.max(1);
        self
    }

    /// Sets the longest time after which sagas are found that another process created or changed; 1 s by default.
    #[must_use]
    pub fn poll(mut self, time: Duration) -> Self {
        self.poll = time.max(Duration::from_millis(1));
        self
    }

    /// Sets the length of the leases, after which another coordinator takes over from one that has died; 30 s by
    /// default. A store that is open in one process only does not wait for it.
    #[must_use]
    pub fn lease(mut self, time: Duration) -> Self {
        self.lease = time.max(Duration::from_millis(3));
        self
    }

    /// Replaces the clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Replaces the source of random numbers, from which event ids and the jitter of retries come.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Sets a function that a test uses to interfere at each point of each step; see [`HookPlace`](crate::HookPlace).
    #[must_use]
    pub fn test_hook(mut self, hook: impl Fn(HookPoint<'_>) -> HookAction + Send + Sync + 'static) -> Self {
        self.hook = Some(Arc::new(hook));
        self
    }

    /// Starts the coordinator. All unfinished sagas continue.
    ///
    /// # Errors
    /// - [`SagaStartError::MissingSteps`] if a step of a registered saga is not registered, or with another type.
    /// - [`SagaStartError::UnknownSaga`] if there are unfinished instances of a saga that is not registered.
    /// - [`SagaStartError::Duplicate`] if a saga or a step is registered twice.
    /// - [`SagaStartError::NoRuntime`] if the caller is outside of a tokio runtime.
    /// - [`SagaStartError::Store`] if the store failed.
    pub async fn start(self, store: Arc<dyn EventStore>) -> Result<RunningSagas, SagaStartError> {
        let runtime = Handle::try_current().map_err(|_| SagaStartError::NoRuntime)?;
        let admin = SagaAdmin::new(Arc::clone(&store))
            .with_clock(Arc::clone(&self.clock))
            .with_entropy(Arc::clone(&self.entropy));
        let (lease, shared) = (self.lease, Arc::new(self.into_shared(store)?));
        check_unfinished(&shared, &admin).await?;
        let owner = owner_id(&*shared.entropy);
        let mut slots = JoinSet::new();
        for slot in Slot::all() {
            let terms = LeaseTerms { owner, duration: lease };
            slots.spawn_on(slots::run_slot(Arc::clone(&shared), slot, terms), &runtime);
        }
        Ok(RunningSagas { shared, admin, slots })
    }

    fn into_shared(self, store: Arc<dyn EventStore>) -> Result<Shared, SagaStartError> {
        let mut steps = BTreeMap::new();
        for (name, instance, concurrency) in self.steps {
            let permits = concurrency.map(|limit| Arc::new(Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS))));
            if steps.insert(name, RegisteredStep { instance, permits }).is_some() {
                return Err(SagaStartError::Duplicate { kind: "step", name: name.to_owned() });
            }
        }
        let (mut definitions, mut metrics) = (BTreeMap::new(), BTreeMap::new());
        for definition in with_children(self.definitions)? {
            let name = definition.shape.name.clone();
            let is_missing = |code: &dyn crate::graph::NodeCode| {
                steps.get(code.step()).is_none_or(|step| !code.accepts(&step.instance))
            };
            let missing: BTreeSet<String> = definition
                .codes
                .iter()
                .filter(|code| code.is_called() && is_missing(&***code))
                .map(|code| code.step().to_owned())
                .collect();
            if !missing.is_empty() {
                return Err(SagaStartError::MissingSteps { saga: name, steps: missing.into_iter().collect() });
            }
            metrics.insert(name.clone(), SagaMetrics::new(&definition));
            definitions.insert(name, definition);
        }
        Ok(Shared {
            repository: Repository::new(Arc::clone(&store)).without_cache().with_clock(Arc::clone(&self.clock)),
            store,
            definitions,
            steps,
            metrics,
            clock: self.clock,
            entropy: self.entropy,
            hook: self.hook,
            sagas: Arc::new(Semaphore::new(self.concurrency.min(Semaphore::MAX_PERMITS))),
            poll: self.poll,
            changes: std::array::from_fn(|_| Changes::default()),
            stopped_sagas: broadcast::Sender::new(1024),
            run_state: watch::Sender::new(RunState::Running),
        })
    }
}

/// Returns the definitions and those of their child sagas.
fn with_children(registered: Vec<Arc<Definition>>) -> Result<Vec<Arc<Definition>>, SagaStartError> {
    let duplicate = |name: &str| SagaStartError::Duplicate { kind: "saga", name: name.to_owned() };
    let mut known = BTreeMap::<String, Arc<Definition>>::new();
    for definition in &registered {
        if known.insert(definition.shape.name.clone(), Arc::clone(definition)).is_some() {
            return Err(duplicate(&definition.shape.name));
        }
    }
    let mut pending = registered;
    while let Some(parent) = pending.pop() {
        for child in parent.codes.iter().filter_map(|code| code.child()) {
            match known.get(&child.shape.name) {
                Some(other) if other.fingerprint == child.fingerprint => {}
                Some(_) => return Err(duplicate(&child.shape.name)),
                None => {
                    known.insert(child.shape.name.clone(), Arc::clone(child));
                    pending.push(Arc::clone(child));
                }
            }
        }
    }
    Ok(known.into_values().collect())
}

/// Checks that all unfinished sagas are registered. Sagas that were quarantined before are not checked.
async fn check_unfinished(shared: &Shared, admin: &SagaAdmin) -> Result<(), SagaStartError> {
    const PAGE: usize = 4096;
    let mut last: Option<UnfinishedSaga> = None;
    loop {
        let page = admin.unfinished(last.as_ref(), PAGE).await?;
        let is_known =
            |saga: &&UnfinishedSaga| saga.quarantine.is_some() || shared.definitions.contains_key(saga.id.saga());
        if let Some(unknown) = page.iter().find(|saga| !is_known(saga)) {
            let steps = match admin.status(&unknown.id).await {
                Ok(state) => {
                    let nodes = state.shape().nodes.iter();
                    let steps = nodes.filter(|node| !matches!(node.effect, Effect::Delay { .. }));
                    steps.map(|node| node.step.clone()).collect::<BTreeSet<_>>()
                }
                Err(_) => BTreeSet::new(),
            };
            return Err(SagaStartError::UnknownSaga {
                saga: unknown.id.saga().to_owned(),
                instance: unknown.id.to_string(),
                steps: steps.into_iter().filter(|step| !shared.steps.contains_key(step.as_str())).collect(),
            });
        }
        let is_last_page = page.len() < PAGE;
        last = page.into_iter().next_back();
        if is_last_page || last.is_none() {
            return Ok(());
        }
    }
}

/// A running coordinator. Dropping it aborts the calls in progress, like a crash; their sagas continue at the next
/// start.
#[derive(Debug)]
pub struct RunningSagas {
    shared: Arc<Shared>,
    admin: SagaAdmin,
    slots: JoinSet<()>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("store", &self.store).finish_non_exhaustive()
    }
}

impl RunningSagas {
    /// Returns the admin interface. The coordinator notices its changes within [`SagaCoordinator::poll`].
    #[must_use]
    pub const fn admin(&self) -> &SagaAdmin {
        &self.admin
    }

    /// Creates an instance durably and lets it run. See [`SagaAdmin::create`].
    ///
    /// # Errors
    /// As for [`SagaAdmin::create`].
    pub async fn create<I: Stored, O: Stored>(
        &self,
        saga: &Saga<I, O>,
        instance: &str,
        input: &I,
    ) -> Result<SagaId, CreateError> {
        let id = self.admin.create(saga, instance, input).await?;
        self.shared.notify(&id);
        Ok(id)
    }

    /// Creates an instance, waits until it ends or is stuck, and returns its output. An instance that exists is not
    /// created again. If the future is dropped, the saga continues.
    ///
    /// # Errors
    /// - [`ExecuteSagaError::NotCompleted`] if the saga ended without an output, is stuck, or cannot be run.
    /// - [`ExecuteSagaError::Stopped`] if the coordinator was shut down before.
    /// - The other variants if the infrastructure fails.
    pub async fn execute<I: Stored, O: Stored>(
        &self,
        saga: &Saga<I, O>,
        instance: &str,
        input: &I,
    ) -> Result<O, ExecuteSagaError> {
        let id = self.create(saga, instance, input).await?;
        let state = self.wait(&id).await?;
        if state.phase() != Phase::Completed {
            let reason = state.reason().unwrap_or("it cannot be run by this program").to_owned();
            let phase = state.phase().name();
            return Err(ExecuteSagaError::NotCompleted { saga: id.to_string(), phase, reason });
        }
        Ok(serde_json::from_value(saga.definition.output(&state)?)?)
    }

    /// Waits until an instance ends, is stuck or is quarantined, and returns its state.
    ///
    /// # Errors
    /// - [`ExecuteSagaError::Stopped`] if the coordinator was shut down before.
    /// - [`ExecuteSagaError::Load`] if the instance cannot be read.
    pub async fn wait(&self, id: &SagaId) -> Result<SagaInstance, ExecuteSagaError> {
        let stream = SagaInstance::stream(id).map_err(|error| ExecuteSagaError::Create(error.into()))?;
        let mut stopped = self.shared.stopped_sagas.subscribe();
        loop {
            let state = self.admin.status(id).await?;
            let timer = Slot::of(&stream).queue().get(&*self.shared.store, &stream).await;
            let timer = timer.map_err(|error| ExecuteSagaError::Load(error.into()))?;
            let is_quarantined = timer.is_some_and(|timer| !timer.note.is_empty());
            if state.phase().is_final() || matches!(state.phase(), Phase::Stuck(_)) || is_quarantined {
                return Ok(state);
            }
            if !self.shared.is_running() {
                return Err(ExecuteSagaError::Stopped);
            }
            let this_saga = async {
                // A receiver that is late has missed sagas, perhaps this one.
                while stopped.recv().await.is_ok_and(|other| other != stream) {}
            };
            tokio::select! {
                () = this_saga => {}
                _ = self.shared.not_running() => {}
                () = tokio::time::sleep(self.shared.poll) => {}
            }
        }
    }

    /// Has an instance compensated, also a completed one: undoes its steps in reverse order. Returns at once.
    ///
    /// # Errors
    /// As for [`SagaAdmin::operate`].
    pub async fn compensate(&self, id: &SagaId, note: OperatorNote) -> Result<Phase, OperateError> {
        self.operate(id, SagaVerb::Cancel, note).await
    }

    /// Returns the state of an instance.
    ///
    /// # Errors
    /// [`LoadError`](es_core::LoadError) if the instance cannot be read.
    pub async fn status(&self, id: &SagaId) -> Result<SagaInstance, es_core::LoadError> {
        self.admin.status(id).await
    }

    /// Performs an action on an instance. See [`SagaAdmin::operate`].
    ///
    /// # Errors
    /// As for [`SagaAdmin::operate`].
    pub async fn operate(&self, id: &SagaId, verb: SagaVerb, note: OperatorNote) -> Result<Phase, OperateError> {
        let phase = self.admin.operate(id, verb, note).await?;
        if let Some(metrics) = self.shared.metrics.get(id.saga()) {
            metrics.count_operated(phase);
        }
        self.shared.notify(id);
        Ok(phase)
    }

    /// Stops the coordinator: starts no new call, waits for the calls in progress, records their outcomes and releases
    /// the leases. Returns `false` if calls did not end before `deadline` and were aborted; their sagas continue at the
    /// next start.
    pub async fn shutdown(mut self, deadline: Duration) -> bool {
        self.shared.run_state.send_if_modified(|state| {
            let is_running = *state == RunState::Running;
            if is_running {
                *state = RunState::Stopping;
            }
            is_running
        });
        let ended = async { while self.slots.join_next().await.is_some() {} };
        tokio::time::timeout(deadline, ended).await.is_ok()
    }
}
