//! [`Subscription`]: the events after a position, recorded ones first, then new ones as they are committed.
//!
//! ```text
//!            +---------------------- read the log after `scanned`, to its head ------------+
//!            |                                                                             |
//!            v                                                                             |
//!   [events, scanned] --> consumer --> next() --> is the head after `scanned`? ------- yes +
//!                                                              | no
//!                                                              +--> wait for a commit
//! ```
//!
//! Catching up and following live use the same cursor, so there is no transition between them. The store decides
//! whether a read is served from disk or from memory.
//!
//! Not in this module: checkpoints. The consumer stores its own position.

use std::fmt;
use std::sync::Arc;

use futures_util::Stream;

use crate::model::{AheadOfLog, Position};
use crate::store::{Batch, EventReader, EventStream, HeadWatch, LogRead, Query, StoreError, Visitor, head_not_reached};

/// The default size of a batch, in events.
pub(crate) const DEFAULT_BATCH: u32 = 512;

/// An endless sequence of the events that match a query, each once, in the order of the log.
///
/// The consumer pulls batches. A slow consumer holds at most one batch in memory and does not delay writers or other
/// consumers. Positions that a scavenge removed are skipped, like events that do not match. Dropping the subscription
/// ends it.
///
/// ```
/// # use std::sync::Arc;
/// # use es_core::store::Query;
/// # use es_core::{Commit, EventReader, EventType, ExpectedRevision, NewEvent, StreamId, Subscription};
/// # use es_core::store::memory::MemoryStore;
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// # use es_core::EventStore;
/// let store = Arc::new(MemoryStore::new());
/// let placed = NewEvent::json(EventType::new("order-placed")?, "{}");
/// store.commit(Commit::to(&StreamId::new("order-1")?, ExpectedRevision::NoStream, [placed])).await?;
///
/// let mut orders = Subscription::new(store, Query::all(), None)?;
/// let batch = orders.next().await?;
/// assert_eq!(batch.events.len(), 1);
/// assert_eq!(batch.scanned, orders.scanned()); // store it, and start after it next time
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Subscription {
    store: Arc<dyn EventReader>,
    query: Query,
    batch: u32,
    head: HeadWatch,
    /// The position up to which all matching events were returned.
    scanned: Option<Position>,
    read: Option<EventStream>,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("query", &self.query)
            .field("scanned", &self.scanned)
            .finish_non_exhaustive()
    }
}

impl Subscription {
    /// Creates a subscription to the events that match `query` after the position `after`; `None` starts with the first
    /// event.
    ///
    /// Resolve a position that comes from outside of the process with
    /// [`LogPosition::resolve`](crate::model::LogPosition::resolve), which also detects a position of another log.
    ///
    /// # Errors
    /// [`AheadOfLog`] if `after` is after the head of the log: the events until then would be missed silently.
    pub fn new(
        store: Arc<dyn EventReader>,
        query: impl Into<Query>,
        after: Option<Position>,
    ) -> Result<Self, AheadOfLog> {
        let head = store.watch_head();
        head.check(after)?;
        Ok(Self { store, query: query.into(), batch: DEFAULT_BATCH, head, scanned: after, read: None })
    }

    /// Sets the largest number of events per batch, at least 1; 512 by default. A batch is in memory at once.
    #[must_use]
    pub fn batch(mut self, events: u32) -> Self {
        self.batch = events.max(1);
        self
    }

    /// Returns the next batch of matching events, and the position up to which the log was scanned for it. Waits if
    /// there are no new events.
    ///
    /// A batch can be empty: no event up to its `scanned` matched. A consumer can store this position as processed. If
    /// this future is dropped, no event is lost: the next call returns the same batch.
    ///
    /// # Errors
    /// - [`StoreError::Closed`] if the store was closed. All its events were returned. Continue after
    ///   [`scanned`](Self::scanned) when the store is open again.
    /// - Any other [`StoreError`] if the read failed. The call can be repeated.
    pub async fn next(&mut self) -> Result<Batch, StoreError> {
        // `scanned` is updated only when a batch is returned. If the future is dropped during a read, the next call
        // reads again after `scanned`.
        let batch = match self.next_of_read().await? {
            Some(batch) => batch,
            None => self.start_read().await?,
        };
        self.scanned = batch.scanned.max(self.scanned);
        Ok(Batch { scanned: self.scanned, ..batch })
    }

    /// Visits the events of the next batch and returns the position up to which the log was scanned for them. Waits if
    /// there are no new events.
    ///
    /// If this future is dropped, the next call visits the same events again.
    pub(crate) async fn visit_next(&mut self, visitor: &mut Visitor<'_>) -> Result<Option<Position>, StoreError> {
        self.read = None;
        let head = self.head.wait_after(self.scanned).await?;
        let scanned = self.store.visit_log(self.read_after_scanned(), visitor).await?;
        if scanned <= self.scanned {
            return Err(head_not_reached(head));
        }
        self.scanned = scanned;
        Ok(scanned)
    }

    /// Returns the position up to which all matching events were returned; `None` before the first event.
    #[must_use]
    pub fn scanned(&self) -> Option<Position> {
        self.scanned
    }

    /// Returns the head of the log. Does not read from the store.
    #[must_use]
    pub fn head(&self) -> Option<Position> {
        self.head.current()
    }

    /// Returns whether all events of the log were returned.
    #[must_use]
    pub fn is_at_head(&self) -> bool {
        self.head() <= self.scanned
    }

    /// Converts the subscription into a [`Stream`] of batches, which ends after the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Batch, StoreError>> + Send {
        futures_util::stream::unfold(Some(self), |subscription| async move {
            let mut subscription = subscription?;
            let batch = subscription.next().await;
            let rest = batch.is_ok().then_some(subscription);
            Some((batch, rest))
        })
    }

    /// Waits for an event after `scanned`, starts a read, and returns its first batch.
    async fn start_read(&mut self) -> Result<Batch, StoreError> {
        let head = self.head.wait_after(self.scanned).await?;
        let mut events = self.store.read_log(self.read_after_scanned()).await?;
        let batch = Self::step(&mut events, self.scanned).await?;
        self.read = Some(events);
        batch.ok_or_else(|| head_not_reached(head))
    }

    /// Returns a read of one batch after `scanned`.
    fn read_after_scanned(&self) -> LogRead {
        LogRead::matching(self.query.clone()).after(self.scanned).limit(self.batch.into())
    }

    /// Returns the next batch of the read in progress; `None` if there is no read, or it has ended.
    async fn next_of_read(&mut self) -> Result<Option<Batch>, StoreError> {
        let Some(mut read) = self.read.take() else { return Ok(None) };
        let batch = Self::step(&mut read, self.scanned).await?;
        if batch.is_some() {
            self.read = Some(read);
        }
        Ok(batch)
    }

    async fn step(read: &mut EventStream, scanned: Option<Position>) -> Result<Option<Batch>, StoreError> {
        match read.advance().await? {
            Some(batch) => Ok(Some(batch)),
            None if read.scanned() > scanned => Ok(Some(Batch { events: Vec::new(), scanned: read.scanned() })),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::model::{EventType, EventView, ExpectedRevision, NewEvent, StreamId};
    use crate::store::implement::StoreLayer;
    use crate::store::memory::MemoryStore;
    use crate::store::{Commit, EventStore};

    async fn store_of(events: usize) -> Arc<MemoryStore> {
        let store = Arc::new(MemoryStore::new());
        let event = |_| NewEvent::json(EventType::new("happened").unwrap(), "{}");
        let stream = StreamId::new("thing-1").unwrap();
        store.commit(Commit::to(&stream, ExpectedRevision::NoStream, (0..events).map(event))).await.unwrap();
        store
    }

    async fn visited(log: &mut Subscription) -> Vec<u64> {
        let mut positions = Vec::new();
        let mut visitor = |event: EventView<'_>| {
            positions.push(event.position().get());
            ControlFlow::Continue(())
        };
        log.visit_next(&mut visitor).await.unwrap();
        positions
    }

    #[tokio::test]
    async fn visits_continue_after_the_batch_before_them_and_after_owned_batches() {
        let mut log = Subscription::new(store_of(5).await, Query::all(), None).unwrap().batch(2);
        assert_eq!(visited(&mut log).await, [1, 2]);
        assert_eq!(log.next().await.unwrap().events[0].position.get(), 3);
        assert_eq!(log.scanned(), Position::new(4));
        assert_eq!(visited(&mut log).await, [5]);
        assert!(log.is_at_head());
    }

    /// Regression: after a restore of an older backup, a subscription with a position from before waited, and then
    /// missed the new events up to that position.
    #[tokio::test]
    async fn a_subscription_after_a_position_ahead_of_the_log_is_refused() {
        let store = store_of(3).await;
        assert!(Subscription::new(store.clone(), Query::all(), Position::new(3)).is_ok());
        let refused = Subscription::new(store, Query::all(), Position::new(8)).unwrap_err();
        assert_eq!((Some(refused.position), refused.head), (Position::new(8), Position::new(3)));
    }

    #[tokio::test]
    async fn visit_waits_for_new_events_and_fails_after_the_store_was_closed() {
        let store = store_of(1).await;
        let mut log = Subscription::new(store.clone(), Query::all(), None).unwrap();
        assert_eq!(visited(&mut log).await, [1]);
        let mut visitor = |_: EventView<'_>| ControlFlow::Continue(());
        let next = log.visit_next(&mut visitor);
        assert!(futures_util::FutureExt::now_or_never(next).is_none());
        store.close().await.unwrap();
        let closed = log.visit_next(&mut visitor).await;
        assert!(matches!(closed, Err(StoreError::Closed)), "{closed:?}");
    }

    /// A store whose reads return no events.
    #[derive(Debug)]
    struct Unreadable(Arc<MemoryStore>);

    #[async_trait::async_trait]
    impl StoreLayer for Unreadable {
        fn inner(&self) -> &dyn EventStore {
            &*self.0
        }

        async fn read_log(&self, read: LogRead) -> Result<EventStream, StoreError> {
            self.0.read_log(read.limit(0)).await
        }
    }

    /// Without the error, a projection would read again and again without a pause.
    #[tokio::test]
    async fn a_read_that_does_not_reach_the_head_is_damage() {
        let mut log = Subscription::new(Arc::new(Unreadable(store_of(2).await)), Query::all(), None).unwrap();
        let mut visitor = |_: EventView<'_>| ControlFlow::Continue(());
        let visited = log.visit_next(&mut visitor).await;
        assert!(matches!(visited, Err(StoreError::Damaged { .. })), "{visited:?}");
        let next = log.next().await;
        assert!(matches!(next, Err(StoreError::Damaged { .. })), "{next:?}");
    }
}
