//! [`Supervisor`]: starts projections, restarts them after a failure, and shuts them down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::admin::ProjectionAdmin;
use super::follower::stop_requested;
use super::metrics;
use super::options::ProjectionOptions;
use super::rows::RowKeys;
use super::runner::{RunEnd, Runner};
use super::status::{Phase, ProjectionMonitor, ProjectionStatus};
use crate::aggregate::OrderOf;
use crate::consumer::lease::LeaseTerms;
use crate::consumer::{ShutdownError, StartError, WaitError};
use crate::model::ErrorChain;
use crate::model::Position;
use crate::model::{Clock, Entropy, IdSource, SystemClock, SystemEntropy};
use crate::projection::late::sealed;
use crate::projection::{AcceptsOrder, Projection};
use crate::store::{EventStore, StoreError};

/// A run of at least this length resets the pauses between restarts.
const STABLE_RUN: Duration = Duration::from_secs(60);

/// Describes the projections that run in the background over one store. [`start`](Self::start) starts them.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use es_core::prelude::*;
/// # use es_core::{EventStore, store::memory::MemoryStore};
/// # use es_core::projection::{ApplyError, Projection, ProjectionOptions, Rows, Supervisor};
/// # #[derive(Clone, Debug, serde::Serialize, serde::Deserialize, es_core::Event)]
/// # #[event(name = "order-placed")]
/// # struct OrderPlaced {}
/// # #[derive(Clone, Aggregate)]
/// # #[aggregate(category = "order", id = u64, event = OrderPlaced)]
/// # struct Order;
/// struct OrderCount;
///
/// impl Projection for OrderCount {
///     type Source = Order;
///     const NAME: &'static str = "order-count";
///
///     fn apply(&self, _: &OrderPlaced, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
///         let table = es_core::model::Table::new("count")?;
///         let before = rows.get(&table, b"all")?.map_or(0, |count| count.len());
///         rows.put(&table, "all", "i".repeat(before + 1));
///         Ok(())
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// # let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
/// let running = Supervisor::new()
///     .projection(OrderCount, ProjectionOptions::new().partitions(2))
///     .start(Arc::clone(&store))
///     .await?;
/// let counts = running.projection(OrderCount::NAME).expect("it was added");
/// # let event = es_core::NewEvent::json(es_core::EventType::new("order-placed")?, "{}");
/// # let commit = es_core::Commit::to(&es_core::StreamId::new("order-1")?, es_core::ExpectedRevision::Any, [event]);
/// let committed = store.commit(commit).await?;
/// counts.wait_for(committed.position(), Duration::from_secs(10)).await?;
/// counts.admin().pause("maintenance").await?;
/// running.shutdown(Duration::from_secs(10)).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Supervisor {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    registrations: Vec<Registration>,
}

/// A projection and the function that starts it.
struct Registration {
    name: &'static str,
    start: StartFn,
}

type StartFn = Box<dyn FnOnce(Dependencies, &mut JoinSet<&'static str>) + Send>;

/// The dependencies with which a projection is started.
struct Dependencies {
    store: Arc<dyn EventStore>,
    /// The identity under which the projection holds its lease.
    owner: Uuid,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    admin: ProjectionAdmin,
    monitor: Arc<ProjectionMonitor>,
    stop: watch::Receiver<bool>,
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    /// Creates a supervisor without projections.
    #[must_use]
    pub fn new() -> Self {
        Self { clock: Arc::new(SystemClock::new()), entropy: Arc::new(SystemEntropy), registrations: Vec::new() }
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the source of random numbers, from which the identities of lease owners come.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Adds a projection. If events of its source can arrive late, it must
    /// [handle them](crate::projection::HandlesLateEvents).
    #[must_use]
    pub fn projection<P>(mut self, projection: P, options: ProjectionOptions) -> Self
    where
        P: Projection + AcceptsOrder<OrderOf<P::Source>>,
    {
        let start = Box::new(move |dependencies: Dependencies, tasks: &mut JoinSet<&'static str>| {
            let is_settled = <P as sealed::Accepts<OrderOf<P::Source>>>::IS_SETTLED;
            let options = options.within_bounds();
            let options = if is_settled { options.partitions(1) } else { options };
            let Dependencies { store, owner, clock, entropy, admin, monitor, stop } = dependencies;
            let runner = Runner {
                keys: RowKeys::new(P::NAME),
                lease: LeaseTerms { owner, duration: options.lease },
                projection: Arc::new(projection),
                options,
                is_settled,
                store,
                clock,
                entropy,
                admin,
                monitor,
                stop,
            };
            tasks.spawn(supervise(Arc::new(runner)));
        });
        self.registrations.push(Registration { name: P::NAME, start });
        self
    }

    /// Adds the projections of another supervisor.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.registrations.extend(other.registrations);
        self
    }

    /// Starts all projections on the current tokio runtime.
    ///
    /// # Errors
    /// - [`StartError::NoRuntime`] if the caller is outside of a tokio runtime.
    /// - [`StartError::Name`] if the name of a projection is invalid.
    /// - [`StartError::DuplicateName`] if two projections have the same name.
    /// - [`StartError::RunsInline`] if a projection already runs inline in this store.
    #[expect(clippy::unused_async, reason = "every background component starts in the same way")]
    pub async fn start(self, store: Arc<dyn EventStore>) -> Result<RunningProjections, StartError> {
        if Handle::try_current().is_err() {
            return Err(StartError::NoRuntime);
        }
        let mut projections = BTreeMap::new();
        for Registration { name, .. } in &self.registrations {
            if store.runs_hook(name) {
                return Err(StartError::RunsInline { name });
            }
            let admin = ProjectionAdmin::new(Arc::clone(&store), name)?;
            let admin = admin.ids_from(Arc::clone(&self.clock), Arc::clone(&self.entropy));
            metrics::register(name);
            let monitor = Arc::new(ProjectionMonitor::new(name, Arc::clone(&self.clock)));
            let handle = ProjectionHandle { admin, monitor, store: Arc::clone(&store) };
            if projections.insert(*name, handle).is_some() {
                return Err(StartError::DuplicateName { name: (*name).to_owned() });
            }
        }
        let (stop, mut tasks) = (watch::Sender::new(false), JoinSet::new());
        for registration in self.registrations {
            let Some(handle) = projections.get(registration.name) else { continue };
            let dependencies = Dependencies {
                store: Arc::clone(&store),
                owner: IdSource { clock: &*self.clock, entropy: &*self.entropy }.uuid(),
                clock: Arc::clone(&self.clock),
                entropy: Arc::clone(&self.entropy),
                admin: handle.admin.clone(),
                monitor: Arc::clone(&handle.monitor),
                stop: stop.subscribe(),
            };
            (registration.start)(dependencies, &mut tasks);
        }
        Ok(RunningProjections { projections, stop, tasks })
    }
}

/// The running projections. Dropping this value aborts their tasks; no partial commit is written.
/// [`shutdown`](Self::shutdown) lets the tasks finish their current batch.
#[derive(Debug)]
pub struct RunningProjections {
    projections: BTreeMap<&'static str, ProjectionHandle>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<&'static str>,
}

impl RunningProjections {
    /// Returns the projection with this name, `None` if there is none.
    #[must_use]
    pub fn projection(&self, name: &str) -> Option<&ProjectionHandle> {
        self.projections.get(name)
    }

    /// Returns the handles of all projections, ordered by name.
    pub fn handles(&self) -> impl Iterator<Item = &ProjectionHandle> {
        self.projections.values()
    }

    /// Waits until all projections have applied all events up to a position. Returns immediately for `None`.
    ///
    /// # Errors
    /// [`WaitError::AheadOfLog`] at once if the log has not reached the position, [`WaitError::Timeout`] if a
    /// projection has not reached it after `timeout`, [`WaitError::Stopped`] if a projection was shut down in this
    /// process.
    pub async fn wait_for(&self, position: impl Into<Option<Position>>, timeout: Duration) -> Result<(), WaitError> {
        let position = position.into();
        try_join_all(self.handles().map(|handle| handle.wait_for(position, timeout))).await.map(drop)
    }

    /// Waits until the task of a projection ends, and returns the name of the projection. Before a shutdown this
    /// happens only after the store was closed. Never returns if there are no projections.
    pub async fn ended(&mut self) -> String {
        match self.tasks.join_next().await {
            Some(Ok(name)) => name.to_owned(),
            Some(Err(error)) => error.to_string(),
            None => std::future::pending().await,
        }
    }

    /// Returns the status of all projections, ordered by name.
    #[must_use]
    pub fn status(&self) -> Vec<ProjectionStatus> {
        self.projections.values().map(ProjectionHandle::status).collect()
    }

    /// Lets each worker commit its current batch and its checkpoint, releases the leases and stops.
    ///
    /// # Errors
    /// [`ShutdownError::Timeout`] if some projections did not finish within `deadline` and were aborted.
    pub async fn shutdown(mut self, deadline: Duration) -> Result<(), ShutdownError> {
        self.stop.send_replace(true);
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline, all_ended).await.is_ok() {
            return Ok(());
        }
        let unfinished = self.handles().filter(|handle| handle.monitor.phase() != Phase::Stopped);
        let unfinished = unfinished.map(|handle| handle.name().to_owned()).collect();
        self.tasks.shutdown().await;
        Err(ShutdownError::Timeout { deadline, unfinished })
    }
}

/// A handle to one running projection.
#[derive(Debug, Clone)]
pub struct ProjectionHandle {
    admin: ProjectionAdmin,
    monitor: Arc<ProjectionMonitor>,
    store: Arc<dyn EventStore>,
}

impl ProjectionHandle {
    /// Returns the administration of this projection: pause, reset, rebuild, dead letters.
    #[must_use]
    pub fn admin(&self) -> &ProjectionAdmin {
        &self.admin
    }

    /// Returns the name of this projection.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.monitor.projection
    }

    /// Returns the status of this projection.
    #[must_use]
    pub fn status(&self) -> ProjectionStatus {
        self.monitor.status(self.store.watch_head().current())
    }

    /// Takes over the lease from its current holder. The store refuses every later commit of the former holder. Has no
    /// effect if this process holds the lease.
    pub fn take_over(&self) {
        self.monitor.take_over.notify_one();
    }

    /// Waits until the view has applied all events up to a position, such as that of [`Executed`](crate::Executed) or
    /// [`Committed`](crate::store::Committed). Returns immediately for `None`.
    ///
    /// A parked event counts as applied: it is in the dead-letter list. An event that is still retried does not.
    ///
    /// # Errors
    /// [`WaitError::AheadOfLog`] at once if the log has not reached the position. Otherwise the command that wrote the
    /// events has succeeded: [`WaitError::Timeout`] after `timeout`, [`WaitError::Stopped`] if the projection was shut
    /// down in this process.
    pub async fn wait_for(&self, position: impl Into<Option<Position>>, timeout: Duration) -> Result<(), WaitError> {
        let Some(position) = position.into() else { return Ok(()) };
        self.store.watch_head().check(Some(position))?;
        let mut applied = self.monitor.watch_applied();
        let stopped = async {
            while self.monitor.phase() != Phase::Stopped {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let is_timeout = tokio::select! {
            biased;
            reached = applied.wait_for(|applied| *applied >= Some(position)) => match reached {
                Ok(_) => return Ok(()),
                Err(_) => false,
            },
            () = stopped => false,
            () = tokio::time::sleep(timeout) => true,
        };
        let ProjectionStatus { projection, position: reached, state, .. } = self.status();
        let name = projection.to_owned();
        Err(match is_timeout {
            true => WaitError::Timeout { name, position, reached, state: state.to_string(), timeout },
            false => WaitError::Stopped { name, position, reached, reason: None },
        })
    }
}

/// Runs a projection until it is stopped, and restarts it after each failure. Returns its name.
async fn supervise<P: Projection>(runner: Arc<Runner<P>>) -> &'static str {
    let mut stop = runner.stop.clone();
    let mut pauses = runner.options.restart_pauses();
    loop {
        let started_at = runner.clock.elapsed();
        let mut task = JoinSet::new();
        let run = Arc::clone(&runner);
        task.spawn(async move { run.run().await });
        let failure = match task.join_next().await {
            Some(Ok(Ok(RunEnd::Stopped))) | None => break,
            // The next run waits for the lease, like any other process.
            Some(Ok(Ok(RunEnd::LeaseLost))) => continue,
            Some(Ok(Err(error @ StoreError::Closed))) => {
                runner.monitor.failed(ErrorChain(&error).to_string());
                break;
            }
            Some(Ok(Err(error))) => ErrorChain(&error).to_string(),
            Some(Err(error)) => error.to_string(),
        };
        if runner.clock.elapsed().saturating_sub(started_at) > STABLE_RUN {
            pauses = runner.options.restart_pauses();
        }
        // The iterator is endless.
        let pause = pauses.next().unwrap_or(runner.options.restart.1);
        tracing::error!(projection = P::NAME, error = failure, ?pause, "projection failed; restarting it");
        runner.monitor.failed(failure);
        tokio::select! {
            () = stop_requested(&mut stop) => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    runner.monitor.enter(Phase::Stopped);
    P::NAME
}
