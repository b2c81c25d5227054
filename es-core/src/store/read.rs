//! Reading: [`EventStream`], a bounded stream of events that comes in batches.

use std::collections::VecDeque;
use std::fmt;

use async_trait::async_trait;
use futures_util::Stream;

use crate::model::Position;
use crate::model::{EventView, RecordedEvent};
use crate::store::StoreError;

/// Some events in order, and how far the read has looked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Events that match, in the order of the read.
    pub events: Vec<RecordedEvent>,
    /// The last position that the read has looked at: everything that matches up to here has been returned, with this
    /// batch included. `None` where the read looked at nothing, or for a read of one stream.
    pub scanned: Option<Position>,
}

/// Where an [`EventStream`] comes from. For those who write a store.
#[async_trait]
pub trait BatchSource: Send {
    /// The next batch, which may be without events; `None` behind the last.
    ///
    /// - Batches are bounded: memory does not grow with the length of the log.
    /// - What is returned is the log as it was when the read was opened: an event recorded later is never returned.
    /// - After an error or `None` it is not called again.
    /// - Whoever asks may give up waiting and ask again: nothing is lost or comes twice.
    async fn next_batch(&mut self) -> Result<Option<Batch>, StoreError>;
}

/// The events of one read, in order, as the log was when the read was opened.
///
/// Memory is bounded by the batch size of the store; dropping the stream ends the read. Use [`next`](Self::next) for
/// one event after the other, [`next_batch`](Self::next_batch) for speed, [`into_stream`](Self::into_stream) for the
/// combinators of the `futures` crate.
pub struct EventStream {
    source: Option<Box<dyn BatchSource>>,
    ready: VecDeque<RecordedEvent>,
    scanned: Option<Position>,
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("ready", &self.ready.len()).field("scanned", &self.scanned).finish()
    }
}

impl EventStream {
    /// A stream over a source.
    #[must_use]
    pub fn new(source: impl BatchSource + 'static) -> Self {
        Self { source: Some(Box::new(source)), ready: VecDeque::new(), scanned: None }
    }

    /// A stream of events that are in memory already.
    #[must_use]
    pub fn ready(batch: Batch) -> Self {
        Self { source: None, ready: batch.events.into(), scanned: batch.scanned }
    }

    /// The next event; `None` behind the last.
    ///
    /// # Errors
    /// [`StoreError`]: the read cannot go on; nothing comes after it.
    pub async fn next(&mut self) -> Result<Option<RecordedEvent>, StoreError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// All events that are ready, at least one; `None` behind the last.
    ///
    /// # Errors
    /// [`StoreError`]: the read cannot go on; nothing comes after it.
    pub async fn next_batch(&mut self) -> Result<Option<Vec<RecordedEvent>>, StoreError> {
        while self.ready.is_empty() {
            if !self.fill().await? {
                return Ok(None);
            }
        }
        Ok(Some(std::mem::take(&mut self.ready).into()))
    }

    /// The next step of the read: events, or none and how far it has looked by now; `None` behind the last. For consumers
    /// that remember how far they came through what does not match.
    ///
    /// # Errors
    /// [`StoreError`]: the read cannot go on; nothing comes after it.
    pub async fn advance(&mut self) -> Result<Option<Batch>, StoreError> {
        if self.ready.is_empty() && !self.fill().await? {
            return Ok(None);
        }
        Ok(Some(Batch { events: std::mem::take(&mut self.ready).into(), scanned: self.scanned }))
    }

    /// The last position that the read has looked at, including events that are ready but not yet taken. Once the stream
    /// has ended, a consumer may remember it as done, although nothing may have matched on the way.
    #[must_use]
    pub fn scanned(&self) -> Option<Position> {
        self.scanned
    }

    /// All remaining events. Their number is bounded only by the read: give it a limit where the log is long.
    ///
    /// # Errors
    /// [`StoreError`]: the read cannot go on.
    pub async fn collect(mut self) -> Result<Vec<RecordedEvent>, StoreError> {
        let mut events = Vec::new();
        while let Some(batch) = self.next_batch().await? {
            events.extend(batch);
        }
        Ok(events)
    }

    /// The same as a [`Stream`] of the `futures` crate.
    pub fn into_stream(self) -> impl Stream<Item = Result<RecordedEvent, StoreError>> + Send {
        futures_util::stream::try_unfold(self, |mut events| async move {
            Ok(events.next().await?.map(|event| (event, events)))
        })
    }

    /// Fetches a batch when nothing is ready; `false` behind the last.
    async fn fill(&mut self) -> Result<bool, StoreError> {
        let Some(source) = &mut self.source else { return Ok(false) };
        match source.next_batch().await {
            Ok(Some(batch)) => {
                self.scanned = batch.scanned.or(self.scanned);
                self.ready = batch.events.into();
                Ok(true)
            }
            // NOTE: not taken out before: who gives up waiting and asks again would be told that nothing comes any more.
            ended => {
                self.source = None;
                ended.map(|_| false)
            }
        }
    }
}

/// Visits the events of a stream. Returns the last position that was scanned, or that of the event at which the visitor broke.
pub(super) async fn visit(
    mut events: EventStream,
    visitor: &mut super::Visitor<'_>,
) -> Result<Option<Position>, StoreError> {
    while let Some(batch) = events.next_batch().await? {
        if let Some(last) = batch.iter().find(|event| visitor(EventView::from(*event)).is_break()) {
            return Ok(Some(last.position));
        }
    }
    Ok(events.scanned())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// Has something to say only when it is asked for the second time.
    struct Late {
        asked: u32,
    }

    #[async_trait]
    impl BatchSource for Late {
        async fn next_batch(&mut self) -> Result<Option<Batch>, StoreError> {
            self.asked += 1;
            match self.asked {
                1 => std::future::pending().await,
                2 => Ok(Some(Batch { events: Vec::new(), scanned: Some(Position::FIRST) })),
                _ => Ok(None),
            }
        }
    }

    /// `fill` took the source out while it waited: a read in an arm of `select!` that was dropped ended without a word there.
    #[test]
    fn who_gives_up_waiting_and_asks_again_misses_nothing() {
        let mut events = EventStream::new(Late { asked: 0 });
        assert!(events.next_batch().now_or_never().is_none(), "nothing is there yet");
        assert!(matches!(events.next_batch().now_or_never(), Some(Ok(None))), "it ends");
        assert_eq!(events.scanned(), Some(Position::FIRST), "the batch was missed");
    }
}
