//! [`Problem`]: an error response, `application/problem+json` (RFC 9457).

mod body_refused;
mod from_axum;
mod from_core;
mod uniform;

use std::borrow::Cow;
use std::fmt;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use es_core::model::Context as CausalContext;
use es_core::store::Conflict;
use serde_json::{Map, Value};
use tracing::field::display;

pub(crate) use body_refused::BodyRefused;
pub use uniform::uniform_problems;
pub(crate) use uniform::{AnsweredRequest, is_uniform, uniform};

/// The longest part of a request that a detail repeats, in characters.
const MAX_FOUND: usize = 100;

/// The content type of a problem.
pub(crate) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The `type` URIs of the problems that this crate creates. Other problems have no `type`, which means that the status
/// is the type.
pub mod kind {
    /// Another writer was faster, or a unique key is held. Reload, and let the user decide again. Status 409.
    pub const CONFLICT: &str = "urn:es:problem:conflict";
    /// A distributed transaction that is not decided yet locks the aggregate. Repeat the request later. Status 423.
    pub const LOCKED: &str = "urn:es:problem:locked";
    /// A condition of the request does not hold: `If-Match` or `If-None-Match`. Status 412.
    pub const PRECONDITION: &str = "urn:es:problem:precondition-failed";
    /// The domain rejected the command. Status 422.
    pub const REJECTED: &str = "urn:es:problem:rejected";
    /// The `Idempotency-Key` was used for another command. Status 422.
    pub const COMMAND_ID_REUSED: &str = "urn:es:problem:command-id-reused";
    /// The command was executed before, and retention has removed its result. Status 410.
    pub const RESULT_REMOVED: &str = "urn:es:problem:result-removed";
    /// A view did not reach the requested position in time. The command at the position succeeded. Status 503.
    pub const NOT_CAUGHT_UP: &str = "urn:es:problem:not-caught-up";
    /// A position or time is ahead of the log. Start again from the beginning of the log, or from its head. Status 409.
    pub const AHEAD_OF_LOG: &str = "urn:es:problem:ahead-of-log";
    /// A position belongs to another log: the store was restored. Start again from the beginning. Status 410.
    pub const OTHER_LOG: &str = "urn:es:problem:other-log";
    /// The service accepts no such requests at present. Repeat the request later. Status 503.
    pub const UNAVAILABLE: &str = "urn:es:problem:unavailable";
    /// A later epoch of the coordinator is known. The members `known` and `found` have the epochs. Status 409.
    #[cfg(feature = "transactions")]
    pub const TRANSACTION_FENCED: &str = "urn:es:problem:transaction-fenced";
    /// The participant refused a call of a coordinator. A repeated call is refused again. Status 403.
    #[cfg(feature = "transactions")]
    pub const TRANSACTION_REFUSED: &str = "urn:es:problem:transaction-refused";
    /// The participant cannot read its state. An operator must repair it. Status 500.
    #[cfg(feature = "transactions")]
    pub const TRANSACTION_UNREADABLE: &str = "urn:es:problem:transaction-unreadable";
    /// The participant does not implement the operation. Use two-phase commit. Status 501.
    #[cfg(feature = "transactions")]
    pub const TRANSACTION_UNSUPPORTED: &str = "urn:es:problem:transaction-unsupported";
}

/// An error response: a status, a detail for the caller, and members for programs.
///
/// The `title` is the reason phrase of the status by default. A detail is sent to the caller: it must not contain
/// paths, addresses or secrets of the machine. [`internal`](Self::internal) logs an error and sends none of it.
///
/// ```
/// use axum::http::StatusCode;
/// use es_http::Problem;
///
/// let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "order 7 has no lines").with("order", 7);
/// let problem = problem.with("status", 200); // has no effect
/// assert_eq!(
///     problem.to_json().to_string(),
///     r#"{"detail":"order 7 has no lines","order":7,"status":422,"title":"Unprocessable Entity"}"#
/// );
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Problem(Box<Members>);

/// The parts of a problem. They are boxed, because a problem is the error of most functions.
#[derive(Debug, Clone, PartialEq)]
struct Members {
    status: StatusCode,
    kind: Option<Cow<'static, str>>,
    title: Option<Cow<'static, str>>,
    detail: String,
    extensions: Map<String, Value>,
    headers: HeaderMap,
    /// The conflict of which this is the problem, for the detail of a 412.
    conflict: Option<Conflict>,
}

impl Problem {
    /// Creates a problem with a status and a detail for the caller.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let (detail, extensions, headers) = (detail.into(), Map::new(), HeaderMap::new());
        Self(Box::new(Members { status, kind: None, title: None, detail, extensions, headers, conflict: None }))
    }

    /// Creates the problem of a conflict.
    fn of_conflict(conflict: Conflict) -> Self {
        let mut problem = Self::new(StatusCode::CONFLICT, conflict.to_string()).with_type(kind::CONFLICT);
        problem.0.conflict = Some(conflict);
        problem
    }

    /// Creates the response to an invalid header, parameter or path segment: 400 with a detail such as
    /// `limit: expected a number, found "x"`. A long `found` is shortened to 100 characters.
    #[must_use]
    pub fn invalid(name: &str, expected: impl fmt::Display, found: &str) -> Self {
        let found = shortened(found);
        Self::new(StatusCode::BAD_REQUEST, format!("{name}: expected {expected}, found {found:?}"))
    }

    /// Creates the response to a failure inside the service: 500 without a cause. Logs the error with its sources.
    #[must_use]
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        // Commands and queries inside an `Edge` run in its context, whose id the response has.
        let correlation_id = CausalContext::current().map(|context| display(context.correlation_id));
        tracing::error!(error = %es_core::model::ErrorChain(error), correlation_id, "a request failed");
        Self::unexplained()
    }

    /// Returns the response to a failure that was logged.
    pub(crate) fn unexplained() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the request failed; the log of the service has the cause")
    }

    /// Creates the response of a service that cannot answer now: 503 with `Retry-After`.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).with_type(kind::UNAVAILABLE);
        problem.with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// Sets the `type`: a URI that identifies the kind of the problem. See [`kind`] for those of this crate.
    #[must_use]
    pub fn with_type(mut self, uri: impl Into<Cow<'static, str>>) -> Self {
        self.0.kind = Some(uri.into());
        self
    }

    /// Sets the `title`, which must be the same for all problems of a type.
    #[must_use]
    pub fn with_title(mut self, title: impl Into<Cow<'static, str>>) -> Self {
        self.0.title = Some(title.into());
        self
    }

    /// Sets an extension member. The members `type`, `status`, `title` and `detail` cannot be replaced.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.0.extensions.insert(name.into(), value.into());
        self
    }

    /// Sets a header of the response, such as `Retry-After`.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// Closes the connection after the response, because the body of the request was not read to its end.
    pub(crate) fn closing(self) -> Self {
        self.with_header(header::CONNECTION, HeaderValue::from_static("close"))
    }

    /// Returns the status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Returns the `type`, if the problem has one.
    #[must_use]
    pub fn type_uri(&self) -> Option<&str> {
        self.0.kind.as_deref()
    }

    /// Returns the detail.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// Returns the response to a write whose [precondition](crate::Preconditions) does not hold, in place of a
    /// conflict. `unmet` returns the detail, or `None` for a conflict with something else, which remains a conflict.
    pub(crate) fn conflict_as_precondition(mut self, unmet: impl FnOnce(&Conflict) -> Option<String>) -> Self {
        if let Some(detail) = self.0.conflict.as_ref().and_then(unmet) {
            self.0.status = StatusCode::PRECONDITION_FAILED;
            self.0.kind = Some(kind::PRECONDITION.into());
            self.0.detail = detail;
        }
        self
    }

    /// Returns the body of the response.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let Members { status, kind, title, detail, extensions, .. } = &*self.0;
        let title = title.as_deref().or_else(|| status.canonical_reason()).unwrap_or("Error");
        let mut members = extensions.clone();
        match kind {
            Some(kind) => members.insert("type".to_owned(), kind.as_ref().into()),
            None => members.remove("type"),
        };
        members.insert("status".to_owned(), status.as_u16().into());
        members.insert("title".to_owned(), title.into());
        members.insert("detail".to_owned(), detail.as_str().into());
        Value::Object(members)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.status, self.0.detail)
    }
}

impl std::error::Error for Problem {}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.0.status, self.to_json().to_string()).into_response();
        response.headers_mut().extend(self.0.headers);
        response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
        response
    }
}

/// Returns the part of a text that a message repeats.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(MAX_FOUND).collect()
}
