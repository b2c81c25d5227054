//! [`Draining`]: tells handlers that the server stops.

use std::sync::Arc;

use tokio::sync::watch;

/// Tells a handler that the server stops, so that a response without an end, such as server-sent events, can end.
///
/// It is an extractor. Under another server than [`serve`](crate::serve), [`requested`](Self::requested) never returns.
///
/// ```
/// use axum::response::sse::{Event, Sse};
/// use futures_util::{Stream, StreamExt};
/// # fn ticks() -> impl Stream<Item = Result<Event, std::convert::Infallible>> { futures_util::stream::pending() }
///
/// async fn events(draining: es_http::Draining) -> Sse<impl Stream<Item = Result<Event, std::convert::Infallible>>> {
///     Sse::new(ticks().take_until(Box::pin(draining.requested())))
/// }
/// # let _: axum::Router = axum::Router::new().route("/events", axum::routing::get(events));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Draining(Option<Arc<watch::Receiver<bool>>>);

impl Draining {
    /// Creates the signal of one connection. Its clones change no counter that other connections change, too.
    pub(super) fn new(requested: watch::Receiver<bool>) -> Self {
        Self(Some(Arc::new(requested)))
    }

    /// Waits until the server stops.
    pub async fn requested(self) {
        match self.0 {
            Some(requested) => {
                let mut requested = watch::Receiver::clone(&requested);
                // An error means that the server has ended.
                let _ = requested.wait_for(|requested| *requested).await;
            }
            None => std::future::pending().await,
        }
    }
}
