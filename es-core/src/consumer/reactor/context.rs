//! [`ReactorContext`] and [`ReactError`]: the context of one call of a reactor, and its failure.

use std::fmt;
use std::sync::Arc;

use crate::consumer::group::DeliveryKey;
use crate::model::Context;
use crate::model::Position;
use crate::model::RecordedEvent;

/// The context of one call of [`Reactor::react`](super::Reactor::react): the recorded event, the delivery key and the
/// attempt.
#[derive(Debug, Clone)]
pub struct ReactorContext {
    pub(crate) event: Arc<RecordedEvent>,
    pub(crate) key: DeliveryKey,
    pub(crate) attempt: u32,
}

impl ReactorContext {
    /// Returns the key of this delivery. Every attempt has the same key. Pass it to the external system, which
    /// recognizes a repeated delivery by it.
    #[must_use]
    pub fn key(&self) -> DeliveryKey {
        self.key
    }

    /// Returns the number of this attempt, from 1. Attempts that a crash interrupted are not counted.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns the position of the event in the log.
    #[must_use]
    pub fn position(&self) -> Position {
        self.event.position
    }

    /// Returns the recorded event: its stream, times and metadata.
    #[must_use]
    pub fn event(&self) -> &RecordedEvent {
        &self.event
    }

    /// Returns the [`Context`] in which the reactor runs, with the event as the cause. A task that the reactor spawns
    /// does not inherit it and needs its own [`scope`](Context::scope).
    #[must_use]
    pub fn caused_by_event(&self) -> Context {
        Context::caused_by(&self.event)
    }
}

/// A reactor failed to perform its effect.
///
/// Every error type converts into a `ReactError` that is retried, so that `?` works in `react`.
#[derive(Debug)]
pub struct ReactError {
    pub(crate) reason: Box<dyn std::error::Error + Send + Sync>,
    pub(crate) is_permanent: bool,
}

impl ReactError {
    /// Creates an error after which the event is delivered again after a pause; after too many failures it is parked.
    pub fn retry(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { reason: reason.into(), is_permanent: false }
    }

    /// Creates an error after which the event is parked immediately, because a retry cannot succeed.
    pub fn park(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { reason: reason.into(), is_permanent: true }
    }
}

impl fmt::Display for ReactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.reason, f)
    }
}

// `ReactError` does not implement `std::error::Error`: this conversion from every error type would overlap with
// `From<T> for T`.
impl<E: std::error::Error + Send + Sync + 'static> From<E> for ReactError {
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}
