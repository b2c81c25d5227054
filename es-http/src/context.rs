//! [`RequestContext`]: the correlation id, the trace and the tenant of a request.

use axum::http::{HeaderMap, HeaderName, StatusCode};
use es_core::model::{CorrelationId, Metadata};
use uuid::Uuid;

use crate::correlation_header::CORRELATION_ID;
use crate::edge_headers::{EdgeHeaders, HeaderValues};
use crate::header_value::{missing, several, single, text};
use crate::server::ConnectionScope;
use crate::{Authenticated, Problem, Tenant, TraceParent};

/// The key of the trace in the metadata of events.
pub const TRACEPARENT_KEY: &str = "traceparent";
/// The key of the tenant in the metadata of events.
pub const TENANT_KEY: &str = "tenant";

/// The context of a request: an extractor inside an [`Edge`](crate::Edge), which runs each request in a
/// [`Context`](es_core::model::Context), so that commands write events with the correlation id of the request.
///
/// The correlation id is the UUID in `X-Correlation-ID`, otherwise the trace id of `traceparent`, otherwise a new id.
/// The response has it in `X-Correlation-ID`, also a refusal of the edge and the response to a handler that panicked.
/// The log line of a 500 has it as `correlation_id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestContext {
    /// The correlation id that all events of the request share.
    pub correlation_id: CorrelationId,
    /// The trace of the caller.
    pub trace: Option<TraceParent>,
    /// The tenant.
    pub tenant: Option<Tenant>,
}

impl RequestContext {
    /// Returns the metadata of the events of the request: `traceparent` and `tenant`. Pass it to
    /// `Execute::with_metadata`. The correlation id is a field of each event and needs no metadata.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        let mut metadata = Metadata::new();
        if let Some(trace) = self.trace {
            metadata = metadata.with(TRACEPARENT_KEY, trace.to_string());
        }
        if let Some(tenant) = &self.tenant {
            metadata = metadata.with(TENANT_KEY, tenant.as_str());
        }
        metadata
    }

    /// Returns the context of a request with these headers, this client and this correlation id. The error is the
    /// response.
    pub(crate) fn of_request(
        headers: &HeaderMap,
        found: &EdgeHeaders<'_>,
        client: Option<&Authenticated>,
        options: &ContextOptions,
        correlation_id: CorrelationId,
    ) -> Result<Self, Problem> {
        let tenant = tenant(headers, options, client)?;
        Ok(Self { correlation_id, trace: found.trace, tenant })
    }
}

/// Returns the correlation id of a request. The error is the response to an invalid one.
pub(crate) fn correlation_id(found: &EdgeHeaders<'_>) -> Result<CorrelationId, Problem> {
    Ok(match (found.correlation_id, found.trace) {
        (HeaderValues::Several, _) => return Err(several(&CORRELATION_ID)),
        (HeaderValues::One(value), _) => {
            let text = text(&CORRELATION_ID, value)?;
            text.parse().map_err(|_| Problem::invalid("X-Correlation-ID", "a UUID", text))?
        }
        (HeaderValues::None, Some(trace)) => CorrelationId::from_uuid(Uuid::from_u128(trace.trace_id)),
        (HeaderValues::None, None) => new_correlation_id(),
    })
}

/// Returns an id for a request that has none.
pub(crate) fn new_correlation_id() -> CorrelationId {
    ConnectionScope::correlation_id().unwrap_or_else(CorrelationId::new)
}

/// Returns the tenant of the token, otherwise that of the header. They must not differ.
fn tenant(
    headers: &HeaderMap,
    options: &ContextOptions,
    client: Option<&Authenticated>,
) -> Result<Option<Tenant>, Problem> {
    let of_token = client.and_then(|client| client.tenant.clone());
    let Some(name) = &options.tenant_header else { return Ok(of_token) };
    let of_header = single(headers, name)?.map(|text| {
        Tenant::new(text).ok_or_else(|| Problem::invalid(name.as_str(), "1 to 128 visible ASCII characters", text))
    });
    match (of_token, of_header.transpose()?) {
        (None, None) => Err(missing(name)),
        (Some(of_token), Some(of_header)) if of_token != of_header => {
            let detail = format!("{name}: expected the tenant of the token, found {:?}", of_header.as_str());
            Err(Problem::new(StatusCode::FORBIDDEN, detail))
        }
        (of_token, of_header) => Ok(of_token.or(of_header)),
    }
}

/// The options of the [context](RequestContext) of requests.
#[derive(Debug, Clone, Default)]
pub struct ContextOptions {
    tenant_header: Option<HeaderName>,
}

impl ContextOptions {
    /// Returns the default options: the tenant is that of the token, if the client has one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the tenant from this header, which each request must have then, unless its token has a tenant. Any client
    /// can set a header: use it where a trusted proxy sets it. A header that names another tenant than the token is
    /// 403.
    #[must_use]
    pub fn tenant_header(mut self, name: HeaderName) -> Self {
        self.tenant_header = Some(name);
        self
    }
}
