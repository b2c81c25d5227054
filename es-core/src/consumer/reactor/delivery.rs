//! [`Delivery`] and [`ReactError`]: what a reactor is told, and what it answers.

use std::fmt;
use std::sync::Arc;

use crate::consumer::group::DeliveryKey;
use crate::model::Context;
use crate::model::Position;
use crate::model::RecordedEvent;

/// What a reactor is told of an event beside its content.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub(crate) event: Arc<RecordedEvent>,
    pub(crate) key: DeliveryKey,
    pub(crate) attempt: u32,
}

impl Delivery {
    /// What this delivery is called, each time it is made: give it to the system outside, which recognizes a repeat by it.
    #[must_use]
    pub fn key(&self) -> DeliveryKey {
        self.key
    }

    /// The how many-th time it is delivered, from 1, as far as earlier failures are known: what a crash cut off is not counted.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Where the event stands in the log.
    #[must_use]
    pub fn position(&self) -> Position {
        self.event.position
    }

    /// The event as it is recorded: its stream, its times, its annotations.
    #[must_use]
    pub fn event(&self) -> &RecordedEvent {
        &self.event
    }

    /// The context in which the reactor runs. A task that it spawns is outside of it and needs a
    /// [`scope`](Context::scope) of its own.
    #[must_use]
    pub fn context(&self) -> Context {
        Context::caused_by(&self.event)
    }
}

/// Why a reactor could not make its effect.
///
/// Any error converts into one that is tried again, so that `?` works in `react`.
#[derive(Debug)]
pub struct ReactError {
    pub(crate) reason: Box<dyn std::error::Error + Send + Sync>,
    pub(crate) is_permanent: bool,
}

impl ReactError {
    /// It is tried again after a pause; after too many failures the event is parked.
    pub fn retry(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { reason: reason.into(), is_permanent: false }
    }

    /// Trying again cannot help: the event is parked at once.
    pub fn park(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { reason: reason.into(), is_permanent: true }
    }
}

impl fmt::Display for ReactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.reason, f)
    }
}

// NOTE: no `std::error::Error`, so that every error converts into this one.
impl<E: std::error::Error + Send + Sync + 'static> From<E> for ReactError {
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}
