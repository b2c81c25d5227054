//! [`Context`]: correlation and causation that flow through a program without being passed by hand.
//!
//! Whatever runs inside [`Context::scope`] and executes a command writes events that name the event that caused them and
//! the correlation that they share. Outside of any scope each command begins a correlation of its own.

use std::future::Future;

use crate::model::{CorrelationId, EventId, RecordedEvent};

tokio::task_local! {
    static CURRENT: Context;
}

/// What an effect has in common with its cause.
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
    /// What everything of one first cause has in common.
    pub correlation_id: CorrelationId,
    /// The event that is the direct cause.
    pub causation_id: Option<EventId>,
}

impl Context {
    /// The context of a first cause, for example a request from outside.
    #[must_use]
    pub const fn with_correlation(correlation_id: CorrelationId) -> Self {
        Self { correlation_id, causation_id: None }
    }

    /// The context of what an event causes: its correlation, or one that begins with it where it has none.
    #[must_use]
    pub fn caused_by(event: &RecordedEvent) -> Self {
        let correlation_id =
            event.data.correlation_id.unwrap_or_else(|| CorrelationId::from_uuid(*event.data.id.as_uuid()));
        Self { correlation_id, causation_id: Some(event.data.id) }
    }

    /// Runs a future in this context. A task that the future spawns is outside of it: give it a scope of its own.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// The context of the running task; `None` outside of any scope.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|context| *context).ok()
    }
}
