//! [`install_logs_and_spans`]: the spans of a service, sent to a collector of OpenTelemetry.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::{MatchedPath, Request};
use axum::http;
use bytes::Bytes;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HeaderExtractor, HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::logs::{InstallLogsError, LogFormat, install};

/// The time in which the collector must answer.
const EXPORT_DEADLINE: Duration = Duration::from_secs(10);
/// The name of the instrumentation in exported spans.
const SCOPE: &str = "es-http";

/// Where spans are sent, and as which service.
#[derive(Debug, Clone)]
pub struct SpanExport {
    endpoint: String,
    service: String,
}

impl SpanExport {
    /// Sends spans as JSON (OTLP over HTTP) to this URL, such as `http://127.0.0.1:4318/v1/traces`, with the name of
    /// the service. The URL must begin with `http://`: run a collector on the machine, which encrypts the rest of the
    /// way.
    pub fn new(endpoint: impl Into<String>, service: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), service: service.into() }
    }
}

/// Spans cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum InstallSpansError {
    /// The logs could not be installed.
    #[error(transparent)]
    Logs(#[from] InstallLogsError),
    /// The endpoint is not a URL that begins with `http://`.
    #[error("expected the URL of a collector such as http://127.0.0.1:4318/v1/traces, found {endpoint:?}")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
    },
    /// The exporter could not be created.
    #[error("could not create the span exporter")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
}

/// The last spans could not be sent.
#[derive(Debug, thiserror::Error)]
#[error("could not send the last spans")]
pub struct ShutdownSpansError {
    source: OTelSdkError,
}

/// The spans of the process. Spans of the last seconds are lost unless [`shutdown`](Self::shutdown) is called.
#[must_use = "call `shutdown` at the end of the process, so that the last spans are sent"]
pub struct Spans(SdkTracerProvider);

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spans").finish_non_exhaustive()
    }
}

impl Spans {
    /// Sends the remaining spans and ends the export.
    ///
    /// # Errors
    /// [`ShutdownSpansError`] if the collector does not accept them in time.
    pub async fn shutdown(self) -> Result<(), ShutdownSpansError> {
        // The shutdown blocks until the spans are sent.
        let ended = tokio::task::spawn_blocking(move || self.0.shutdown()).await;
        let ended = ended.unwrap_or_else(|error| Err(OTelSdkError::InternalFailure(error.to_string())));
        ended.map_err(|source| ShutdownSpansError { source })
    }
}

/// Installs logs as [`install_logs`](crate::install_logs) does, and sends the spans that the filter selects to a
/// collector, in batches from a thread of their own. Spans are dropped while the collector does not keep up. es-core
/// has the spans `command`, `load_and_decide`, `commit` (both at the level `debug`) and `projection`; an
/// [`Edge`](crate::Edge) adds one for each request.
///
/// # Errors
/// [`InstallSpansError`] if the filter or the endpoint is invalid, or the process already has a subscriber.
pub fn install_logs_and_spans(
    format: LogFormat,
    filter: &str,
    export: &SpanExport,
) -> Result<Spans, InstallSpansError> {
    // The exporter takes any text for the name of a host.
    let is_url = export.endpoint.parse().is_ok_and(|uri: http::Uri| uri.scheme_str() == Some("http"));
    if !is_url {
        return Err(InstallSpansError::Endpoint { endpoint: export.endpoint.clone() });
    }
    let client = UreqClient(
        ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(EXPORT_DEADLINE))
            // A redirect could lead to https, for which this agent has no certificates of authorities.
            .max_redirects(0)
            .build()
            .into(),
    );
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_protocol(Protocol::HttpJson)
        .with_endpoint(&export.endpoint)
        .build();
    let exporter = exporter.map_err(InstallSpansError::Exporter)?;
    let resource = Resource::builder().with_service_name(export.service.clone()).build();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    install(format, filter, tracing_opentelemetry::layer().with_tracer(provider.tracer(SCOPE)))?;
    Ok(Spans(provider))
}

/// Returns the span of a request: `METHOD ROUTE`, whose parent is the span of the caller in `traceparent` (W3C trace
/// context). An invalid `traceparent` is ignored.
pub(crate) fn of_request(request: &Request) -> Span {
    let method = request.method().as_str();
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let span = tracing::info_span!(
        "request",
        otel.name = tracing::field::Empty,
        otel.kind = "server",
        otel.status_code = tracing::field::Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = tracing::field::Empty
    );
    if !span.is_disabled() {
        let name = if route.is_empty() { method.to_owned() } else { format!("{method} {route}") };
        span.record("otel.name", name);
        // An error means that no layer for spans is installed.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&HeaderExtractor(request.headers())));
    }
    span
}

/// Records the response in the span of its request.
pub(crate) fn end(span: &Span, status: http::StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

/// Sends batches of spans from the thread of the exporter, which may block.
#[derive(Debug)]
struct UreqClient(ureq::Agent);

#[async_trait]
impl HttpClient for UreqClient {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let response = self.0.run(request.map(|body| body.to_vec()))?;
        let (parts, mut body) = response.into_parts();
        Ok(http::Response::from_parts(parts, body.read_to_vec()?.into()))
    }
}
