//! [`RequestScope`]: what the layers of this crate found out about a request.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::Extensions;
use axum::http::request::Parts;

use crate::client::Authenticated;
use crate::{Problem, RequestContext};

/// The client and the context of a request. They are one extension, because each extension allocates memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestScope {
    /// Shared with the tokens: a copy would allocate memory at each request.
    pub(crate) client: Option<Arc<Authenticated>>,
    pub(crate) context: Option<RequestContext>,
}

impl RequestScope {
    /// Returns the scope of a request with these extensions, if a layer has created it.
    pub(crate) fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }
}

/// Without an [`Edge`](crate::Edge) around the route, the response is 500.
impl<S: Send + Sync> FromRequestParts<S> for RequestContext {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        RequestScope::of(&parts.extensions).and_then(|scope| scope.context.clone()).ok_or_else(|| {
            tracing::error!("a handler extracts RequestContext, but its router has no layer Edge");
            Problem::unexplained()
        })
    }
}
