//! [`Metrics`]: the metrics of the process in the text format of Prometheus.

use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// The counter of requests, with the labels `method`, `route` and `status`.
pub const REQUESTS: &str = "http_requests_total";
/// The histogram of the time from the head of a request to the head of its response, in seconds, with the labels
/// `method` and `route`.
pub const DURATION: &str = "http_request_duration_seconds";

const BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of the process: those of es-core (projections, commits), of [`request_metrics`], and of every other user
/// of the crate `metrics`.
///
/// ```no_run
/// use axum::{Router, middleware};
///
/// let metrics = es_http::Metrics::install()?;
/// let router: Router = Router::new()
///     // the routes of the service
///     .merge(metrics.router())
///     .layer(middleware::from_fn(es_http::request_metrics)); // last, so that it counts requests without a route
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

/// Counts requests and measures their duration. The label `route` is the pattern, such as `/orders/{id}`; it is empty
/// for requests without a route, so that clients cannot create labels.
pub async fn request_metrics(request: Request, next: Next) -> Response {
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let route = request.extensions().get::<MatchedPath>().map_or_else(String::new, |path| path.as_str().to_owned());
    let start = Instant::now();
    let response = next.run(request).await;
    let labels = [("method", method.clone()), ("route", route.clone())];
    metrics::histogram!(DURATION, &labels).record(start.elapsed().as_secs_f64());
    let status = response.status().as_u16().to_string();
    metrics::counter!(REQUESTS, "method" => method, "route" => route, "status" => status).increment(1);
    response
}
