//! [`Context`]: correlation and causation ids that follow the control flow of a task implicitly.
//!
//! A command that is executed inside [`Context::scope`] writes events with the correlation id and the causation id of
//! the context. Outside of any scope, each command starts a new correlation.

use std::future::Future;

use crate::model::{CorrelationId, EventId, RecordedEvent};

tokio::task_local! {
    static CURRENT: Context;
}

/// The correlation id and the causation id of new events.
///
/// ```
/// # use es_core::model::{Context, CorrelationId};
/// # async fn example() {
/// let request = Context::with_correlation(CorrelationId::new());
/// request.scope(async {
///     assert_eq!(Context::current(), Some(request)); // every command executed here belongs to the request
/// }).await;
/// # }
/// # tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(example());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The id that everything with the same root cause shares.
    pub correlation_id: CorrelationId,
    /// The id of the event that is the direct cause.
    pub causation_id: Option<EventId>,
}

impl Context {
    /// Returns the context of a root cause, for example an external request.
    #[must_use]
    pub const fn with_correlation(correlation_id: CorrelationId) -> Self {
        Self { correlation_id, causation_id: None }
    }

    /// Returns the context for the effects of an event: the correlation id of the event, or a correlation id equal to
    /// the event id if the event has none.
    #[must_use]
    pub fn caused_by(event: &RecordedEvent) -> Self {
        let correlation_id =
            event.data.correlation_id.unwrap_or_else(|| CorrelationId::from_uuid(*event.data.id.as_uuid()));
        Self { correlation_id, causation_id: Some(event.data.id) }
    }

    /// Runs a future in this context. Spawned tasks do not inherit the context: give each its own scope.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// Runs a function in this context, such as one poll of a future.
    pub fn sync_scope<R>(self, function: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(self, function)
    }

    /// Returns the context of the current task, or `None` outside of any scope.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|context| *context).ok()
    }
}
