//! [`Jobs`]: scavenges and compactions, which can take longer than a connection lives.

use std::collections::VecDeque;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use es_core::model::{Clock, SystemClock};
use es_core::retention::{Note, Scavenge};
use es_core::store::StoreAdmin;
use es_core::{EventStore, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use crate::Problem;

/// The number of jobs that are remembered.
const REMEMBERED: usize = 16;
/// The time in which a job must end when the service stops.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// The jobs of a service, one at a time.
#[derive(Clone)]
pub(super) struct Jobs {
    admin: StoreAdmin,
    store: Arc<dyn EventStore>,
    shared: Arc<SharedJobs>,
}

/// The jobs that all clones share. The last clone stops the running job.
#[derive(Default)]
struct SharedJobs(Mutex<JobList>);

#[derive(Default)]
struct JobList {
    jobs: VecDeque<Arc<Job>>,
    tasks: JoinSet<()>,
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").finish_non_exhaustive()
    }
}

/// A job and its latest status.
struct Job {
    id: Uuid,
    status: watch::Sender<JobStatus>,
    stop: watch::Sender<bool>,
    /// Whether a scavenge must stop. Its callback cannot wait for `stop`.
    is_stopped: AtomicBool,
}

/// The work of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum JobKind {
    Scavenge,
    Compact,
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scavenge => "scavenge",
            Self::Compact => "compaction",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum JobState {
    Running,
    /// The job has done all of its work.
    Done,
    /// An operator or the end of the service stopped the job.
    Stopped,
    Failed,
}

/// The status of a job, as it is sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct JobStatus {
    id: Uuid,
    kind: JobKind,
    state: JobState,
    #[serde(flatten)]
    note: Note,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
    /// The number of streams that a scavenge has examined, and of events that it has removed.
    streams: u64,
    events: u64,
    result: Option<Value>,
    error: Option<String>,
}

/// How the work of a job ended.
struct WorkEnd {
    state: JobState,
    result: Option<Value>,
    error: Option<String>,
}

impl WorkEnd {
    fn failed(problem: &Problem) -> Self {
        Self { state: JobState::Failed, result: None, error: Some(problem.detail().to_owned()) }
    }
}

impl Jobs {
    pub(super) fn new(admin: StoreAdmin, store: Arc<dyn EventStore>) -> Self {
        Self { admin, store, shared: Arc::default() }
    }

    /// Starts a scavenge.
    pub(super) fn scavenge(&self, note: Note, pause: Duration) -> Result<JobStatus, Problem> {
        let admin = self.admin.clone();
        self.start(JobKind::Scavenge, note.clone(), async move |job| scavenge(&admin, &job, note, pause).await)
    }

    /// Starts a compaction.
    pub(super) fn compact(&self, note: Note) -> Result<JobStatus, Problem> {
        let (admin, store) = (self.admin.clone(), Arc::clone(&self.store));
        self.start(JobKind::Compact, note, async move |job| compact(&admin, &*store, &job).await)
    }

    /// Returns the status of the remembered jobs, the oldest first.
    pub(super) fn list(&self) -> Vec<JobStatus> {
        self.shared.list().jobs.iter().map(|job| job.status.borrow().clone()).collect()
    }

    /// Waits until a job ends, but at most this long and not after `stop` completes, and returns its status.
    pub(super) async fn wait(
        &self,
        id: Uuid,
        limit: Duration,
        stop: impl Future<Output = ()>,
    ) -> Result<JobStatus, Problem> {
        let job = self.find(id)?;
        let mut status = job.status.subscribe();
        tokio::select! {
            _ = timeout(limit, status.wait_for(|status| status.state != JobState::Running)) => {}
            () = stop => {}
        }
        let status = job.status.borrow().clone();
        Ok(status)
    }

    /// Requests a job to stop.
    pub(super) fn stop(&self, id: Uuid) -> Result<JobStatus, Problem> {
        let job = self.find(id)?;
        job.stop();
        let status = job.status.borrow().clone();
        Ok(status)
    }

    /// Requests all jobs to stop.
    pub(super) fn stop_all(&self) {
        self.shared.list().jobs.iter().for_each(|job| job.stop());
    }

    /// Stops the running job and waits for its end, at most for the shutdown deadline. Work of the store that blocks a
    /// thread cannot be aborted: it must not use up the time in which the rest of the service ends.
    pub(super) async fn shutdown(&self) {
        self.stop_all();
        let mut tasks = std::mem::take(&mut self.shared.list().tasks);
        if timeout(SHUTDOWN_DEADLINE, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
            tracing::warn!(deadline = ?SHUTDOWN_DEADLINE, "a job did not end before the shutdown deadline");
        }
    }

    fn find(&self, id: Uuid) -> Result<Arc<Job>, Problem> {
        let found = self.shared.list().jobs.iter().find(|job| job.id == id).cloned();
        let missing =
            || format!("job {id} does not exist; the service remembers the last {REMEMBERED} since its start");
        found.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, missing()))
    }

    fn start<W, F>(&self, kind: JobKind, note: Note, work: W) -> Result<JobStatus, Problem>
    where
        W: FnOnce(Arc<Job>) -> F,
        F: Future<Output = WorkEnd> + Send + 'static,
    {
        let mut list = self.shared.list();
        while list.tasks.try_join_next().is_some() {}
        if let Some(running) = list.jobs.back().map(|job| job.status.borrow().clone())
            && running.state == JobState::Running
        {
            let by = running.note.by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
            let detail = format!("a {}{by} runs since {}; wait for it, or stop it", running.kind, running.started_at);
            return Err(Problem::new(StatusCode::CONFLICT, detail).with("job", running.id.to_string()));
        }
        let status = JobStatus {
            id: Uuid::now_v7(),
            kind,
            state: JobState::Running,
            note,
            started_at: now(),
            ended_at: None,
            streams: 0,
            events: 0,
            result: None,
            error: None,
        };
        let job = Arc::new(Job {
            id: status.id,
            status: watch::Sender::new(status.clone()),
            stop: watch::Sender::new(false),
            is_stopped: AtomicBool::new(false),
        });
        if list.jobs.len() == REMEMBERED {
            list.jobs.pop_front();
        }
        list.jobs.push_back(Arc::clone(&job));
        let work = work(Arc::clone(&job));
        list.tasks.spawn(async move { job.end(work.await) });
        Ok(status)
    }
}

impl SharedJobs {
    fn list(&self) -> MutexGuard<'_, JobList> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SharedJobs {
    fn drop(&mut self) {
        // The tasks are aborted with their set, but a scavenge continues until its callback stops it.
        self.list().jobs.iter().for_each(|job| job.stop());
    }
}

impl Job {
    fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.stop.send_replace(true);
    }

    fn end(&self, WorkEnd { state, result, error }: WorkEnd) {
        self.status.send_modify(|status| {
            (status.state, status.result, status.error) = (state, result, error);
            status.ended_at = Some(now());
        });
        let status = self.status.borrow();
        let by = status.note.by.as_deref().unwrap_or_default();
        tracing::info!(job = %status.id, kind = %status.kind, state = ?status.state, by, "a job ended");
    }
}

fn now() -> Timestamp {
    SystemClock::new().now()
}

async fn scavenge(admin: &StoreAdmin, job: &Arc<Job>, note: Note, pause: Duration) -> WorkEnd {
    let reported = Arc::clone(job);
    let progress = Arc::new(move |progress: es_core::retention::ScavengeProgress| {
        reported.status.send_modify(|status| {
            (status.streams, status.events) = (progress.streams, progress.events);
        });
        if reported.is_stopped.load(Ordering::Acquire) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match admin.scavenge(&Scavenge { note, pause, progress: Some(progress) }).await {
        Ok(report) => {
            let result = json!({
                "events": report.events,
                "bytes": report.bytes,
                "position": report.point.position,
                "earlier_points": report.earlier_points,
            });
            let state = if report.is_complete { JobState::Done } else { JobState::Stopped };
            WorkEnd { state, result: Some(result), error: None }
        }
        Err(error) => WorkEnd::failed(&Problem::from(error)),
    }
}

/// Compacts a store. If the job is stopped, the compaction ends after the present part.
async fn compact(admin: &StoreAdmin, store: &dyn EventStore, job: &Job) -> WorkEnd {
    let bytes = async || store.info().await.map(|info| info.bytes_on_disk);
    let mut stop = job.stop.subscribe();
    let work = async {
        let bytes_before = bytes().await?;
        admin.compact().await?;
        Ok(json!({ "bytes_before": bytes_before, "bytes_after": bytes().await? }))
    };
    let done: Result<Value, es_core::StoreError> = tokio::select! {
        done = work => done,
        _ = stop.wait_for(|stop| *stop) => return WorkEnd { state: JobState::Stopped, result: None, error: None },
    };
    match done {
        Ok(result) => WorkEnd { state: JobState::Done, result: Some(result), error: None },
        Err(error) => WorkEnd::failed(&Problem::from(error)),
    }
}
