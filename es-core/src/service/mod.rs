//! [`Service`]: runs all background components of one store, and shuts them down in the right order.
//!
//! ```text
//!   Service::start --> projections --> reactors, groups --> RunningService --+-- intake("http", ..): requests
//!                                                                             |
//!   signal, stop or the end of a component ----------------------------------+
//!     1. intake stops          requests in progress are answered
//!     2. reactors and groups   events that were delivered are settled; no new one is delivered
//!     3. projections           catch up with the log, then commit their checkpoints
//!     4. store                 closed
//! ```
//!
//! All steps share one deadline. After it, or after a second signal, the remaining components are aborted. This is
//! safe, because every component recovers from a crash at any point.
//!
//! Not in this module: sockets, files, HTTP. The intake is code of the caller. Signals need the feature `signal`.

mod drain;
mod error;
mod intake;
#[cfg(feature = "signal")]
mod signals;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, select_all};

pub use error::{Component, ComponentFailure, ServiceError};
pub use intake::StopSignal;

use crate::aggregate::{OrderOf, Resolve};
use crate::consumer::group::{ConsumerGroup, GroupStatus, RunningGroup};
use crate::consumer::reactor::{Reactor, ReactorRunner, RunningReactor};
use crate::consumer::{Resolver, StartError, WaitError};
use crate::model::{Clock, Entropy, ErrorChain, Position};
use crate::projection::{
    AcceptsOrder, Projection, ProjectionHandle, ProjectionOptions, ProjectionStatus, RunningProjections, Supervisor,
};
use crate::store::EventStore;
use drain::Drain;
use intake::Intakes;

/// The default deadline of a shutdown.
pub const DEFAULT_SHUTDOWN_DEADLINE: Duration = Duration::from_secs(30);

type StartReactor =
    Box<dyn FnOnce(Arc<dyn EventStore>) -> BoxFuture<'static, Result<RunningReactor, StartError>> + Send>;

/// Describes the background components of one store. [`start`](Self::start) starts them.
///
/// ```
/// # use std::sync::Arc;
/// # use es_core::prelude::*;
/// # use es_core::store::memory::MemoryStore;
/// # use es_core::projection::ProjectionOptions;
/// # use es_core::model::Table;
/// # use es_core::RecordedEvent;
/// # struct Count;
/// # impl Projection for Count {
/// #     type Source = RawEvents;
/// #     const NAME: &'static str = "count";
/// #     fn apply(&self, _: &RecordedEvent, _: &ProjectedContext<'_>, _: &mut Rows) -> Result<(), ApplyError> {
/// #         Ok(())
/// #     }
/// # }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// use es_core::service::Service;
///
/// let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
/// let mut service = Service::new(store).projection(Count, ProjectionOptions::new()).start().await?;
/// service.intake("http", |stop| async move {
///     stop.requested().await; // a server would answer requests until then
///     Ok::<(), std::io::Error>(())
/// });
/// // With the feature `signal`: `service.run_until_signal().await?`.
/// service.run_until(async { /* the end of the program */ }).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Service {
    store: Arc<dyn EventStore>,
    supervisor: Supervisor,
    reactors: Vec<(String, StartReactor)>,
    groups: Vec<ConsumerGroup>,
    deadline: Duration,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reactors: Vec<_> = self.reactors.iter().map(|(name, _)| name).collect();
        f.debug_struct("Service")
            .field("supervisor", &self.supervisor)
            .field("reactors", &reactors)
            .field("groups", &self.groups)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl Service {
    /// Creates a service without components. It closes the store when it shuts down.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>) -> Self {
        let (reactors, groups) = (Vec::new(), Vec::new());
        Self { store, supervisor: Supervisor::new(), reactors, groups, deadline: DEFAULT_SHUTDOWN_DEADLINE }
    }

    /// Adds a projection, as [`Supervisor::projection`] does.
    #[must_use]
    pub fn projection<P>(mut self, projection: P, options: ProjectionOptions) -> Self
    where
        P: Projection + AcceptsOrder<OrderOf<P::Source>>,
    {
        self.supervisor = self.supervisor.projection(projection, options);
        self
    }

    /// Adds the projections of a supervisor.
    #[must_use]
    pub fn projections(mut self, projections: Supervisor) -> Self {
        self.supervisor = self.supervisor.merge(projections);
        self
    }

    /// Adds a reactor.
    #[must_use]
    pub fn reactor<R: Reactor>(mut self, reactor: ReactorRunner<R>) -> Self {
        self.reactors.push((R::NAME.to_owned(), Box::new(move |store| reactor.start(store).boxed())));
        self
    }

    /// Adds a resolver, which is a reactor with the name `es.resolve.{category}`. Its repository must use the store of
    /// the service.
    #[must_use]
    pub fn resolver<A: Resolve>(mut self, resolver: Resolver<A>) -> Self {
        self.reactors.push((Resolver::<A>::name(), Box::new(move |_| resolver.start().boxed())));
        self
    }

    /// Adds a consumer group. Take its consumers with [`RunningService::group`].
    #[must_use]
    pub fn group(mut self, group: ConsumerGroup) -> Self {
        self.groups.push(group);
        self
    }

    /// Sets the clock of the projections.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.supervisor = self.supervisor.clock(clock);
        self
    }

    /// Sets the source of random numbers of the projections, from which the ids of lease owners and the jitter of
    /// retries come.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.supervisor = self.supervisor.entropy(entropy);
        self
    }

    /// Sets the deadline of a shutdown; [`DEFAULT_SHUTDOWN_DEADLINE`] by default.
    #[must_use]
    pub fn shutdown_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Starts all components on the current tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] of the first component that cannot be started. The components that were started are aborted. The
    /// store stays open.
    pub async fn start(self) -> Result<RunningService, StartError> {
        let Self { store, supervisor, reactors, groups, deadline } = self;
        reject_duplicates(reactors.iter().map(|(name, _)| name.as_str()))?;
        reject_duplicates(groups.iter().map(ConsumerGroup::name))?;
        let projections = supervisor.start(Arc::clone(&store)).await?;
        let mut running = RunningService {
            store,
            projections,
            reactors: Vec::new(),
            groups: Vec::new(),
            intakes: Intakes::new(),
            deadline,
        };
        for (_, start) in reactors {
            running.reactors.push(start(Arc::clone(&running.store)).await?);
        }
        for group in groups {
            running.groups.push(group.start(Arc::clone(&running.store)).await?);
        }
        Ok(running)
    }
}

fn reject_duplicates<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), StartError> {
    let mut seen = std::collections::BTreeSet::new();
    match names.into_iter().find(|name| !seen.insert(*name)) {
        Some(name) => Err(StartError::DuplicateName { name: name.to_owned() }),
        None => Ok(()),
    }
}

/// The status of all components of a service.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ServiceStatus {
    /// The projections, ordered by name.
    pub projections: Vec<ProjectionStatus>,
    /// The reactors with their names, in the order in which they were added.
    pub reactors: Vec<(String, GroupStatus)>,
    /// The groups with their names, in the order in which they were added.
    pub groups: Vec<(String, GroupStatus)>,
}

/// The running components of a service. Dropping this value aborts them, like a crash, and does not close the store.
#[derive(Debug)]
pub struct RunningService {
    store: Arc<dyn EventStore>,
    projections: RunningProjections,
    reactors: Vec<RunningReactor>,
    groups: Vec<RunningGroup>,
    intakes: Intakes,
    deadline: Duration,
}

impl RunningService {
    /// Adds a task that accepts requests from outside, such as an HTTP server.
    ///
    /// The task starts with [`run_until`](Self::run_until) or `run_until_signal`, after the signal handlers are
    /// installed. After a stop is requested by its [`StopSignal`], it must answer the requests in progress and return.
    /// If the task returns or panics without such a request, the service shuts down.
    pub fn intake<F, T, E>(&mut self, name: &'static str, task: F)
    where
        F: FnOnce(StopSignal) -> T,
        T: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        self.intakes.spawn(name, task);
    }

    /// Returns the projection with this name.
    #[must_use]
    pub fn projection(&self, name: &str) -> Option<&ProjectionHandle> {
        self.projections.projection(name)
    }

    /// Returns all projections, ordered by name.
    pub fn projections(&self) -> impl Iterator<Item = &ProjectionHandle> {
        self.projections.handles()
    }

    /// Returns the reactor with this name.
    #[must_use]
    pub fn reactor(&self, name: &str) -> Option<&RunningReactor> {
        self.reactors.iter().find(|reactor| reactor.name() == name)
    }

    /// Returns the group with this name.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&RunningGroup> {
        self.groups.iter().find(|group| group.name() == name)
    }

    /// Returns the status of all components.
    #[must_use]
    pub fn status(&self) -> ServiceStatus {
        ServiceStatus {
            projections: self.projections.status(),
            reactors: self.reactors.iter().map(|it| (it.name().to_owned(), it.status())).collect(),
            groups: self.groups.iter().map(|it| (it.name().to_owned(), it.status())).collect(),
        }
    }

    /// Waits until all projections, reactors and groups have processed every event up to a position. Returns
    /// immediately for `None`.
    ///
    /// # Errors
    /// [`WaitError`] of the first component that does not reach the position within `timeout`;
    /// [`WaitError::AheadOfLog`] at once if the log has not reached the position.
    pub async fn wait_for(&self, position: impl Into<Option<Position>>, timeout: Duration) -> Result<(), WaitError> {
        let position = position.into();
        self.store.watch_head().check(position)?;
        let projections = self.projections.wait_for(position, timeout);
        let reactors = self.reactors.iter().map(|reactor| reactor.wait_for(position, timeout));
        let groups = self.groups.iter().map(|group| group.wait_for(position, timeout));
        tokio::try_join!(
            projections,
            futures_util::future::try_join_all(reactors),
            futures_util::future::try_join_all(groups)
        )?;
        Ok(())
    }

    /// Runs until SIGTERM, SIGINT (Ctrl-C) or the end of a component, then shuts down within the deadline of the
    /// service. A second signal aborts the components that have not finished.
    ///
    /// # Errors
    /// [`ServiceError`] as for [`run_until`](Self::run_until). If the signal handlers cannot be installed, the service
    /// shuts down at once and the error names [`Component::Signals`].
    #[cfg(feature = "signal")]
    pub async fn run_until_signal(self) -> Result<(), ServiceError> {
        let deadline = self.deadline;
        let signals = match signals::Signals::new() {
            Ok(signals) => Arc::new(tokio::sync::Mutex::new(signals)),
            Err(error) => {
                let failure = ComponentFailure { component: Component::Signals, error: error.into() };
                return self.drain(deadline, Some(failure), std::future::pending()).await;
            }
        };
        let next =
            |signals: Arc<tokio::sync::Mutex<signals::Signals>>| async move { signals.lock().await.next().await };
        self.run(next(Arc::clone(&signals)), next(signals)).await
    }

    /// Runs until `stop` completes or a component stops by itself, then shuts down within the deadline of the service.
    ///
    /// # Errors
    /// [`ServiceError`] with the components that failed and those that did not finish before the deadline. The store is
    /// closed in any case.
    pub async fn run_until(self, stop: impl Future<Output = ()> + Send) -> Result<(), ServiceError> {
        self.run(stop, std::future::pending()).await
    }

    /// Shuts down within a deadline: intake, reactors and groups, projections, store.
    ///
    /// # Errors
    /// [`ServiceError`] as for [`run_until`](Self::run_until).
    pub async fn shutdown(self, deadline: Duration) -> Result<(), ServiceError> {
        self.drain(deadline, None, std::future::pending()).await
    }

    /// Runs until `stop` completes or a component stops, then shuts down. When `force` completes, the remaining
    /// components are aborted.
    async fn run(
        mut self,
        stop: impl Future<Output = ()> + Send,
        force: impl Future<Output = ()> + Send,
    ) -> Result<(), ServiceError> {
        let deadline = self.deadline;
        self.intakes.begin();
        let failure = tokio::select! {
            biased;
            () = stop => None,
            failure = self.first_failure() => Some(failure),
        };
        self.drain(deadline, failure, force).await
    }

    async fn drain(
        self,
        deadline: Duration,
        failure: Option<ComponentFailure>,
        force: impl Future<Output = ()> + Send,
    ) -> Result<(), ServiceError> {
        if let Some(failure) = &failure {
            let ComponentFailure { component, error } = failure;
            tracing::error!(%component, error = %ErrorChain(&**error), "component stopped; shutting down");
        } else {
            tracing::info!(?deadline, "shutting down");
        }
        Drain::new(deadline, failure, force).run(self).await
    }

    /// Waits until a component stops by itself.
    async fn first_failure(&mut self) -> ComponentFailure {
        let Self { projections, reactors, groups, intakes, .. } = self;
        let reactors = reactors.iter().map(|reactor| {
            let ended = async { (Component::Reactor(reactor.name().to_owned()), reactor.ended().await) };
            ended.boxed()
        });
        let groups = groups.iter().map(|group| {
            let ended = async { (Component::Group(group.name().to_owned()), group.ended().await) };
            ended.boxed()
        });
        let consumers: Vec<_> = reactors.chain(groups).collect();
        let consumer_ended = async {
            if consumers.is_empty() {
                return std::future::pending().await;
            }
            select_all(consumers).await.0
        };
        tokio::select! {
            ended = intakes.ended() => ended,
            name = projections.ended() => {
                let component = Component::Projection(name);
                ComponentFailure { component, error: "it stopped without a request".into() }
            }
            (component, error) = consumer_ended => ComponentFailure { component, error: error.into() },
        }
    }
}

#[cfg(test)]
mod tests;
