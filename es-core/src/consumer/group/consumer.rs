//! [`Consumer`] and [`Delivery`]: what works on the events of a group.

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

/// One of those who share the events of a group. Each task that works has its own; clones are others.
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

    /// The next event; waits where there is none, in line with the other consumers. `None` once the group closes.
    ///
    /// A consumer may take several before it answers for the first. When this future is dropped, no event is lost.
    ///
    /// # Errors
    /// [`GroupError`]: the group does not run any more; each variant says what to do.
    pub async fn next(&self) -> Result<Option<Delivery>, GroupError> {
        let Some(dispatch) = self.shared.next().await? else { return Ok(None) };
        let (event, attempt, ticket) = (dispatch.content, dispatch.attempt, dispatch.ticket);
        Ok(Some(Delivery { shared: Arc::clone(&self.shared), event, attempt, ticket, is_open: true }))
    }
}

/// Why an event is not acked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nack {
    /// Deliver it again, after a pause; after too many failures it is parked. With the reason.
    Retry(String),
    /// Park it at once: it cannot succeed as things are. With the reason.
    Park(String),
    /// Give it up: it is not delivered again. With the reason, which is kept.
    Skip(String),
}

/// An event in the hands of a consumer, who answers with [`ack`](Self::ack) or [`nack`](Self::nack).
///
/// One that is dropped without an answer is delivered again, as after [`Nack::Retry`].
#[must_use = "answer with `ack` or `nack`; dropped, it is delivered again"]
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
    /// The event.
    #[must_use]
    pub fn event(&self) -> &RecordedEvent {
        &self.event
    }

    /// Decodes the event for a source, such as that of [`ConsumerGroup::of`](super::ConsumerGroup::of).
    ///
    /// # Errors
    /// See [`Source::decode`].
    pub fn decode<S: Source>(&self) -> Result<SourceEvents<'_, S::Event>, DecodeEventError> {
        S::decode(&self.event)
    }

    pub(crate) fn shared_event(&self) -> Arc<RecordedEvent> {
        Arc::clone(&self.event)
    }

    /// The how many-th time it is delivered, from 1, as far as earlier failures are known: what a crash cut off is not
    /// counted.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What this delivery is called, each time it is made.
    #[must_use]
    pub fn key(&self) -> DeliveryKey {
        DeliveryKey::of(self.shared.rows.name(), self.event.data.id, 0)
    }

    /// The context for what the consumer does: commands executed in its [`scope`](Context::scope) name the event as
    /// their cause.
    #[must_use]
    pub fn context(&self) -> Context {
        Context::caused_by(&self.event)
    }

    /// It is done. Returns when that is written: it does not come again. Acks of several consumers share one commit.
    ///
    /// # Errors
    /// [`SettleError`]; each variant says what happens to the event.
    pub async fn ack(mut self) -> Result<(), SettleError> {
        let change = self.settle(Settlement::Ack)?;
        Ok(self.shared.written(change).await?)
    }

    /// It is not done. Returns when that is written.
    ///
    /// # Errors
    /// [`SettleError`]; each variant says what happens to the event.
    pub async fn nack(mut self, nack: Nack) -> Result<(), SettleError> {
        let change = self.settle(match nack {
            Nack::Retry(reason) => Settlement::Retry(reason),
            Nack::Park(reason) => Settlement::Park(reason),
            Nack::Skip(reason) => Settlement::Skip(reason),
        })?;
        Ok(self.shared.written(change).await?)
    }

    /// Answers without waiting until the answer is written.
    pub(crate) fn settle(&mut self, settlement: Settlement) -> Result<u64, SettleError> {
        self.is_open = false;
        self.shared.settle(self.event.position, self.ticket, settlement)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.is_open {
            // NOTE: too late is as good: then somebody else has it.
            let _ = self.settle(Settlement::Retry("it was dropped without an answer".to_owned()));
        }
    }
}
