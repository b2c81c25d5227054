//! What operators see of the projections and do with them: the same in the process that serves and from outside.

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

/// The time that the projections may take to finish their current batches.
const SHUTDOWN: Duration = Duration::from_secs(30);
/// How many parked keys are listed at the most.
const MOST_PARKED: usize = 1000;
/// How often it is looked at while somebody waits.
const LOOK: Duration = Duration::from_millis(50);

/// A projection as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShownStatus {
    /// Its name.
    pub name: String,
    /// What it is doing, in words.
    pub state: String,
    /// Whether nothing will change unless the log grows or somebody acts.
    pub is_settled: bool,
    /// Up to where every event counts, or is parked.
    pub position: Option<u64>,
    /// The head of the log.
    pub head: Option<u64>,
    /// How many positions the head is ahead.
    pub lag_events: u64,
    /// How old the last applied event is, in seconds; 0 at the head.
    pub lag_seconds: Option<f64>,
    /// Positions per second.
    pub rate: f64,
    /// How many seconds it will take to the head.
    pub eta_seconds: Option<f64>,
    /// Up to where a rebuild beside it has come.
    pub rebuild: Option<ShownRebuild>,
    /// How many keys stand still.
    pub parked_keys: usize,
    /// What failed last.
    pub last_error: Option<String>,
    /// How often it was started again after a failure.
    pub restarts: u64,
}

/// A rebuild as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShownRebuild {
    /// Up to where every event counts in it.
    pub position: Option<u64>,
    /// Positions per second.
    pub rate: f64,
    /// How many seconds it will take to the head.
    pub eta_seconds: Option<f64>,
}

/// A key that stands still, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownParked {
    /// The key: the name of a stream.
    pub key: String,
    /// The event that could not be applied.
    pub position: u64,
    /// Why.
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Since when it stands still.
    pub since: Timestamp,
}

/// What an operator can do with a projection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "lowercase", deny_unknown_fields)]
pub enum Verb {
    /// Lets it stand still.
    Pause {
        /// Why.
        #[serde(default)]
        reason: String,
    },
    /// Lets it go on.
    Resume {
        /// Why.
        #[serde(default)]
        reason: String,
    },
    /// Empties its view and builds it anew, for all to see.
    Reset {
        /// Why.
        #[serde(default)]
        reason: String,
    },
    /// Builds its view anew beside the old one.
    Rebuild {
        /// Why.
        #[serde(default)]
        reason: String,
    },
    /// Tries the parked events of a key again.
    Retry {
        /// The key.
        key: String,
    },
    /// Skips the event that stopped a key, for good.
    Skip {
        /// The key.
        key: String,
        /// The position of the event.
        position: u64,
        /// Why.
        reason: String,
    },
}

/// The projections of a service, while they run.
#[derive(Debug)]
pub struct Projections {
    handles: Vec<ProjectionHandle>,
    store: Arc<dyn EventStore>,
}

impl Projections {
    /// Returns the projections with these handles.
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

    /// What is going on with each of them.
    ///
    /// # Errors
    /// [`Failure`] when the store cannot be read.
    pub async fn status(&self) -> Result<Vec<ShownStatus>, Failure> {
        let mut shown = Vec::with_capacity(NAMES.len());
        for status in self.handles.iter().map(ProjectionHandle::status) {
            let parked = self.admin(status.projection)?.parked(None, MOST_PARKED).await?;
            shown.push(ShownStatus::of(&status, parked.len()));
        }
        Ok(shown)
    }

    /// The keys that stand still.
    ///
    /// # Errors
    /// [`Failure`] when there is no such projection, or the store cannot be read.
    pub async fn parked(&self, name: &str) -> Result<Vec<ShownParked>, Failure> {
        let parked = self.admin(name)?.parked(None, MOST_PARKED).await?;
        Ok(parked.into_iter().map(ShownParked::from).collect())
    }

    /// Does what an operator asks. It is durable when this returns.
    ///
    /// # Errors
    /// [`Failure`] when there is no such projection, or it cannot be done.
    pub async fn act(&self, name: &str, verb: &Verb) -> Result<(), Failure> {
        let admin = self.admin(name)?;
        match verb {
            Verb::Pause { reason } => admin.pause(reason).await?,
            Verb::Resume { reason } => admin.resume(reason).await?,
            Verb::Reset { reason } => admin.reset(reason).await?,
            Verb::Rebuild { reason } => admin.rebuild(RebuildFrom::Start, reason).await?,
            Verb::Retry { key } => admin.retry(key).await?,
            Verb::Skip { key, position, reason } => {
                let first = || AdminError::NotParked { projection: name.to_owned(), key: key.clone() };
                let position = Position::new(*position).ok_or_else(first)?;
                admin.skip(key, position, reason).await?;
            }
        }
        Ok(())
    }

    /// Waits until all of them show everything that the log has now.
    ///
    /// # Errors
    /// [`Failure::NotCaughtUp`]: one of them does not get there in time.
    pub async fn catch_up(&self, patience: Duration) -> Result<(), Failure> {
        let head = self.store.watch_head().current();
        let caught_up = self.handles.iter().map(|handle| handle.wait_for(head, patience));
        Ok(futures::future::try_join_all(caught_up).await.map(drop)?)
    }

    /// Waits until one of them shows everything up to a position.
    ///
    /// # Errors
    /// [`Failure::NotCaughtUp`]: it does not get there in time.
    pub async fn wait_for(&self, name: &str, position: Option<Position>, patience: Duration) -> Result<(), Failure> {
        Ok(self.handle(name)?.wait_for(position, patience).await?)
    }

    /// Waits until nothing will change any more by itself, and shows on the way what is going on.
    ///
    /// # Errors
    /// [`Failure`] when the store cannot be read.
    pub async fn settle(&self, mut show: impl FnMut(&[ShownStatus])) -> Result<Vec<ShownStatus>, Failure> {
        loop {
            let status = self.status().await?;
            show(&status);
            if status.iter().all(|projection| projection.is_settled) {
                return Ok(status);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn handle(&self, name: &str) -> Result<&ProjectionHandle, Failure> {
        self.handles.iter().find(|handle| handle.name() == name).ok_or_else(|| no_such(name))
    }

    fn admin(&self, name: &str) -> Result<&ProjectionAdmin, Failure> {
        self.handle(name).map(ProjectionHandle::admin)
    }
}

fn no_such(name: &str) -> Failure {
    Failure::NoProjection { name: name.to_owned() }
}

impl ShownStatus {
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
            rebuild: status.rebuild.as_ref().map(ShownRebuild::of),
            parked_keys,
            last_error: status.last_error.as_ref().map(|error| error.message.clone()),
            restarts: status.restarts,
        }
    }
}

impl ShownRebuild {
    fn of(rebuild: &RebuildStatus) -> Self {
        let eta_seconds = rebuild.eta.map(|time| time.as_secs_f64());
        Self { position: rebuild.position.map(Position::get), rate: rebuild.rate, eta_seconds }
    }
}

impl From<ParkedKey> for ShownParked {
    fn from(parked: ParkedKey) -> Self {
        let ParkedKey { key, position, error, attempts, since, .. } = parked;
        Self { key, position: position.get(), error, attempts, since }
    }
}
