//! [`Health`]: the probes `/livez` and `/readyz`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use es_core::model::ErrorChain;
use es_core::projection::{ProjectionHandle, ProjectionState};
use es_core::{Commit, EventStore};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::{Json, Problem};

/// The time for which the result of the checks is used again.
const REUSE: Duration = Duration::from_secs(1);
/// The time that one check may take.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(5);

/// The names of checks, and whether each succeeded.
type CheckResults = Vec<(String, bool)>;
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Check = Box<dyn Fn() -> BoxFuture<'static, Result<(), Failure>> + Send + Sync>;

/// The checks of a service, and the routes that run them.
///
/// - `GET /livez` is 200 as long as the process answers requests. Restart the process if it does not.
/// - `GET /readyz` runs all checks at the same time: 200 if all succeed, otherwise 503, a [`Problem`] with the member
///   `checks`. Send no requests to the process until it succeeds again.
///
/// The responses have the names and results of the checks. The cause of a failure is logged. A result is used for one
/// second, so that frequent probes do not load the store.
///
/// ```
/// # use std::sync::Arc;
/// # use es_core::EventStore;
/// # let store: Arc<dyn EventStore> = Arc::new(es_core::store::memory::MemoryStore::new());
/// use es_http::Health;
///
/// let health = Health::new().store(store).check("payments", async || match ping().await {
///     true => Ok(()),
///     false => Err("the provider of payments does not answer".into()),
/// });
/// let router: axum::Router = axum::Router::new().merge(health.router());
/// # async fn ping() -> bool { true }
/// ```
pub struct Health {
    checks: Vec<(String, Check)>,
    deadline: Duration,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.checks.iter().map(|(name, _)| name).collect();
        f.debug_struct("Health").field("checks", &names).field("deadline", &self.deadline).finish()
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Creates a service that is always ready.
    #[must_use]
    pub fn new() -> Self {
        Self { checks: Vec::new(), deadline: DEFAULT_DEADLINE }
    }

    /// Adds a check. It fails with an error, and if it takes longer than the deadline.
    #[must_use]
    pub fn check<F, T>(mut self, name: impl Into<String>, check: F) -> Self
    where
        F: Fn() -> T + Send + Sync + 'static,
        T: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        self.checks.push((name.into(), Box::new(move || check().boxed())));
        self
    }

    /// Adds the check `store`: whether the store accepts commits. It sends an empty commit, which writes no event.
    #[must_use]
    pub fn store(self, store: Arc<dyn EventStore>) -> Self {
        self.check("store", move || {
            let store = Arc::clone(&store);
            async move { store.commit(Commit::new()).await.map(drop).map_err(Into::into) }
        })
    }

    /// Adds the check `projection NAME`. It fails while the projection has failed or has stopped, and while one of its
    /// keys is parked, because its view then lacks events.
    #[must_use]
    pub fn projection(self, projection: ProjectionHandle) -> Self {
        let name = format!("projection {}", projection.name());
        self.check(name, move || {
            let projection = projection.clone();
            async move {
                let status = projection.status();
                if matches!(status.state, ProjectionState::Failed | ProjectionState::Stopped) {
                    return Err(format!("the projection is {}", status.state).into());
                }
                match projection.admin().parked(None, 1).await?.first() {
                    Some(parked) => Err(format!("a key is parked: {:?}", parked.key).into()),
                    None => Ok(()),
                }
            }
        })
    }

    /// Adds the check `disk space`: whether the disk of a directory has at least this many free bytes for the user of
    /// the process. A store that cannot write refuses commits, so choose more than it writes until an operator can act.
    #[cfg(unix)]
    #[must_use]
    pub fn disk_space(self, directory: impl Into<std::path::PathBuf>, minimum_bytes: u64) -> Self {
        let directory = directory.into();
        self.check("disk space", move || {
            let directory = directory.clone();
            async move {
                let disk = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&directory)).await??;
                let free = disk.f_bavail.saturating_mul(disk.f_frsize);
                let expected = minimum_bytes;
                if free >= expected { Ok(()) } else { Err(format!("expected {expected} bytes, found {free}").into()) }
            }
        })
    }

    /// Sets the time that a check may take; 5 seconds by default.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Returns the routes. Add them after the layers for authentication: probes have no token.
    pub fn router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let probe = Arc::new(Probe { health: self, last: Mutex::new(None) });
        let readyz = move || {
            let probe = Arc::clone(&probe);
            async move { probe.respond().await }
        };
        Router::new().route("/livez", get(async || no_store("ok"))).route("/readyz", get(readyz))
    }

    /// Runs all checks at the same time.
    async fn run(&self) -> CheckResults {
        let runs = self.checks.iter().map(async |(name, check)| {
            let result = timeout(self.deadline, check()).await;
            match &result {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(check = name, error = %ErrorChain(&**error), "a check failed"),
                Err(_) => tracing::warn!(check = name, deadline = ?self.deadline, "a check did not end in time"),
            }
            (name.clone(), matches!(result, Ok(Ok(()))))
        });
        join_all(runs).await
    }
}

/// The checks and their last results.
struct Probe {
    health: Health,
    last: Mutex<Option<(Instant, CheckResults)>>,
}

impl Probe {
    async fn respond(&self) -> Response {
        // Probes that arrive during a run wait for it.
        let mut last = self.last.lock().await;
        if last.as_ref().is_none_or(|(at, _)| at.elapsed() >= REUSE) {
            let results = self.health.run().await;
            *last = Some((Instant::now(), results));
        }
        let results = last.iter().flat_map(|(_, results)| results);
        let state = |is_ready: &bool| if *is_ready { "ok" } else { "failed" };
        let checks: Map<String, Value> =
            results.clone().map(|(name, is_ready)| (name.clone(), state(is_ready).into())).collect();
        if results.clone().all(|(_, is_ready)| *is_ready) {
            return no_store(Json(serde_json::json!({ "status": "ok", "checks": checks })));
        }
        let detail = "the service is not ready; its log has the causes";
        no_store(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).with("checks", checks))
    }
}

fn no_store(response: impl IntoResponse) -> Response {
    ([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], response).into_response()
}
