//! [`Live`]: a view that is folded on demand and kept in memory, for a stream or a tag with few events.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::model::RecordedEvent;
use crate::model::{EventType, StreamId, Tag};
use crate::model::{Position, Revision};
use crate::projection::view::{MemoryReader, MemoryViews, View};
use crate::projection::{ApplyFailure, BatchApplier, Projection, is_projected};
use crate::store::{EventReader, LogRead, Query, QueryItem, StoreError, StreamRead};

/// Which events a [`Live`] view is folded from, of those that the query of its projection lets through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveEvents {
    /// All of them.
    All,
    /// Those of one stream.
    Stream(StreamId),
    /// Those that match a query, too: a tag, a category.
    Matching(Query),
}

impl From<StreamId> for LiveEvents {
    fn from(stream: StreamId) -> Self {
        Self::Stream(stream)
    }
}

impl From<Tag> for LiveEvents {
    fn from(tag: Tag) -> Self {
        Self::Matching(QueryItem::new().tag(tag).into())
    }
}

impl From<Query> for LiveEvents {
    fn from(query: Query) -> Self {
        Self::Matching(query)
    }
}

/// A view could not be folded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// An event could not be applied. The view stays as it was before the batch of this event. Correct the projection.
    #[error(
        "projection {projection:?} could not apply event {event_type:?} at position {position} of stream {stream:?}"
    )]
    Event {
        /// The projection.
        projection: &'static str,
        /// Where the event stands in the log.
        position: Position,
        /// Its stream.
        stream: StreamId,
        /// Its type.
        event_type: EventType,
        /// Why.
        source: Box<ApplyFailure>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A view that is folded on demand and lives in memory only, by the same projection and with the same readers as one that is stored.
///
/// It costs as much as reading and applying its events: use it where they are few, for one stream or one tag, or for a look at the
/// past.
///
/// ```
/// # use es_core::prelude::*;
/// # struct Count;
/// # const COUNT: es_core::projection::view::View<(), u64> = es_core::projection::view::View::new("count");
/// # impl es_core::projection::Projection for Count {
/// #     type Source = es_core::aggregate::RawEvents;
/// #     const NAME: &'static str = "count";
/// #     fn apply(&self, _: &es_core::RecordedEvent, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
/// #         rows.view(&COUNT)?.update(&(), |count| *count += 1)
/// #     }
/// # }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// # use es_core::{StreamId, store::memory::MemoryStore};
/// # let store = std::sync::Arc::new(MemoryStore::new());
/// use es_core::projection::Live;
/// let mut live = Live::fold(store.clone(), Count, StreamId::new("order-1")?).await?;
/// assert_eq!(live.view(&COUNT).get(&()), None);
/// live.refresh().await?; // only what came since
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Live<P> {
    store: Arc<dyn EventReader>,
    projection: P,
    query: Query,
    events: LiveEvents,
    up_to: Option<Position>,
    views: MemoryViews,
    position: Option<Position>,
    revision: Option<Revision>,
}

impl<P: Projection> fmt::Debug for Live<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("projection", &P::NAME).field("position", &self.position).finish_non_exhaustive()
    }
}

impl<P: Projection> Live<P> {
    /// Folds events up to the end of the log.
    ///
    /// # Errors
    /// [`LiveError`]; each variant says what to do.
    pub async fn fold(
        store: Arc<dyn EventReader>,
        projection: P,
        events: impl Into<LiveEvents>,
    ) -> Result<Self, LiveError> {
        Self::fold_up_to(store, projection, events, None).await
    }

    /// Folds events up to a position, inclusive, and never beyond: the view as it was then. `None` is no bound.
    ///
    /// # Errors
    /// [`LiveError`]; each variant says what to do.
    pub async fn fold_up_to(
        store: Arc<dyn EventReader>,
        projection: P,
        events: impl Into<LiveEvents>,
        up_to: Option<Position>,
    ) -> Result<Self, LiveError> {
        let query = projection.query();
        let (events, views) = (events.into(), MemoryViews::default());
        let mut live = Self { store, projection, query, events, up_to, views, position: None, revision: None };
        live.refresh().await?;
        Ok(live)
    }

    /// Folds what has been committed since, and returns how many events that were.
    ///
    /// # Errors
    /// [`LiveError`]; each variant says what to do. Batches before the one that failed count.
    pub async fn refresh(&mut self) -> Result<usize, LiveError> {
        let mut events = match &self.events {
            LiveEvents::Stream(stream) => {
                let from = Revision::following(self.revision);
                self.store.read_stream(StreamRead::new(stream.clone()).from(from)).await?
            }
            LiveEvents::All => self.store.read_log(LogRead::matching(self.query.clone()).after(self.position)).await?,
            LiveEvents::Matching(query) => {
                self.store.read_log(LogRead::matching(query.clone()).after(self.position)).await?
            }
        };
        let mut count = 0;
        while let Some(batch) = events.next_batch().await? {
            let is_in = |event: &&RecordedEvent| self.up_to.is_none_or(|up_to| event.position <= up_to);
            let within: Vec<&RecordedEvent> = batch.iter().take_while(is_in).collect();
            count += self.apply(&within)?;
            if let Some(last) = within.last() {
                (self.position, self.revision) = (Some(last.position), Some(last.revision));
            }
            if within.len() < batch.len() {
                break;
            }
        }
        // NOTE: a read of the log has also looked at what does not match.
        let scanned = events.scanned().map(|scanned| self.up_to.map_or(scanned, |up_to| scanned.min(up_to)));
        self.position = self.position.max(scanned);
        Ok(count)
    }

    fn apply(&mut self, events: &[&RecordedEvent]) -> Result<usize, LiveError> {
        let matching: Vec<&RecordedEvent> =
            events.iter().copied().filter(|event| is_projected(event) && self.query.matches_event(event)).collect();
        let held = BTreeSet::new();
        let applier = BatchApplier::new(&self.projection, matching.iter().copied(), &held);
        match self.views.fold(applier) {
            Ok(()) => Ok(matching.len()),
            Err((index, source)) => {
                let event = matching.get(index).copied().or(matching.first().copied());
                let event = event.ok_or_else(|| StoreError::damaged("a live view", "expected an event, found none"))?;
                let (stream, event_type) = (event.stream.clone(), event.data.event_type.clone());
                let (projection, position, source) = (P::NAME, event.position, Box::new(source));
                Err(LiveError::Event { projection, position, stream, event_type, source })
            }
        }
    }

    /// A view, to be read.
    #[must_use]
    pub const fn view<'a, K, V>(&'a self, view: &'a View<K, V>) -> MemoryReader<'a, K, V> {
        self.views.view(view)
    }

    /// All views.
    #[must_use]
    pub const fn views(&self) -> &MemoryViews {
        &self.views
    }

    /// Up to where the log counts: for a stream, the position of its last event.
    #[must_use]
    pub const fn as_of(&self) -> Option<Position> {
        self.position
    }
}
