//! The routes of projections.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use es_core::projection::{
    ParkedKey, ProjectionAdmin, ProjectionHandle, ProjectionState, ProjectionStatus, RebuildFrom, RebuildStatus,
};
use es_core::{Position, Timestamp};
use serde::{Deserialize, Serialize};

use super::Operations;
use super::audit::Operator;
use crate::{Json, NoInput, NoParameters, Path, Problem};

/// The maximum number of parked keys in a list.
const MAX_PARKED_KEYS: usize = 1000;

/// The status of a projection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProjectionReport {
    /// The name of the projection.
    pub name: String,
    /// The state, such as `live` or `paused`.
    pub state: String,
    /// Whether the projection is idle: at the head of the log without a rebuild in progress, paused, or stopped.
    pub is_settled: bool,
    /// The checkpoint: every event up to this position is applied or parked.
    pub position: Option<u64>,
    /// The head of the log.
    pub head: Option<u64>,
    /// The number of positions between the checkpoint and the head.
    pub lag_events: u64,
    /// The age of the last applied event in seconds; 0 at the head.
    pub lag_seconds: Option<f64>,
    /// The rate in positions per second.
    pub rate: f64,
    /// The estimated time to the head in seconds.
    pub eta_seconds: Option<f64>,
    /// The progress of a rebuild that runs beside the active view.
    pub rebuild: Option<RebuildReport>,
    /// The number of parked keys, at most 1,000.
    pub parked_keys: usize,
    /// The last failure.
    pub last_error: Option<String>,
    /// The number of restarts after a failure.
    pub restarts: u64,
}

/// The progress of a rebuild.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RebuildReport {
    /// The checkpoint of the rebuild.
    pub position: Option<u64>,
    /// The rate in positions per second.
    pub rate: f64,
    /// The estimated time to the head in seconds.
    pub eta_seconds: Option<f64>,
}

/// A parked key: its events are not applied until the failed event is retried or skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedKeyReport {
    /// The key, for example the name of a stream.
    pub key: String,
    /// The position of the event that could not be applied.
    pub position: u64,
    /// The error of the last attempt.
    pub error: String,
    /// The number of attempts.
    pub attempts: u32,
    /// The time at which the key was parked.
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
        /// The reason, which is recorded.
        #[serde(default)]
        reason: String,
    },
    /// Resumes a paused projection.
    Resume {
        /// The reason, which is recorded.
        #[serde(default)]
        reason: String,
    },
    /// Empties the view and builds it again. Readers see an incomplete view meanwhile.
    Reset {
        /// The reason, which is recorded.
        #[serde(default)]
        reason: String,
    },
    /// Builds the view again beside the active one.
    Rebuild {
        /// The reason, which is recorded.
        #[serde(default)]
        reason: String,
    },
    /// Retries the parked events of a key.
    Retry {
        /// The key.
        key: String,
    },
    /// Skips the event that parked a key. The view lacks the event until it is rebuilt.
    Skip {
        /// The key.
        key: String,
        /// The position of the event.
        position: Position,
        /// The reason, which is recorded.
        reason: String,
    },
}

impl ProjectionReport {
    /// Returns the report of a running projection.
    ///
    /// # Errors
    /// [`StoreError`](es_core::StoreError) if the parked keys cannot be read.
    pub async fn of(projection: &ProjectionHandle) -> Result<Self, es_core::StoreError> {
        let parked_keys = projection.admin().parked(None, MAX_PARKED_KEYS).await?.len();
        Ok(Self::new(&projection.status(), parked_keys))
    }

    fn new(status: &ProjectionStatus, parked_keys: usize) -> Self {
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
            rebuild: status.rebuild.as_ref().map(RebuildReport::new),
            parked_keys,
            last_error: status.last_error.as_ref().map(|error| error.message.clone()),
            restarts: status.restarts,
        }
    }
}

impl RebuildReport {
    fn new(rebuild: &RebuildStatus) -> Self {
        let eta_seconds = rebuild.eta.map(|time| time.as_secs_f64());
        Self { position: rebuild.position.map(Position::get), rate: rebuild.rate, eta_seconds }
    }
}

impl From<ParkedKey> for ParkedKeyReport {
    fn from(parked: ParkedKey) -> Self {
        let ParkedKey { key, position, error, attempts, since, .. } = parked;
        Self { key, position: position.get(), error, attempts, since }
    }
}

impl Operations {
    fn projection(&self, name: &str) -> Result<&ProjectionHandle, Problem> {
        let found = self.projections.iter().find(|projection| projection.name() == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.projections.iter().map(ProjectionHandle::name).collect();
            let detail = format!("projection {name:?} does not exist; expected one of {names:?}");
            Problem::new(StatusCode::NOT_FOUND, detail)
        })
    }

    async fn reports(&self) -> Result<Vec<ProjectionReport>, Problem> {
        let mut reports = Vec::with_capacity(self.projections.len());
        for projection in self.projections.iter() {
            reports.push(ProjectionReport::of(projection).await?);
        }
        Ok(reports)
    }
}

pub(super) async fn list(
    State(operations): State<Operations>,
    _: NoInput,
) -> Result<Json<Vec<ProjectionReport>>, Problem> {
    operations.reports().await.map(Json)
}

pub(super) async fn parked(
    State(operations): State<Operations>,
    Path(name): Path<String>,
    _: NoInput,
) -> Result<Json<Vec<ParkedKeyReport>>, Problem> {
    let parked = operations.projection(&name)?.admin().parked(None, MAX_PARKED_KEYS).await?;
    Ok(Json(parked.into_iter().map(ParkedKeyReport::from).collect()))
}

/// Runs an action and returns the status of all projections. The action is durable then.
pub(super) async fn act(
    State(operations): State<Operations>,
    operator: Operator,
    Path(name): Path<String>,
    _: NoParameters,
    Json(action): Json<ProjectionAction>,
) -> Result<Json<Vec<ProjectionReport>>, Problem> {
    let admin = operations.projection(&name)?.admin().clone();
    run(&admin.requested_by(operator.recorded_as(None)), &action).await?;
    operations.reports().await.map(Json)
}

async fn run(admin: &ProjectionAdmin, action: &ProjectionAction) -> Result<(), Problem> {
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
