//! [`RequestContext`]: the correlation id, the trace and the tenant of a request.

use std::fmt;
use std::str::FromStr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use es_core::model::{CorrelationId, Metadata};
use uuid::Uuid;

use crate::edge::{EdgeHeaders, HeaderValues};
use crate::header_value::{missing, several, single, text};
use crate::problem::shortened;
use crate::server::ConnectionScope;
use crate::{Authenticated, Problem, Tenant};

/// The header of a request and of its response with the correlation id, a UUID.
pub(crate) const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The key of the trace in the metadata of events.
pub const TRACEPARENT_KEY: &str = "traceparent";
/// The key of the tenant in the metadata of events.
pub const TENANT_KEY: &str = "tenant";

/// A position in a distributed trace: the header `traceparent` (W3C Trace Context, version 00).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// The id of the trace; never 0.
    pub trace_id: u128,
    /// The id of the span of the caller; never 0.
    pub parent_id: u64,
    /// Whether the caller records the trace.
    pub is_sampled: bool,
}

/// A text is not a [`TraceParent`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a traceparent such as 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01, found {found:?}")]
pub struct ParseTraceParentError {
    found: String,
}

impl FromStr for TraceParent {
    type Err = ParseTraceParentError;

    /// Parses version 00, and the fields of a later version that version 00 has.
    fn from_str(text: &str) -> Result<Self, ParseTraceParentError> {
        let parse = || {
            let mut fields = text.split('-');
            let version = hexadecimal(fields.next()?, 2)?;
            let trace_id = hexadecimal(fields.next()?, 32).filter(|id| *id != 0)?;
            let parent_id = u64::try_from(hexadecimal(fields.next()?, 16)?).ok().filter(|id| *id != 0)?;
            let flags = hexadecimal(fields.next()?, 2)?;
            let is_known = version != 0xff && (version > 0 || fields.next().is_none());
            is_known.then_some(Self { trace_id, parent_id, is_sampled: flags & 1 == 1 })
        };
        parse().ok_or_else(|| ParseTraceParentError { found: shortened(text) })
    }
}

/// Parses lower-case digits. A sign, which `from_str_radix` accepts, is no digit.
fn hexadecimal(text: &str, digits: usize) -> Option<u128> {
    let is_valid = text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_valid.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, u8::from(self.is_sampled))
    }
}

/// The context of a request: an extractor inside an [`Edge`](crate::Edge), which runs each request in a
/// [`Context`](es_core::model::Context), so that commands write events with the correlation id of the request.
///
/// The correlation id is the UUID in `X-Correlation-ID`, otherwise the trace id of `traceparent`, otherwise a new id.
/// The response has it in `X-Correlation-ID`.
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

    /// Returns the context of a request with these headers and this client. The error is the response.
    pub(crate) fn of_request(
        headers: &HeaderMap,
        found: &EdgeHeaders<'_>,
        client: Option<&Authenticated>,
        options: &ContextOptions,
    ) -> Result<Self, Problem> {
        let trace = found.trace;
        let correlation_id = match (found.correlation_id, trace) {
            (HeaderValues::Several, _) => return Err(several(&CORRELATION_ID)),
            (HeaderValues::One(value), _) => {
                let text = text(&CORRELATION_ID, value)?;
                text.parse().map_err(|_| Problem::invalid("X-Correlation-ID", "a UUID", text))?
            }
            (HeaderValues::None, Some(trace)) => CorrelationId::from_uuid(Uuid::from_u128(trace.trace_id)),
            (HeaderValues::None, None) => ConnectionScope::correlation_id().unwrap_or_else(CorrelationId::new),
        };
        let tenant = tenant(headers, options, client)?;
        Ok(Self { correlation_id, trace, tenant })
    }
}

/// Adds the correlation id to a response.
pub(crate) fn mark(id: CorrelationId, response: &mut Response) {
    let id = id.as_uuid().hyphenated();
    if let Ok(value) = HeaderValue::from_str(id.encode_lower(&mut Uuid::encode_buffer())) {
        response.headers_mut().insert(CORRELATION_ID, value);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_has_two_ids_that_are_not_zero() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace: TraceParent = text.parse().unwrap();
        assert_eq!(trace.to_string(), text);
        let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more";
        assert_eq!(later.parse(), Ok(trace));
        for invalid in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(invalid.parse::<TraceParent>().is_err(), "{invalid}");
        }
    }
}
