//! [`Subscription`]: the log from a position on, recorded events first, then new ones.
//!
//! ```text
//!            +------------------------------ read the log behind `scanned`, to its end ----+
//!            |                                                                             |
//!            v                                                                             |
//!   [events, scanned] --> consumer --> next() --> is there a head behind `scanned`? -- yes +
//!                                                              | no
//!                                                              +--> wait until there is one
//! ```
//!
//! One cursor moves in one way, so that there is no hand-over between catching up and following live. The store decides
//! whether a read is served from disk or from memory.
//!
//! Absent here: checkpoints. The consumer stores its own position.

use std::fmt;
use std::sync::Arc;

use futures_util::Stream;

use crate::model::Position;
use crate::store::{Batch, EventReader, EventStream, HeadWatch, LogRead, Query, StoreError, Visitor};

/// How many events a batch has at the most, without more said.
pub(crate) const DEFAULT_BATCH: u32 = 512;

/// The events that match a query, from a position on and without an end: each once, in the order of the log.
///
/// It is pulled: a slow consumer holds at most one batch, slows nobody but itself, and finds everything when it comes
/// back. Positions may be missing within the log, where a retention has removed events; they are passed over like
/// events that do not match. Dropping it ends it.
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
/// let mut orders = Subscription::new(store, Query::all(), None);
/// let batch = orders.next().await?;
/// assert_eq!(batch.events.len(), 1);
/// assert_eq!(batch.scanned, orders.scanned()); // remember it, and begin behind it next time
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Subscription {
    store: Arc<dyn EventReader>,
    query: Query,
    batch: u32,
    head: HeadWatch,
    /// Everything up to here was returned.
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
    /// What matches `query` behind `after`; `None` begins with the first event.
    #[must_use]
    pub fn new(store: Arc<dyn EventReader>, query: impl Into<Query>, after: Option<Position>) -> Self {
        let head = store.watch_head();
        Self { store, query: query.into(), batch: DEFAULT_BATCH, head, scanned: after, read: None }
    }

    /// Bounds a batch to this many events, at least 1; 512 by default. Memory is bounded by it.
    #[must_use]
    pub fn batch(mut self, events: u32) -> Self {
        self.batch = events.max(1);
        self
    }

    /// The next events that match, and how far the log was looked through for them. Waits where there is nothing new.
    ///
    /// A batch may be without events: then nothing matched up to its `scanned`, which a consumer may remember as done
    /// all the same. When this future is dropped, nothing is lost: the next call returns what this one would have.
    ///
    /// # Errors
    /// [`StoreError::Closed`]: the store was closed, and everything in it was returned; open it again and begin behind
    /// [`scanned`](Self::scanned). Any other: the read failed; call again when the cause is mended.
    pub async fn next(&mut self) -> Result<Batch, StoreError> {
        // NOTE: `scanned` alone says what was returned, and moves with a batch on its way out. A read that a dropped
        // future has left half done is over, and the next one begins behind `scanned`.
        let batch = match self.next_of_read().await? {
            Some(batch) => batch,
            None => self.read_on().await?,
        };
        self.scanned = batch.scanned.max(self.scanned);
        Ok(Batch { scanned: self.scanned, ..batch })
    }

    /// Visits the events of the next batch and returns how far the log was scanned for them. Waits where there is
    /// nothing new.
    ///
    /// When this future is dropped, the next call visits the same events again.
    pub(crate) async fn visit_next(&mut self, visitor: &mut Visitor<'_>) -> Result<Option<Position>, StoreError> {
        self.read = None;
        let head = self.head.wait_after(self.scanned).await?;
        let scanned = self.store.visit_log(self.read_after_scanned(), visitor).await?;
        if scanned <= self.scanned {
            return Err(unreached(head));
        }
        self.scanned = scanned;
        Ok(scanned)
    }

    /// Everything up to here was returned; `None` before the first event.
    #[must_use]
    pub fn scanned(&self) -> Option<Position> {
        self.scanned
    }

    /// The head of the log, as far as it is known without asking the store.
    #[must_use]
    pub fn head(&self) -> Option<Position> {
        self.head.current()
    }

    /// Whether everything that the log has was returned.
    #[must_use]
    pub fn is_at_head(&self) -> bool {
        self.head() <= self.scanned
    }

    /// The batches as a [`Stream`] of the `futures` crate. It ends behind the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Batch, StoreError>> + Send {
        futures_util::stream::unfold(Some(self), |subscription| async move {
            let mut subscription = subscription?;
            let batch = subscription.next().await;
            let rest = batch.is_ok().then_some(subscription);
            Some((batch, rest))
        })
    }

    /// Waits for what comes behind all that was returned, and returns the first batch of a new read.
    async fn read_on(&mut self) -> Result<Batch, StoreError> {
        let head = self.head.wait_after(self.scanned).await?;
        let mut events = self.store.read_log(self.read_after_scanned()).await?;
        let batch = Self::step(&mut events, self.scanned).await?;
        self.read = Some(events);
        batch.ok_or_else(|| unreached(head))
    }

    /// Returns a read of one batch after the position up to which everything was returned.
    fn read_after_scanned(&self) -> LogRead {
        LogRead::matching(self.query.clone()).after(self.scanned).limit(self.batch.into())
    }

    /// The next batch of the read that is open; `None` where none is, or it has ended.
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

/// The error for a store whose reads do not reach its head. Without it, the subscription would loop without waiting.
fn unreached(head: Position) -> StoreError {
    StoreError::damaged(format!("position {head}"), "expected a read to reach the head of the log")
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::model::{EventType, EventView, ExpectedRevision, NewEvent, StreamId};
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
        let mut log = Subscription::new(store_of(5).await, Query::all(), None).batch(2);
        assert_eq!(visited(&mut log).await, [1, 2]);
        assert_eq!(log.next().await.unwrap().events[0].position.get(), 3);
        assert_eq!(log.scanned(), Position::new(4));
        assert_eq!(visited(&mut log).await, [5]);
        assert!(log.is_at_head());
    }

    #[tokio::test]
    async fn visit_waits_for_new_events_and_fails_after_the_store_was_closed() {
        let store = store_of(1).await;
        let mut log = Subscription::new(store.clone(), Query::all(), None);
        assert_eq!(visited(&mut log).await, [1]);
        let mut visitor = |_: EventView<'_>| ControlFlow::Continue(());
        let next = log.visit_next(&mut visitor);
        assert!(futures_util::FutureExt::now_or_never(next).is_none());
        store.close().await.unwrap();
        let closed = log.visit_next(&mut visitor).await;
        assert!(matches!(closed, Err(StoreError::Closed)), "{closed:?}");
    }
}
