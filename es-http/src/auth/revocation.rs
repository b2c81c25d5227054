//! [`Revocation`]: tells handlers that the client of a request was excluded.

use std::convert::Infallible;
use std::fmt;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::client::{KnownClient, WatchRevocation};
use crate::scope::RequestScope;
use crate::server::ConnectionScope;

/// Tells a handler that the client of its request was excluded, so that a response without an end, such as server-sent
/// events, can end. [`Tokens`](crate::Tokens) are checked when a request begins, and not while its response lasts.
///
/// It is an extractor. Without tokens, and under another server than [`serve`](crate::serve),
/// [`revoked`](Self::revoked) never returns.
///
/// ```
/// use axum::response::sse::{Event, Sse};
/// use futures_util::{Stream, StreamExt};
/// # fn ticks() -> impl Stream<Item = Result<Event, std::convert::Infallible>> { futures_util::stream::pending() }
///
/// async fn events(client: es_http::Revocation) -> Sse<impl Stream<Item = Result<Event, std::convert::Infallible>>> {
///     Sse::new(ticks().take_until(Box::pin(client.revoked())))
/// }
/// # let _: axum::Router = axum::Router::new().route("/events", axum::routing::get(events));
/// ```
#[derive(Clone, Default)]
pub struct Revocation(Option<WatchRevocation>);

impl fmt::Debug for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocation").finish_non_exhaustive()
    }
}

impl Revocation {
    /// Waits until the token or the certificate of the client is removed from the tokens, or has another name, role or
    /// tenant. The file is checked once a second.
    pub async fn revoked(self) {
        match self.0 {
            Some(watch) => watch().await,
            None => std::future::pending().await,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Revocation {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Infallible> {
        if RequestScope::client().is_none() {
            return Ok(Self::default());
        }
        Ok(Self(ConnectionScope::with_client(|known| known.as_ref().map(KnownClient::watch)).flatten()))
    }
}
