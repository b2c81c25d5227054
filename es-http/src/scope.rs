//! [`RequestScope`]: what the layers of this crate found out about a request.

use std::sync::Arc;

use axum::http::Extensions;

use crate::{Authenticated, RequestContext};

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
