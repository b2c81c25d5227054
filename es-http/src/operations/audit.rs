//! The operator of a request, and the log of what operators do.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use es_core::retention::Note;

use crate::PeerAddress;
use crate::scope::RequestScope;
use crate::server::ConnectionScope;

/// The target of the audit log.
const TARGET: &str = "audit";

/// The operator of a request: the name of its token, or the user of its Unix socket. An extractor for the handlers of
/// [`Operations`](super::Operations).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator(Option<String>);

impl Operator {
    /// Returns the operator of the request that the present task answers.
    fn current() -> Self {
        let of_token = RequestScope::client().map(|client| client.name.clone());
        Self(of_token.or_else(|| match ConnectionScope::address()? {
            #[cfg(unix)]
            PeerAddress::Unix(peer) => Some(format!("uid:{}", peer.uid)),
            PeerAddress::Tcp(_) => None,
        }))
    }

    /// Returns the name that is recorded: the identity of the client if it has one, with the name that the request
    /// gives, as in `ops for ada`; otherwise the name alone.
    #[must_use]
    pub fn recorded_as(&self, by: Option<String>) -> Option<String> {
        match (&self.0, by) {
            (Some(identity), Some(by)) if by != *identity => Some(format!("{identity} for {by}")),
            (Some(identity), _) => Some(identity.clone()),
            (None, by) => by,
        }
    }

    /// Returns the note of an event.
    pub(super) fn note(&self, by: Option<String>, reason: Option<String>) -> Note {
        Note { by: self.recorded_as(by), reason }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::current())
    }
}

/// Logs each request that is not a read.
pub(super) async fn record(request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let mut record = AuditRecord {
        operator: Operator::current(),
        method: request.method().clone(),
        path: request.uri().path_and_query().map_or_else(String::new, ToString::to_string),
        status: None,
    };
    let response = next.run(request).await;
    record.status = Some(response.status());
    response
}

/// A line of the audit log. It is written when the request ends, also if its connection breaks before the response.
struct AuditRecord {
    operator: Operator,
    method: Method,
    path: String,
    status: Option<StatusCode>,
}

impl Drop for AuditRecord {
    fn drop(&mut self) {
        let operator = self.operator.0.as_deref().unwrap_or("not authenticated");
        let (method, path) = (self.method.as_str(), self.path.as_str());
        match self.status {
            Some(status) => {
                tracing::info!(target: TARGET, operator, method, path, status = status.as_u16(), "operator request");
            }
            None => {
                tracing::warn!(target: TARGET, operator, method, path, "operator request without a response");
            }
        }
    }
}
