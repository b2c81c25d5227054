//! [`ProjectionStatus`], and [`ProjectionMonitor`], which collects it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::metrics;
use super::progress::{GenerationProgress, number};
use crate::model::Clock;
use crate::model::HybridTime;
use crate::model::Position;
use crate::model::Timestamp;
use crate::projection::generation::Generation;
use crate::store::implement::SettledTime;

/// The state of a projection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProjectionState {
    /// The projection was started and has not read its rows yet.
    Starting,
    /// Another process holds the lease. This one waits for it.
    Standby {
        /// The id of the holder.
        holder: Uuid,
    },
    /// The active view is before the head of the log.
    CatchingUp,
    /// The active view has applied the whole log.
    Live,
    /// An event could not be applied. The next attempt follows after a pause.
    Retrying,
    /// Another version of the projection built the active view, which therefore applies no more events. A new view is
    /// being built.
    Rebuilding,
    /// An operator paused the projection.
    Paused,
    /// The store or a task failed. The projection restarts after a pause.
    Failed,
    /// The projection was shut down, or its store was closed.
    Stopped,
}

impl std::fmt::Display for ProjectionState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Standby { holder } => write!(f, "standby for holder {holder}"),
            Self::CatchingUp => f.write_str("catching up"),
            Self::Live => f.write_str("live"),
            Self::Retrying => f.write_str("retrying an event"),
            Self::Rebuilding => f.write_str("rebuilding for a new version"),
            Self::Paused => f.write_str("paused"),
            Self::Failed => f.write_str("failed, restart pending"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// The last failure of a projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// The time of the failure.
    pub at: Timestamp,
    /// The message of the error and its sources.
    pub message: String,
}

/// The progress of a rebuild.
#[derive(Debug, Clone, PartialEq)]
pub struct RebuildStatus {
    /// The generation that is being built.
    pub generation: Generation,
    /// The position up to which it has applied the log.
    pub position: Option<Position>,
    /// The rate over the last few seconds, in positions per second.
    pub rate: f64,
    /// The estimated time until it reaches the head of the log; `None` before a rate is measured.
    pub eta: Option<Duration>,
}

/// The settled time of a projection with the mode [`Settled`](crate::projection::Settled).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettledStatus {
    /// The time up to which events are applied in canonical order; `None` until every member has made a promise since
    /// the start of the node. An event has the time at which its node wrote it, or a slightly later one.
    pub time: Option<Timestamp>,
    /// The member that holds the settled time back: the one with the oldest promise, or without one. `None` if every
    /// stored event is settled.
    pub held_back_by: Option<String>,
    /// The number of events that arrived below the settled time since the start of the projection. The view is rebuilt
    /// after each of them.
    pub late_events: u64,
}

/// The status of a projection.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ProjectionStatus {
    /// The name of the projection.
    pub projection: &'static str,
    /// The state of the projection.
    pub state: ProjectionState,
    /// The active generation; `None` before the first worker started.
    pub generation: Option<Generation>,
    /// The position up to which the active generation has applied the log. A parked event counts as applied.
    pub position: Option<Position>,
    /// The head of the log.
    pub head: Option<Position>,
    /// The number of positions between `position` and `head`, including those of events that the query does not select.
    pub lag_events: u64,
    /// The age of the last processed event; zero at the head. `None` if no event was processed since the start.
    pub lag_time: Option<Duration>,
    /// The rate over the last few seconds, in positions per second.
    pub rate: f64,
    /// The estimated time until the head is reached; `None` before a rate is measured.
    pub eta: Option<Duration>,
    /// The number of events that were applied, skipped or parked since the start of the worker.
    pub events: u64,
    /// The rebuild in progress.
    pub rebuild: Option<RebuildStatus>,
    /// The settled time. `None` if the projection does not follow it.
    pub settled: Option<SettledStatus>,
    /// The last failure.
    pub last_error: Option<LastError>,
    /// The number of restarts after a failure.
    pub restarts: u64,
}

/// The phase of the task of a projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Standby(Uuid),
    Working,
    Paused,
    Failed,
    Stopped,
}

/// The state that the task of a projection shares with its handles.
#[derive(Debug)]
pub(crate) struct ProjectionMonitor {
    pub(crate) projection: &'static str,
    pub(crate) clock: Arc<dyn Clock>,
    state: Mutex<MonitorState>,
    /// The position up to which the active generation has applied the log.
    applied: watch::Sender<Option<Position>>,
    /// The settled time, if the projection follows it.
    settled: watch::Sender<Option<SettledTime>>,
    /// Notified when an operator requests a takeover of the lease.
    pub(crate) take_over: Notify,
}

#[derive(Debug)]
struct MonitorState {
    phase: Phase,
    active: Option<ActiveProgress>,
    building: Option<Arc<GenerationProgress>>,
    last_error: Option<LastError>,
    restarts: u64,
    late_events: u64,
}

/// The progress of the active generation.
#[derive(Debug)]
pub(crate) struct ActiveProgress {
    pub(crate) progress: Arc<GenerationProgress>,
    /// Whether workers follow the log for it.
    pub(crate) is_followed: bool,
}

impl ProjectionMonitor {
    pub(crate) fn new(projection: &'static str, clock: Arc<dyn Clock>) -> Self {
        let (phase, active, building) = (Phase::Starting, None, None);
        let state = MonitorState { phase, active, building, last_error: None, restarts: 0, late_events: 0 };
        let (applied, settled) = (watch::Sender::new(None), watch::Sender::new(None));
        Self { projection, clock, state: Mutex::new(state), applied, settled, take_over: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, MonitorState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.state().phase = phase;
    }

    pub(crate) fn phase(&self) -> Phase {
        self.state().phase.clone()
    }

    /// Sets the generations that the status reports.
    pub(crate) fn set_generations(&self, active: Option<ActiveProgress>, building: Option<Arc<GenerationProgress>>) {
        let mut state = self.state();
        (state.active, state.building) = (active, building);
    }

    /// Records a failure.
    pub(crate) fn failed(&self, message: String) {
        metrics::count(metrics::FAILURES, self.projection, 1);
        let mut state = self.state();
        state.restarts += 1;
        state.phase = Phase::Failed;
        state.last_error = Some(LastError { at: self.clock.now(), message });
    }

    /// Counts events that arrived below the settled time.
    pub(crate) fn count_late_events(&self, events: u64) {
        metrics::count(metrics::LATE_EVENTS, self.projection, events);
        self.state().late_events += events;
    }

    /// Returns the sender that publishes the settled time.
    pub(crate) fn settled_sender(&self) -> watch::Sender<Option<SettledTime>> {
        self.settled.clone()
    }

    /// Returns the sender that publishes the position up to which the active generation has applied the log.
    pub(crate) fn applied_sender(&self) -> watch::Sender<Option<Position>> {
        self.applied.clone()
    }

    /// Publishes the position up to which the active generation has applied the log.
    pub(crate) fn publish_applied(&self, position: Option<Position>) {
        self.applied.send_if_modified(|applied| std::mem::replace(applied, position) != position);
    }

    pub(crate) fn watch_applied(&self) -> watch::Receiver<Option<Position>> {
        self.applied.subscribe()
    }

    /// Returns the status, and sets the gauges.
    pub(crate) fn status(&self, head: Option<Position>) -> ProjectionStatus {
        let position = *self.applied.borrow();
        let monitored = self.state();
        let progress = monitored.active.as_ref().map(|active| &active.progress);
        let is_followed = monitored.active.as_ref().is_some_and(|active| active.is_followed);
        let lag_events = number(head).saturating_sub(number(position));
        let now = self.clock.now();
        let age = |at: Timestamp| (now - at).to_std().unwrap_or_default();
        let last_recorded = progress.and_then(|progress| progress.last_recorded());
        let rate = progress.map_or(0.0, |progress| progress.rate());
        let state = match &monitored.phase {
            Phase::Starting => ProjectionState::Starting,
            Phase::Standby(holder) => ProjectionState::Standby { holder: *holder },
            Phase::Paused => ProjectionState::Paused,
            Phase::Failed => ProjectionState::Failed,
            Phase::Stopped => ProjectionState::Stopped,
            Phase::Working if !is_followed => ProjectionState::Rebuilding,
            Phase::Working if progress.is_some_and(|progress| progress.is_retrying()) => ProjectionState::Retrying,
            Phase::Working if lag_events > 0 => ProjectionState::CatchingUp,
            Phase::Working => ProjectionState::Live,
        };
        let status = ProjectionStatus {
            projection: self.projection,
            state,
            generation: progress.map(|progress| progress.build.generation),
            position,
            head,
            lag_events,
            lag_time: if lag_events == 0 { Some(Duration::ZERO) } else { last_recorded.map(age) },
            rate,
            eta: eta(lag_events, rate),
            events: progress.map_or(0, |progress| progress.event_count()),
            settled: self.settled.borrow().as_ref().map(|settled| SettledStatus {
                time: settled.time.map(HybridTime::physical),
                held_back_by: settled.held_back_by.clone(),
                late_events: monitored.late_events,
            }),
            rebuild: monitored.building.as_ref().map(|building| rebuild_status(building, head)),
            last_error: monitored.last_error.clone(),
            restarts: monitored.restarts,
        };
        drop(monitored);
        set_gauges(&status);
        status
    }
}

fn rebuild_status(building: &GenerationProgress, head: Option<Position>) -> RebuildStatus {
    let position = building.min_position();
    let rate = building.rate();
    let eta = eta(number(head).saturating_sub(number(position)), rate);
    RebuildStatus { generation: building.build.generation, position, rate, eta }
}

/// Returns the time for a number of positions at a rate; `None` if the rate is zero.
fn eta(positions: u64, rate: f64) -> Option<Duration> {
    if positions == 0 {
        return Some(Duration::ZERO);
    }
    Duration::try_from_secs_f64(positions as f64 / rate).ok()
}

fn set_gauges(status: &ProjectionStatus) {
    metrics::gauge(metrics::POSITION, status.projection, number(status.position) as f64);
    metrics::gauge(metrics::LAG_EVENTS, status.projection, status.lag_events as f64);
    if let Some(lag) = status.lag_time {
        metrics::gauge(metrics::LAG_SECONDS, status.projection, lag.as_secs_f64());
    }
}
