//! Status and administration of the projections, for the running service and for the command line.

use std::sync::Arc;
use std::time::Duration;

use es_core::projection::{
    AdminError, ParkedKey, ProjectionAdmin, ProjectionHandle, ProjectionState, ProjectionStatus, RebuildFrom,
    RebuildStatus,
};
use es_core::{EventStore, Position, Timestamp};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::views::{self, NAMES};

/// The time that projections may take at shutdown to finish their current batches.
const SHUTDOWN: Duration = Duration::from_secs(30);
/// Maximum number of parked keys in a list.
const MAX_PARKED_KEYS: usize = 1000;
/// The interval at which [`Projections::wait_until_idle`] polls the status.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The status of a projection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProjectionJson {
    /// The name of the projection.
    pub name: String,
    /// The state, as in `live` or `paused`.
    pub state: String,
    /// Whether the projection is idle: at the head of the log without a rebuild in progress, paused, or stopped.
    pub is_settled: bool,
    /// The checkpoint: every event up to this position is applied or parked.
    pub position: Option<u64>,
    /// The head of the log.
    pub head: Option<u64>,
    /// Number of positions between the checkpoint and the head.
    pub lag_events: u64,
    /// Age of the last applied event in seconds; 0 at the head.
    pub lag_seconds: Option<f64>,
    /// Positions per second.
    pub rate: f64,
    /// Estimated seconds until the projection reaches the head.
    pub eta_seconds: Option<f64>,
    /// Progress of a rebuild that runs in the background.
    pub rebuild: Option<RebuildJson>,
    /// Number of parked keys.
    pub parked_keys: usize,
    /// The last failure.
    pub last_error: Option<String>,
    /// Number of restarts after a failure.
    pub restarts: u64,
}

/// The progress of a rebuild.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RebuildJson {
    /// The checkpoint of the rebuild.
    pub position: Option<u64>,
    /// Positions per second.
    pub rate: f64,
    /// Estimated seconds until the rebuild reaches the head.
    pub eta_seconds: Option<f64>,
}

/// A parked key: its events are not applied until the failed event is retried or skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedKeyJson {
    /// The key: the name of a stream.
    pub key: String,
    /// Position of the event that could not be applied.
    pub position: u64,
    /// The error.
    pub error: String,
    /// Number of attempts.
    pub attempts: u32,
    /// Time at which the key was parked.
    pub since: Timestamp,
}

/// An administrative action on a projection.
///
/// In JSON, `verb` is the name of the action in lower case: `{"verb": "pause", "reason": "maintenance"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "lowercase", deny_unknown_fields)]
pub enum ProjectionAction {
    /// Pauses the projection.
    Pause {
        /// The reason, for the record.
        #[serde(default)]
        reason: String,
    },
    /// Resumes a paused projection.
    Resume {
        /// The reason, for the record.
        #[serde(default)]
        reason: String,
    },
    /// Clears the views and rebuilds them. Readers see incomplete views until the rebuild has caught up.
    Reset {
        /// The reason, for the record.
        #[serde(default)]
        reason: String,
    },
    /// Rebuilds the views in the background. Readers see the old views until the rebuild has caught up.
    Rebuild {
        /// The reason, for the record.
        #[serde(default)]
        reason: String,
    },
    /// Retries the parked events of a key.
    Retry {
        /// The key.
        key: String,
    },
    /// Skips the event that caused a key to be parked. The event is never applied.
    Skip {
        /// The key.
        key: String,
        /// Position of the event.
        position: u64,
        /// The reason, for the record.
        reason: String,
    },
}

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
    /// [`Failure::Admin`] if the store cannot be read.
    pub async fn status(&self) -> Result<Vec<ProjectionJson>, Failure> {
        let mut projections = Vec::with_capacity(NAMES.len());
        for status in self.handles.iter().map(ProjectionHandle::status) {
            let parked = self.admin(status.projection)?.parked(None, MAX_PARKED_KEYS).await?;
            projections.push(ProjectionJson::of(&status, parked.len()));
        }
        Ok(projections)
    }

    /// Returns the parked keys of a projection.
    ///
    /// # Errors
    /// - [`Failure::NoProjection`] if the projection does not exist.
    /// - [`Failure::Admin`] if the store cannot be read.
    pub async fn parked(&self, name: &str) -> Result<Vec<ParkedKeyJson>, Failure> {
        let parked = self.admin(name)?.parked(None, MAX_PARKED_KEYS).await?;
        Ok(parked.into_iter().map(ParkedKeyJson::from).collect())
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
            ProjectionAction::Skip { key, position, reason } => {
                // Position 0 does not exist, so no event is parked there.
                let not_parked = || AdminError::NotParked { projection: name.to_owned(), key: key.clone() };
                let position = Position::new(*position).ok_or_else(not_parked)?;
                admin.skip(key, position, reason).await?;
            }
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
    /// [`Failure::Admin`] if the store cannot be read.
    pub async fn wait_until_idle(
        &self,
        mut on_status: impl FnMut(&[ProjectionJson]),
    ) -> Result<Vec<ProjectionJson>, Failure> {
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

impl ProjectionJson {
    fn of(status: &ProjectionStatus, parked_keys: usize) -> Self {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let is_settled = match status.state {
            ProjectionState::Live => status.rebuild.is_none(),
            ProjectionState::Paused | ProjectionState::Stopped => true,
            _ => false,
        };
        Self {
            name: status.projection.to_owned(),
            state: status.state.to_string(),
            is_settled,
            position: status.position.map(Position::get),
            head: status.head.map(Position::get),
            lag_events: status.lag_events,
            lag_seconds: seconds(status.lag_time),
            rate: status.rate,
            eta_seconds: seconds(status.eta),
            rebuild: status.rebuild.as_ref().map(RebuildJson::of),
            parked_keys,
            last_error: status.last_error.as_ref().map(|error| error.message.clone()),
            restarts: status.restarts,
        }
    }
}

impl RebuildJson {
    fn of(rebuild: &RebuildStatus) -> Self {
        let eta_seconds = rebuild.eta.map(|time| time.as_secs_f64());
        Self { position: rebuild.position.map(Position::get), rate: rebuild.rate, eta_seconds }
    }
}

impl From<ParkedKey> for ParkedKeyJson {
    fn from(parked: ParkedKey) -> Self {
        let ParkedKey { key, position, error, attempts, since, .. } = parked;
        Self { key, position: position.get(), error, attempts, since }
    }
}
