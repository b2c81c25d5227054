//! What is going on with a projection: [`ProjectionStatus`], and [`ProjectionMonitor`], from which it is taken.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::metrics;
use super::progress::{GenerationProgress, number};
use crate::model::Clock;
use crate::model::Position;
use crate::model::Timestamp;
use crate::projection::generation::Generation;

/// What a projection is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProjectionState {
    /// It has begun, and does not work yet.
    Starting,
    /// Somebody else has the claim, and this one waits to take over.
    Standby {
        /// The id of the worker that has it.
        holder: Uuid,
    },
    /// It works, and the log is ahead.
    CatchingUp,
    /// It works, and everything in the log counts.
    Live,
    /// An event could not be applied, and will be tried again.
    Retrying,
    /// What is read was built by another version of the projection and stands still, while the new one is built.
    Rebuilding,
    /// An operator has paused it.
    Paused,
    /// The store or a task failed; it will be started again.
    Failed,
    /// It was shut down, or its store was closed.
    Stopped,
}

impl std::fmt::Display for ProjectionState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Standby { holder } => write!(f, "waiting for the claim of {holder}"),
            Self::CatchingUp => f.write_str("catching up"),
            Self::Live => f.write_str("live"),
            Self::Retrying => f.write_str("trying an event again"),
            Self::Rebuilding => f.write_str("rebuilding for a new version"),
            Self::Paused => f.write_str("paused"),
            Self::Failed => f.write_str("failed, and to be started again"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// Something that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// When.
    pub at: Timestamp,
    /// What.
    pub message: String,
}

/// How far a rebuild is.
#[derive(Debug, Clone, PartialEq)]
pub struct RebuildStatus {
    /// What is being built.
    pub generation: Generation,
    /// Up to where every event counts in it.
    pub position: Option<Position>,
    /// Positions per second, over the last seconds.
    pub rate: f64,
    /// How long it will take to the head of the log at this rate; `None` where there is no rate yet.
    pub eta: Option<Duration>,
}

/// What is going on with a projection.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ProjectionStatus {
    /// Its name.
    pub projection: &'static str,
    /// What it is doing.
    pub state: ProjectionState,
    /// What is read; `None` before the first worker began.
    pub generation: Option<Generation>,
    /// Up to where every event counts in what is read, or is parked.
    pub position: Option<Position>,
    /// The head of the log.
    pub head: Option<Position>,
    /// How many positions the head is ahead, whether or not all of them match.
    pub lag_events: u64,
    /// How old the last event is that was applied; nothing at the head. `None` where none was since the start.
    pub lag_time: Option<Duration>,
    /// Positions per second, over the last seconds.
    pub rate: f64,
    /// How long it will take to the head at this rate; `None` where there is no rate yet.
    pub eta: Option<Duration>,
    /// How many events were applied, passed over or parked since the start of the worker.
    pub events: u64,
    /// What is built beside it.
    pub rebuild: Option<RebuildStatus>,
    /// What failed last.
    pub last_error: Option<LastError>,
    /// How often it was started again after a failure.
    pub restarts: u64,
}

/// What the task of a projection is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Standby(Uuid),
    Working,
    Paused,
    Failed,
    Stopped,
}

/// What the task of a projection and its handles share.
#[derive(Debug)]
pub(crate) struct ProjectionMonitor {
    pub(crate) projection: &'static str,
    pub(crate) clock: Arc<dyn Clock>,
    known: Mutex<Observed>,
    /// Up to where every event counts in what is read.
    reached: watch::Sender<Option<Position>>,
    /// An operator wants the claim taken, whoever has it.
    pub(crate) take_over: Notify,
}

#[derive(Debug)]
struct Observed {
    phase: Phase,
    /// What is read, and whether a worker follows the log for it.
    read: Option<(Arc<GenerationProgress>, bool)>,
    built: Option<Arc<GenerationProgress>>,
    last_error: Option<LastError>,
    restarts: u64,
}

impl ProjectionMonitor {
    pub(crate) fn new(projection: &'static str, clock: Arc<dyn Clock>) -> Self {
        let known = Observed { phase: Phase::Starting, read: None, built: None, last_error: None, restarts: 0 };
        let reached = watch::Sender::new(None);
        Self { projection, clock, known: Mutex::new(known), reached, take_over: Notify::new() }
    }

    fn known(&self) -> MutexGuard<'_, Observed> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.known().phase = phase;
    }

    pub(crate) fn phase(&self) -> Phase {
        self.known().phase.clone()
    }

    pub(crate) fn works_on(
        &self,
        read: Option<(Arc<GenerationProgress>, bool)>,
        built: Option<Arc<GenerationProgress>>,
    ) {
        let mut known = self.known();
        (known.read, known.built) = (read, built);
    }

    pub(crate) fn failed(&self, message: String) {
        metrics::count(metrics::FAILURES, self.projection, 1);
        let mut known = self.known();
        known.restarts += 1;
        known.phase = Phase::Failed;
        known.last_error = Some(LastError { at: self.clock.now(), message });
    }

    /// Where it is published up to where every event counts in what is read.
    pub(crate) fn reached(&self) -> watch::Sender<Option<Position>> {
        self.reached.clone()
    }

    /// What is read is now up to here.
    pub(crate) fn reach(&self, position: Option<Position>) {
        self.reached.send_if_modified(|reached| std::mem::replace(reached, position) != position);
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Option<Position>> {
        self.reached.subscribe()
    }

    pub(crate) fn status(&self, head: Option<Position>) -> ProjectionStatus {
        let position = *self.reached.borrow();
        let known = self.known();
        let (progress, is_followed) = known.read.as_ref().map_or((None, false), |(read, is)| (Some(read), *is));
        let lag_events = number(head).saturating_sub(number(position));
        let now = self.clock.now();
        let age = |at: Timestamp| (now - at).to_std().unwrap_or_default();
        let seen = progress.and_then(|progress| progress.seen());
        let rate = progress.map_or(0.0, |progress| progress.rate());
        let state = match &known.phase {
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
            lag_time: if lag_events == 0 { Some(Duration::ZERO) } else { seen.map(age) },
            rate,
            eta: eta(lag_events, rate),
            events: progress.map_or(0, |progress| progress.applied()),
            rebuild: known.built.as_ref().map(|built| rebuild_status(built, head)),
            last_error: known.last_error.clone(),
            restarts: known.restarts,
        };
        drop(known);
        measure(&status);
        status
    }
}

fn rebuild_status(built: &GenerationProgress, head: Option<Position>) -> RebuildStatus {
    let (position, _) = built.bounds();
    let rate = built.rate();
    let eta = eta(number(head).saturating_sub(number(position)), rate);
    RebuildStatus { generation: built.build.generation, position, rate, eta }
}

fn eta(events: u64, rate: f64) -> Option<Duration> {
    if events == 0 {
        return Some(Duration::ZERO);
    }
    Duration::try_from_secs_f64(events as f64 / rate).ok()
}

fn measure(status: &ProjectionStatus) {
    metrics::gauge(metrics::POSITION, status.projection, number(status.position) as f64);
    metrics::gauge(metrics::LAG_EVENTS, status.projection, status.lag_events as f64);
    if let Some(lag) = status.lag_time {
        metrics::gauge(metrics::LAG_SECONDS, status.projection, lag.as_secs_f64());
    }
}
