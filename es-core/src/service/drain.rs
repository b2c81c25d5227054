//! [`Drain`]: the steps of a shutdown, in order, within one deadline.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::consumer::ShutdownError;
use crate::consumer::group::RunningGroup;
use crate::consumer::reactor::RunningReactor;
use crate::model::{Clock, SystemClock};
use crate::projection::{ProjectionHandle, ProjectionState, RunningProjections};
use crate::service::intake::Intakes;
use crate::service::{Component, ComponentFailure, RunningService, ServiceError};
use crate::store::EventStore;
use futures_util::future::{BoxFuture, join_all};

/// The minimum time for closing the store, also after the deadline or a forced shutdown.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// A shutdown in progress. Its clock starts when it is created.
pub(super) struct Drain<F> {
    clock: SystemClock,
    deadline: Duration,
    force: Pin<Box<F>>,
    error: ServiceError,
}

impl<F: Future<Output = ()>> Drain<F> {
    /// Creates a shutdown. `failure` is the failure that caused it. When `force` completes, the remaining components
    /// are aborted.
    pub(super) fn new(deadline: Duration, failure: Option<ComponentFailure>, force: F) -> Self {
        let error = ServiceError { failed: failure.into_iter().collect(), unfinished: Vec::new(), was_forced: false };
        Self { clock: SystemClock::new(), deadline, force: Box::pin(force), error }
    }

    /// Stops intake, reactors and groups, projections, and the store, in this order.
    pub(super) async fn run(mut self, service: RunningService) -> Result<(), ServiceError> {
        let RunningService { store, projections, reactors, groups, mut intakes, deadline: _ } = service;
        self.stop_intakes(&mut intakes).await;
        self.stop_consumers(reactors, groups).await;
        self.stop_projections(&*store, projections).await;
        self.close(&*store).await;
        let error = self.error;
        if error.failed.is_empty() && error.unfinished.is_empty() && !error.was_forced { Ok(()) } else { Err(error) }
    }

    fn remaining(&self) -> Duration {
        if self.error.was_forced { Duration::ZERO } else { self.deadline.saturating_sub(self.clock.elapsed()) }
    }

    /// Runs one step. Returns `None` if the shutdown is forced before the step completes.
    async fn step<T>(&mut self, step: impl Future<Output = T>) -> Option<T> {
        if self.error.was_forced {
            return None;
        }
        tokio::select! {
            biased;
            result = step => Some(result),
            () = &mut self.force => {
                self.error.was_forced = true;
                None
            }
        }
    }

    /// Requests the stop of all intakes and waits for them.
    async fn stop_intakes(&mut self, intakes: &mut Intakes) {
        intakes.request_stop();
        let mut failed = Vec::new();
        let remaining = self.remaining();
        let finish = async {
            while let Some(finished) = intakes.next_finished().await {
                failed.extend(finished.err());
            }
        };
        let finished = self.step(tokio::time::timeout(remaining, finish)).await;
        self.error.failed.append(&mut failed);
        if !matches!(finished, Some(Ok(()))) {
            self.error.unfinished.extend(intakes.abort());
        }
    }

    /// Shuts down all reactors and groups concurrently.
    async fn stop_consumers(&mut self, reactors: Vec<RunningReactor>, groups: Vec<RunningGroup>) {
        let remaining = self.remaining();
        let reactors = reactors.into_iter().map(|reactor| {
            let component = Component::Reactor(reactor.name().to_owned());
            (component, Box::pin(reactor.shutdown(remaining)) as BoxFuture<'static, _>)
        });
        let groups = groups.into_iter().map(|group| {
            let component = Component::Group(group.name().to_owned());
            (component, Box::pin(group.shutdown(remaining)) as BoxFuture<'static, _>)
        });
        let (components, shutdowns): (Vec<_>, Vec<_>) = reactors.chain(groups).unzip();
        let Some(results) = self.step(join_all(shutdowns)).await else {
            self.error.unfinished.extend(components);
            return;
        };
        for (component, result) in components.into_iter().zip(results) {
            match result {
                Ok(()) => {}
                Err(ShutdownError::Timeout { .. }) => self.error.unfinished.push(component),
                Err(ShutdownError::Ended { source, .. }) => self.failed(component, source),
            }
        }
    }

    /// Waits until the projections have caught up with the log, for at most 90 % of the remaining time, then stops
    /// them.
    async fn stop_projections(&mut self, store: &dyn EventStore, projections: RunningProjections) {
        let names: Vec<_> = projections.handles().map(ProjectionHandle::name).collect();
        let head = store.watch_head().current();
        let timeout = self.remaining().mul_f64(0.9);
        let active = projections.handles().filter(|handle| catches_up(handle));
        let catch_up = join_all(active.map(|handle| async { (handle.name(), handle.wait_for(head, timeout).await) }));
        let results: Vec<_> = self.step(catch_up).await.unwrap_or_default();
        let late = results.into_iter().filter(|(_, result)| result.is_err()).map(|(name, _)| name);
        let mut unfinished: Vec<String> = late.map(str::to_owned).collect();
        let remaining = self.remaining();
        match self.step(projections.shutdown(remaining)).await {
            Some(Err(ShutdownError::Timeout { unfinished: aborted, .. })) => unfinished.extend(aborted),
            Some(_) => {}
            None => unfinished = names.into_iter().map(str::to_owned).collect(),
        }
        unfinished.sort();
        unfinished.dedup();
        self.error.unfinished.extend(unfinished.into_iter().map(Component::Projection));
    }

    /// Closes the store, also after the deadline.
    async fn close(&mut self, store: &dyn EventStore) {
        let grace = self.remaining().max(CLOSE_GRACE);
        match tokio::time::timeout(grace, store.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.failed(Component::Store, error),
            Err(_) => self.error.unfinished.push(Component::Store),
        }
    }

    /// Records a failure, unless the same component caused the shutdown.
    fn failed(&mut self, component: Component, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) {
        if !self.error.failed.iter().any(|failure| failure.component == component) {
            self.error.failed.push(ComponentFailure { component, error: error.into() });
        }
    }
}

/// Returns whether a projection advances to the head of the log. It does not if it is paused, or another process runs
/// it.
fn catches_up(handle: &ProjectionHandle) -> bool {
    use ProjectionState::{CatchingUp, Live, Rebuilding, Retrying, Starting};
    matches!(handle.status().state, Starting | CatchingUp | Live | Retrying | Rebuilding)
}
