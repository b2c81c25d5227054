//! The operator of a request, and the log of what operators do.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use axum::Router;

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
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

/// Returns the routes with the outermost layer of the operations: it logs each request that is not a read, also one
/// that another layer refuses.
pub(super) fn recorded(routes: Router) -> Router {
    routes.layer(from_fn(record))
}

/// The operator that the authentication found: an extension of the request, because the audit is around it.
#[derive(Clone, Default)]
struct FoundOperator(Arc<OnceLock<Operator>>);

/// Passes the operator of an authenticated request to the audit.
pub(super) async fn identify(request: Request, next: Next) -> Response {
    if let Some(FoundOperator(found)) = request.extensions().get() {
        found.get_or_init(Operator::current);
    }
    next.run(request).await
}

async fn record(mut request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let authenticated = FoundOperator::default();
    request.extensions_mut().insert(authenticated.clone());
    let mut record = AuditRecord {
        authenticated,
        of_connection: Operator::current(),
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
    authenticated: FoundOperator,
    /// The operator of a request that was not authenticated: the user of a Unix socket.
    of_connection: Operator,
    method: Method,
    path: String,
    status: Option<StatusCode>,
}

impl Drop for AuditRecord {
    fn drop(&mut self) {
        let Operator(name) = self.authenticated.0.get().unwrap_or(&self.of_connection);
        let operator = name.as_deref().unwrap_or("not authenticated");
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
