//! [`Consumer`] and [`Delivery`]: receive and settle the events of a group.

use std::fmt;
use std::sync::Arc;

use crate::aggregate::Source;
use crate::aggregate::source::SourceEvents;
use crate::consumer::group::delivery_key::DeliveryKey;
use crate::consumer::group::error::SettleError;
use crate::consumer::group::settlement::Settlement;
use crate::consumer::group::shared::GroupCore;
use crate::consumer::lifecycle::GroupError;
use crate::model::Context;
use crate::model::RecordedEvent;
use crate::schema::DecodeEventError;

/// Receives events of a group. Each task has its own consumer; a clone is another consumer.
#[derive(Clone)]
pub struct Consumer {
    shared: Arc<GroupCore>,
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("group", &self.shared.rows.name()).finish_non_exhaustive()
    }
}

impl Consumer {
    pub(crate) fn new(shared: Arc<GroupCore>) -> Self {
        Self { shared }
    }

    /// Returns the next event, or `None` when the group is shut down. Waits if there is none; waiting consumers are
    /// served in the order of their calls.
    ///
    /// A consumer may receive several events before it settles the first. If this future is dropped, no event is lost.
    ///
    /// # Errors
    /// [`GroupError`] if the group has stopped for another reason than its shutdown.
    pub async fn next(&self) -> Result<Option<Delivery>, GroupError> {
        let Some(dispatch) = self.shared.next().await? else { return Ok(None) };
        let (event, attempt, ticket) = (dispatch.content, dispatch.attempt, dispatch.ticket);
        Ok(Some(Delivery { shared: Arc::clone(&self.shared), event, attempt, ticket, is_open: true }))
    }
}

/// A negative acknowledgement of an event, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nack {
    /// Deliver the event again after a pause. After the last attempt of the retry policy it is parked.
    Retry(String),
    /// Park the event immediately, because a retry cannot succeed.
    Park(String),
    /// Do not deliver the event again. The reason is stored.
    Skip(String),
}

/// A delivery of an event, which the consumer settles with [`ack`](Self::ack) or [`nack`](Self::nack).
///
/// If it is dropped before it is settled, the event is delivered again, as after [`Nack::Retry`].
#[must_use = "settle it with `ack` or `nack`; if it is dropped, the event is delivered again"]
pub struct Delivery {
    shared: Arc<GroupCore>,
    event: Arc<RecordedEvent>,
    attempt: u32,
    ticket: u64,
    is_open: bool,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("group", &self.shared.rows.name())
            .field("position", &self.event.position)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

impl Delivery {
    /// Returns the event.
    #[must_use]
    pub fn event(&self) -> &RecordedEvent {
        &self.event
    }

    /// Decodes the event for a source, such as that of [`ConsumerGroup::of`](super::ConsumerGroup::of).
    ///
    /// # Errors
    /// [`DecodeEventError`] if the source does not know the type of the event or cannot decode its content.
    pub fn decode<S: Source>(&self) -> Result<SourceEvents<'_, S::Event>, DecodeEventError> {
        S::decode(&self.event)
    }

    pub(crate) fn shared_event(&self) -> Arc<RecordedEvent> {
        Arc::clone(&self.event)
    }

    /// Returns the number of this attempt, from 1. Attempts that a crash interrupted are not counted.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns the key of this delivery. Every attempt has the same key.
    #[must_use]
    pub fn key(&self) -> DeliveryKey {
        DeliveryKey::of(self.shared.rows.name(), self.event.data.id, 0)
    }

    /// Returns a context with the event as the cause. Commands that are executed in its [`scope`](Context::scope) name
    /// the event as their cause.
    #[must_use]
    pub fn context(&self) -> Context {
        Context::caused_by(&self.event)
    }

    /// Acknowledges the event. When this method returns, the ack is durable and the event is not delivered again. Acks
    /// of several consumers share one commit.
    ///
    /// # Errors
    /// [`SettleError::TooLate`] if the delivery timed out: the event is delivered again. [`SettleError::Group`] if the
    /// group stopped before the ack was durable.
    pub async fn ack(mut self) -> Result<(), SettleError> {
        let change = self.settle(Settlement::Ack)?;
        Ok(self.shared.written(change).await?)
    }

    /// Rejects the event. When this method returns, the decision is durable.
    ///
    /// # Errors
    /// [`SettleError::TooLate`] if the delivery timed out: the event is delivered again. [`SettleError::Group`] if the
    /// group stopped before the decision was durable.
    pub async fn nack(mut self, nack: Nack) -> Result<(), SettleError> {
        let change = self.settle(match nack {
            Nack::Retry(reason) => Settlement::Retry(reason),
            Nack::Park(reason) => Settlement::Park(reason),
            Nack::Skip(reason) => Settlement::Skip(reason),
        })?;
        Ok(self.shared.written(change).await?)
    }

    /// Settles the delivery without waiting until the settlement is durable.
    pub(crate) fn settle(&mut self, settlement: Settlement) -> Result<u64, SettleError> {
        self.is_open = false;
        self.shared.settle(self.event.position, self.ticket, settlement)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.is_open {
            // After a timeout the event is delivered again in any case.
            let _ = self.settle(Settlement::Retry("the delivery was dropped before it was settled".to_owned()));
        }
    }
}
