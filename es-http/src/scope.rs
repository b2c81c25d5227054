//! [`RequestScope`]: what the layers of this crate found out about a request.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio::task::futures::TaskLocalFuture;

use crate::client::Authenticated;
use crate::{Problem, RequestContext};

tokio::task_local! {
    /// The request that the present task answers. An extension of the request would cost five times as much: axum has
    /// three of its own, and the table of extensions grows with the fourth.
    static OF_REQUEST: RequestScope;
}

/// The client and the context of a request.
#[derive(Debug)]
pub(crate) struct RequestScope {
    /// Shared with the connection: a copy would allocate memory at each request.
    pub(crate) client: Option<Arc<Authenticated>>,
    pub(crate) context: Option<RequestContext>,
}

/// A future that runs in the scope of a request.
pub(crate) type InScope<F> = TaskLocalFuture<RequestScope, F>;

impl RequestScope {
    /// Runs the routes, whose handlers extract parts of the scope.
    pub(crate) fn enter<F: Future>(self, routes: F) -> InScope<F> {
        OF_REQUEST.scope(self, routes)
    }

    /// Returns a part of the scope of the present task, if a layer has created it.
    pub(crate) fn get<T>(part: impl FnOnce(&Self) -> Option<T>) -> Option<T> {
        OF_REQUEST.try_with(part).ok().flatten()
    }

    /// Returns the client of the request that the present task answers.
    pub(crate) fn client() -> Option<Arc<Authenticated>> {
        Self::get(|scope| scope.client.clone())
    }
}

/// Without an [`Edge`](crate::Edge) around the route, or in another task than that of the request, the response is 500.
impl<S: Send + Sync> FromRequestParts<S> for RequestContext {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Problem> {
        RequestScope::get(|scope| scope.context.clone()).ok_or_else(|| {
            tracing::error!(
                "a handler extracts RequestContext, but its router has no layer Edge, or it runs in another task"
            );
            Problem::unexplained()
        })
    }
}
