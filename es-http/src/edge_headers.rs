//! [`EdgeHeaders`]: the headers that an edge reads of each request.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::TraceParent;
use crate::correlation_header::CORRELATION_ID;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The headers that an edge reads of each request, found in one pass: a look-up of a name computes its hash.
#[derive(Debug, Default)]
pub(crate) struct EdgeHeaders<'a> {
    pub(crate) authorization: HeaderValues<'a>,
    pub(crate) correlation_id: HeaderValues<'a>,
    /// The specification demands that an invalid `traceparent` is ignored.
    pub(crate) trace: Option<TraceParent>,
}

/// The values of a header that must occur at most once.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum HeaderValues<'a> {
    #[default]
    None,
    One(&'a HeaderValue),
    Several,
}

impl<'a> EdgeHeaders<'a> {
    pub(crate) fn of(headers: &'a HeaderMap) -> Self {
        let mut found = Self::default();
        for (name, value) in headers {
            if *name == header::AUTHORIZATION {
                found.authorization.add(value);
            } else if *name == CORRELATION_ID {
                found.correlation_id.add(value);
            } else if *name == TRACEPARENT && found.trace.is_none() {
                found.trace = value.to_str().ok().and_then(|text| text.parse().ok());
            }
        }
        found
    }
}

impl<'a> HeaderValues<'a> {
    fn add(&mut self, value: &'a HeaderValue) {
        *self = if let Self::None = self { Self::One(value) } else { Self::Several };
    }
}
