//! [`EventStream`]: the events of a read, fetched in bounded batches.

use std::collections::VecDeque;
use std::fmt;

use async_trait::async_trait;
use futures_util::Stream;

use crate::model::Position;
use crate::model::{EventView, RecordedEvent};
use crate::store::StoreError;

/// Consecutive events of a read, and the last position scanned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The matching events, in the order of the read.
    pub events: Vec<RecordedEvent>,
    /// The last position scanned: every matching event up to here has been returned, including this batch. `None` if
    /// nothing was scanned, and for a read of one stream.
    pub scanned: Option<Position>,
}

/// The source of an [`EventStream`], implemented by stores.
///
/// An implementation must
///
/// - bound its batches: memory use does not grow with the length of the log;
/// - return the log as of the moment when the read was opened: an event recorded later is never returned;
/// - be cancel safe: if the future of `next_batch` is dropped, the next call loses no event and repeats none.
#[async_trait]
pub trait BatchSource: Send {
    /// Returns the next batch, which may have no events, or `None` after the last. It is not called again after an
    /// error or `None`.
    async fn next_batch(&mut self) -> Result<Option<Batch>, StoreError>;
}

/// The events of one read, in order, as of the moment when the read was opened.
///
/// The batch size of the store bounds the memory use. Dropping the stream ends the read. Use [`next`](Self::next) for
/// one event at a time, [`next_batch`](Self::next_batch) for throughput, and [`into_stream`](Self::into_stream) for the
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
    /// Returns a stream that fetches its events from a source.
    #[must_use]
    pub fn new(source: impl BatchSource + 'static) -> Self {
        Self { source: Some(Box::new(source)), ready: VecDeque::new(), scanned: None }
    }

    /// Returns a stream of events that are already in memory.
    #[must_use]
    pub fn ready(batch: Batch) -> Self {
        Self { source: None, ready: batch.events.into(), scanned: batch.scanned }
    }

    /// Returns the next event, or `None` after the last.
    ///
    /// # Errors
    /// [`StoreError`] if the read fails. The stream has then ended.
    pub async fn next(&mut self) -> Result<Option<RecordedEvent>, StoreError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if !self.fetch().await? {
                return Ok(None);
            }
        }
    }

    /// Returns the next events, at least one, or `None` after the last.
    ///
    /// # Errors
    /// [`StoreError`] if the read fails. The stream has then ended.
    pub async fn next_batch(&mut self) -> Result<Option<Vec<RecordedEvent>>, StoreError> {
        while self.ready.is_empty() {
            if !self.fetch().await? {
                return Ok(None);
            }
        }
        Ok(Some(std::mem::take(&mut self.ready).into()))
    }

    /// Returns the next batch, which may have no events, or `None` after the last batch. Its [`Batch::scanned`] is the
    /// progress to record: it includes the events that the query does not match.
    ///
    /// # Errors
    /// [`StoreError`] if the read fails. The stream has then ended.
    pub async fn advance(&mut self) -> Result<Option<Batch>, StoreError> {
        if self.ready.is_empty() && !self.fetch().await? {
            return Ok(None);
        }
        Ok(Some(Batch { events: std::mem::take(&mut self.ready).into(), scanned: self.scanned }))
    }

    /// Returns the last position scanned, including events that were fetched but not yet returned. When the stream has
    /// ended, a consumer may record this position as processed even if no event matched.
    #[must_use]
    pub fn scanned(&self) -> Option<Position> {
        self.scanned
    }

    /// Returns all remaining events. Only the limit of the read bounds their number: set one if the log is long.
    ///
    /// # Errors
    /// [`StoreError`] if the read fails.
    pub async fn collect(mut self) -> Result<Vec<RecordedEvent>, StoreError> {
        let mut events = Vec::new();
        while let Some(batch) = self.next_batch().await? {
            events.extend(batch);
        }
        Ok(events)
    }

    /// Converts the events into a [`Stream`] of the `futures` crate.
    pub fn into_stream(self) -> impl Stream<Item = Result<RecordedEvent, StoreError>> + Send {
        futures_util::stream::try_unfold(self, |mut events| async move {
            Ok(events.next().await?.map(|event| (event, events)))
        })
    }

    /// Fetches a batch from the source. Returns `false` after the last.
    async fn fetch(&mut self) -> Result<bool, StoreError> {
        let Some(source) = &mut self.source else { return Ok(false) };
        match source.next_batch().await {
            Ok(Some(batch)) => {
                self.scanned = batch.scanned.or(self.scanned);
                self.ready = batch.events.into();
                Ok(true)
            }
            // The source is not taken out before the `await`: if the caller cancels the fetch, the next one still needs
            // it.
            ended => {
                self.source = None;
                ended.map(|_| false)
            }
        }
    }
}

/// Visits the events of a stream. Returns the position of the event at which the visitor broke, otherwise the last
/// position scanned.
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

    /// A source whose first call never completes.
    struct SlowSource {
        calls: u32,
    }
    #[async_trait]
    impl BatchSource for SlowSource {
        async fn next_batch(&mut self) -> Result<Option<Batch>, StoreError> {
            self.calls += 1;
            match self.calls {
                1 => std::future::pending().await,
                2 => Ok(Some(Batch { events: Vec::new(), scanned: Some(Position::FIRST) })),
                _ => Ok(None),
            }
        }
    }

    /// Regression: `fetch` took the source out while it waited, so a read that `select!` had cancelled ended silently.
    #[test]
    fn a_cancelled_fetch_loses_no_batch() {
        let mut events = EventStream::new(SlowSource { calls: 0 });
        assert!(events.next_batch().now_or_never().is_none(), "the first fetch does not complete");
        assert!(matches!(events.next_batch().now_or_never(), Some(Ok(None))), "the second fetch ends the stream");
        assert_eq!(events.scanned(), Some(Position::FIRST), "the batch was lost");
    }
}
