//! Status and administration of the projections, for the running service and for the command line.

use std::sync::Arc;
use std::time::Duration;

use es_core::projection::{ProjectionAdmin, ProjectionHandle, RebuildFrom};
use es_core::{EventStore, Position};
use es_http::operations::{ParkedKeyReport, ProjectionAction, ProjectionReport};

use crate::failure::Failure;
use crate::views;

/// The time that projections may take at shutdown to finish their current batches.
const SHUTDOWN: Duration = Duration::from_secs(30);
/// Maximum number of parked keys in a list.
const MAX_PARKED_KEYS: usize = 1000;
/// The interval at which [`Projections::wait_until_idle`] polls the status.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The running projections of the service.
#[derive(Debug)]
pub struct Projections {
    handles: Vec<ProjectionHandle>,
    store: Arc<dyn EventStore>,
}

impl Projections {
    /// Creates an instance from the handles of running projections.
    #[must_use]
    pub fn of<'a>(handles: impl Iterator<Item = &'a ProjectionHandle>, store: Arc<dyn EventStore>) -> Self {
        Self { handles: handles.cloned().collect(), store }
    }

    /// Starts all projections of the service, runs `task`, and shuts them down.
    ///
    /// # Errors
    /// [`Failure::Start`] if the projections cannot be started, else the failure of `task`.
    pub async fn run<T>(
        store: Arc<dyn EventStore>,
        task: impl AsyncFnOnce(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let running = views::supervisor().start(Arc::clone(&store)).await?;
        let result = task(&Self::of(running.handles(), store)).await;
        // An aborted projection continues at the next start.
        drop(running.shutdown(SHUTDOWN).await);
        result
    }

    /// Returns the status of each projection.
    ///
    /// # Errors
    /// [`Failure::Store`] if the store cannot be read.
    pub async fn status(&self) -> Result<Vec<ProjectionReport>, Failure> {
        let reports = self.handles.iter().map(ProjectionReport::of);
        Ok(futures::future::try_join_all(reports).await?)
    }

    /// Returns the parked keys of a projection.
    ///
    /// # Errors
    /// - [`Failure::NoProjection`] if the projection does not exist.
    /// - [`Failure::Admin`] if the store cannot be read.
    pub async fn parked(&self, name: &str) -> Result<Vec<ParkedKeyReport>, Failure> {
        let parked = self.admin(name)?.parked(None, MAX_PARKED_KEYS).await?;
        Ok(parked.into_iter().map(ParkedKeyReport::from).collect())
    }

    /// Runs an administrative action. The action is durable when this returns.
    ///
    /// # Errors
    /// - [`Failure::NoProjection`] if the projection does not exist.
    /// - [`Failure::Admin`] if the action fails, for example because the key is not parked.
    pub async fn act(&self, name: &str, action: &ProjectionAction) -> Result<(), Failure> {
        let admin = self.admin(name)?;
        match action {
            ProjectionAction::Pause { reason } => admin.pause(reason).await?,
            ProjectionAction::Resume { reason } => admin.resume(reason).await?,
            ProjectionAction::Reset { reason } => admin.reset(reason).await?,
            ProjectionAction::Rebuild { reason } => admin.rebuild(RebuildFrom::Start, reason).await?,
            ProjectionAction::Retry { key } => admin.retry(key).await?,
            ProjectionAction::Skip { key, position, reason } => admin.skip(key, *position, reason).await?,
        }
        Ok(())
    }

    /// Waits until all projections have applied the events that are in the log now.
    ///
    /// # Errors
    /// [`Failure::NotCaughtUp`] if a projection does not reach the head within `timeout`.
    pub async fn catch_up(&self, timeout: Duration) -> Result<(), Failure> {
        let head = self.store.watch_head().current();
        let caught_up = self.handles.iter().map(|handle| handle.wait_for(head, timeout));
        Ok(futures::future::try_join_all(caught_up).await.map(drop)?)
    }

    /// Waits until a projection has applied every event up to a position.
    ///
    /// # Errors
    /// - [`Failure::NoProjection`] if the projection does not exist.
    /// - [`Failure::NotCaughtUp`] if the projection does not reach the position within `timeout`.
    pub async fn wait_for(&self, name: &str, position: Option<Position>, timeout: Duration) -> Result<(), Failure> {
        Ok(self.handle(name)?.wait_for(position, timeout).await?)
    }

    /// Waits until every projection is idle, and returns the final status. Calls `on_status` for each polled status.
    ///
    /// # Errors
    /// [`Failure::Store`] if the store cannot be read.
    pub async fn wait_until_idle(
        &self,
        mut on_status: impl FnMut(&[ProjectionReport]),
    ) -> Result<Vec<ProjectionReport>, Failure> {
        loop {
            let status = self.status().await?;
            on_status(&status);
            if status.iter().all(|projection| projection.is_settled) {
                return Ok(status);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn handle(&self, name: &str) -> Result<&ProjectionHandle, Failure> {
        self.handles.iter().find(|handle| handle.name() == name).ok_or_else(|| no_projection(name))
    }

    fn admin(&self, name: &str) -> Result<&ProjectionAdmin, Failure> {
        self.handle(name).map(ProjectionHandle::admin)
    }
}

fn no_projection(name: &str) -> Failure {
    Failure::NoProjection { name: name.to_owned() }
}
