//! [`CORRELATION_ID`]: the header with the correlation id.

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use es_core::model::CorrelationId;
use uuid::Uuid;

/// The header of a request and of its response with the correlation id, a UUID.
pub(crate) const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// Adds the correlation id to a response.
pub(crate) fn mark(id: CorrelationId, response: &mut Response) {
    let id = id.as_uuid().hyphenated();
    if let Ok(value) = HeaderValue::from_str(id.encode_lower(&mut Uuid::encode_buffer())) {
        response.headers_mut().insert(CORRELATION_ID, value);
    }
}
