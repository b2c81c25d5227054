//! [`Metrics`]: the metrics of the process in the text format of Prometheus.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{Method, StatusCode, header};
use axum::routing::get;
use metrics::{Counter, Histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// The counter of requests inside an [`Edge`](crate::Edge), with the labels `method`, `route` and `status`.
pub const REQUESTS: &str = "http_requests_total";
/// The histogram of the time from the head of a request to the head of its response, in seconds, with the labels
/// `method` and `route`.
pub const DURATION: &str = "http_request_duration_seconds";

const BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
const KNOWN_METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of the process: those of es-core (projections, commits), of the requests inside an
/// [`Edge`](crate::Edge), and of every other user of the crate `metrics`. Install it before the first request: an edge
/// keeps the metrics that it has registered.
///
/// ```no_run
/// use axum::Router;
///
/// let metrics = es_http::Metrics::install()?;
/// let router: Router = Router::new()
///     // the routes of the service
///     .merge(metrics.router())
///     .layer(es_http::Edge::new());
/// # Ok::<(), es_http::InstallMetricsError>(())
/// ```
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Metrics").finish_non_exhaustive()
    }
}

/// The recorder of metrics could not be installed: the process already has one. Install it once, at the start.
#[derive(Debug, thiserror::Error)]
#[error("could not install the recorder of metrics; install it once, at the start of the process")]
pub struct InstallMetricsError {
    source: metrics_exporter_prometheus::BuildError,
}

impl Metrics {
    /// Installs the recorder of the process.
    ///
    /// # Errors
    /// [`InstallMetricsError`] if the process already has a recorder.
    pub fn install() -> Result<Self, InstallMetricsError> {
        let buckets = Matcher::Suffix("_seconds".to_owned());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(buckets, &BUCKETS);
        let handle = builder.and_then(PrometheusBuilder::install_recorder);
        handle.map(Self).map_err(|source| InstallMetricsError { source })
    }

    /// Returns the route `GET /metrics`.
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let handle = self.0.clone();
        let render = move || {
            // Without a regular scrape, the samples of histograms would use more and more memory: see `upkeep`.
            handle.run_upkeep();
            let text = handle.render();
            async move { ([(header::CONTENT_TYPE, CONTENT_TYPE)], text) }
        };
        Router::new().route("/metrics", get(render))
    }

    /// Compacts the samples of histograms. A scrape of `/metrics` does the same: call this every few seconds if a
    /// service may run without scrapes.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

/// The registered metrics of the requests through an [`Edge`](crate::Edge), by route and method: a list to which
/// entries are only added, so that a request finds its entry without a lock. Registering a metric costs more than
/// recording a value. A layer around a route has a list of its own, with few entries.
///
/// Their number is bounded: the label `route` is the pattern, such as `/orders/{id}`, and it is empty for requests
/// without a route, so that clients cannot create labels.
#[derive(Default)]
pub(crate) struct RecordedRequests(OnceLock<Box<RecordedRoute>>);

/// The metrics of the requests with one route and method, and the rest of the list.
struct RecordedRoute {
    route: String,
    method: &'static str,
    duration: Histogram,
    statuses: RecordedStatuses,
    rest: RecordedRequests,
}

/// The counters of the responses with one route and method: a list like the one of routes.
#[derive(Default)]
struct RecordedStatuses(OnceLock<Box<RecordedStatus>>);

struct RecordedStatus {
    status: u16,
    requests: Counter,
    rest: RecordedStatuses,
}

impl std::fmt::Debug for RecordedRequests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordedRequests").finish_non_exhaustive()
    }
}

impl RecordedRequests {
    /// Returns the index of the entry with this route and method, which is added if it is missing.
    fn index(&self, route: &str, method: &'static str) -> usize {
        let (mut list, mut index) = (self, 0);
        loop {
            let entry = list.0.get_or_init(|| Box::new(RecordedRoute::register(route, method)));
            if entry.method == method && entry.route == route {
                return index;
            }
            (list, index) = (&entry.rest, index + 1);
        }
    }

    fn entry(&self, index: usize) -> Option<&RecordedRoute> {
        (0..index).try_fold(self, |list, _| list.0.get().map(|entry| &entry.rest))?.0.get().map(Box::as_ref)
    }
}

impl RecordedRoute {
    fn register(route: &str, method: &'static str) -> Self {
        let duration = metrics::histogram!(DURATION, "method" => method, "route" => route.to_owned());
        let (statuses, rest) = (RecordedStatuses::default(), RecordedRequests::default());
        Self { route: route.to_owned(), method, duration, statuses, rest }
    }

    fn record(&self, status: u16, time: Duration) {
        self.duration.record(time);
        let mut list = &self.statuses;
        loop {
            let entry = list.0.get_or_init(|| Box::new(self.register_status(status)));
            if entry.status == status {
                return entry.requests.increment(1);
            }
            list = &entry.rest;
        }
    }

    fn register_status(&self, status: u16) -> RecordedStatus {
        let Self { route, method, .. } = self;
        let requests = metrics::counter!(
            REQUESTS, "method" => *method, "route" => route.clone(), "status" => status.to_string()
        );
        RecordedStatus { status, requests, rest: RecordedStatuses::default() }
    }
}

/// Returns the label of a method. Clients cannot create labels.
fn label(method: &Method) -> &'static str {
    KNOWN_METHODS.into_iter().find(|known| method == *known).unwrap_or("other")
}

/// The metrics of one request.
pub(crate) struct RequestMetrics {
    /// The index of its route. The route itself is shared by all connections: each copy would change its counter.
    index: usize,
    start: Instant,
}

impl RequestMetrics {
    pub(crate) fn start(recorded: &RecordedRequests, request: &Request) -> Self {
        let start = Instant::now();
        let method = label(request.method());
        let route = request.extensions().get().map_or("", MatchedPath::as_str);
        Self { index: recorded.index(route, method), start }
    }

    /// Counts the request and its duration.
    pub(crate) fn end(&self, recorded: &RecordedRequests, status: StatusCode) {
        if let Some(route) = recorded.entry(self.index) {
            route.record(status.as_u16(), self.start.elapsed());
        }
    }
}
