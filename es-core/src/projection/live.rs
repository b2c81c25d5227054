//! [`Live`]: a view that is computed on demand and kept in memory, for a stream or a tag with few events.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::aggregate::{OrderOf, Source};
use crate::consumer::selection::Selection;
use crate::model::{AheadOfLog, EventOrder, Position, Revision};
use crate::model::{EventType, StreamId, Tag};
use crate::model::{EventView, RecordedEvent};
use crate::projection::kept::{AppliedOrder, is_replicated_deletion, kept_of};
use crate::projection::late::sealed;
use crate::projection::view::{MemoryReader, MemoryViews, View};
use crate::projection::{AcceptsOrder, ApplyFailure, BatchApplier, Projection, is_projected};
use crate::retention::Erasure;
use crate::store::{EventReader, LogRead, Query, QueryItem, StoreError, StreamRead};

/// The events that a [`Live`] view applies, among those that the query of its projection selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveEvents {
    /// All events that the query of the projection selects.
    All,
    /// The events of one stream, without erasures.
    Stream(StreamId),
    /// The events that also match this query, such as those with a tag.
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

/// A live view could not be computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// An event could not be applied. The view keeps its state before this event. Correct the projection.
    #[error(
        "projection {projection:?} could not apply event {event_type:?} at position {position} of stream {stream:?}"
    )]
    Event {
        /// The projection.
        projection: &'static str,
        /// The position of the event in the log.
        position: Position,
        /// The stream of the event.
        stream: StreamId,
        /// The type of the event.
        event_type: EventType,
        /// The failure.
        source: Box<ApplyFailure>,
    },
    /// The position up to which the view is requested is ahead of the log.
    #[error(transparent)]
    AheadOfLog(#[from] AheadOfLog),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A view that is computed on demand and exists in memory only. It uses the same projections and declarations as a
/// stored view.
///
/// It costs as much as reading and applying its events. Use it for few events, such as those of one stream or tag, or
/// to see the view as of an earlier position.
///
/// ```
/// # use es_core::prelude::*;
/// # struct Count;
/// # const COUNT: es_core::projection::view::View<(), u64> = es_core::projection::view::View::new("count");
/// # impl es_core::projection::Projection for Count {
/// #     type Source = es_core::aggregate::RawEvents;
/// #     const NAME: &'static str = "count";
/// #     fn apply(
/// #         &self, _: &es_core::RecordedEvent, _: &ProjectedContext<'_>, rows: &mut Rows,
/// #     ) -> Result<(), ApplyError> {
/// #         rows.view(&COUNT)?.update(&(), |count| *count += 1)
/// #     }
/// # }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// # use es_core::{StreamId, store::memory::MemoryStore};
/// # let store = std::sync::Arc::new(MemoryStore::new());
/// use es_core::projection::Live;
/// let mut live = Live::fold(store.clone(), Count, StreamId::new("order-1")?).await?;
/// assert_eq!(live.view(&COUNT).get(&()), None);
/// live.refresh().await?; // applies only the new events
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Live<P> {
    store: Arc<dyn EventReader>,
    projection: P,
    selection: Selection,
    events: LiveEvents,
    up_to: Option<Position>,
    views: MemoryViews,
    position: Option<Position>,
    revision: Option<Revision>,
    /// The head of the log at the last search for erasures, for the events of one stream.
    erasures_searched: Option<Position>,
}

impl<P: Projection> fmt::Debug for Live<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("projection", &P::NAME).field("position", &self.position).finish_non_exhaustive()
    }
}

impl<P: Projection> Live<P> {
    /// Applies the events up to the head of the log.
    ///
    /// # Errors
    /// [`LiveError::Event`] if an event cannot be applied, [`LiveError::Store`] if the events cannot be read.
    pub async fn fold(
        store: Arc<dyn EventReader>,
        projection: P,
        events: impl Into<LiveEvents>,
    ) -> Result<Self, LiveError>
    where
        P: AcceptsOrder<OrderOf<P::Source>>,
        P::Source: Source<Order: EventOrder>,
    {
        Self::fold_up_to(store, projection, events, None).await
    }

    /// Applies the events up to and including a position. [`refresh`](Self::refresh) applies no later ones either.
    /// `None` is no bound.
    ///
    /// # Errors
    /// [`LiveError::AheadOfLog`] if the position is after the head of the log, [`LiveError::Event`] if an event cannot
    /// be applied, [`LiveError::Store`] if the events cannot be read.
    pub async fn fold_up_to(
        store: Arc<dyn EventReader>,
        projection: P,
        events: impl Into<LiveEvents>,
        up_to: Option<Position>,
    ) -> Result<Self, LiveError>
    where
        P: AcceptsOrder<OrderOf<P::Source>>,
        P::Source: Source<Order: EventOrder>,
    {
        const {
            assert!(
                !<P as sealed::Accepts<OrderOf<P::Source>>>::IS_SETTLED,
                "a projection with the mode `Settled` waits for the events of other nodes: run it in the background \
                 with a `Supervisor`"
            );
        }
        store.watch_head().check(up_to)?;
        let selection = Selection::new(projection.query());
        let (events, views) = (events.into(), MemoryViews::default());
        let erasures_searched = store.head().await?;
        let (position, revision) = (None, None);
        let mut live =
            Self { store, projection, selection, events, up_to, views, position, revision, erasures_searched };
        live.refresh().await?;
        Ok(live)
    }

    /// Applies the events that were committed since the last call, and returns their number. Erasures count as events.
    ///
    /// A view of one stream has no erasures: it is folded from scratch if the stream was deleted or a subject was
    /// erased since the last call.
    ///
    /// # Errors
    /// [`LiveError::Event`] if an event cannot be applied, [`LiveError::Store`] if the events cannot be read. The
    /// events before the failed one stay applied.
    pub async fn refresh(&mut self) -> Result<usize, LiveError> {
        self.restart_after_erasure().await?;
        let mut count = 0;
        while let Some(deletion) = self.apply_until_deletion(&mut count).await? {
            // The events that the deletion keeps are read, so it cannot be applied during the visit.
            let read = StreamRead::new(deletion.stream.clone());
            let of_stream = self.store.read_stream(read).await?.collect().await?;
            let Self { projection, selection, views, events, .. } = self;
            let mut kept = kept_of(&of_stream, &deletion, AppliedOrder::Log);
            if let LiveEvents::Matching(query) = events {
                kept.retain(|event| query.matches_event(event));
            }
            count += usize::from(apply(projection, selection, views, &deletion, &kept)?);
            (self.position, self.revision) = (Some(deletion.position), Some(deletion.revision));
        }
        Ok(count)
    }

    /// Applies the events up to the next deletion of a replicated stream, which is returned, and counts them.
    async fn apply_until_deletion(&mut self, count: &mut usize) -> Result<Option<RecordedEvent>, LiveError> {
        let Self { store, projection, selection, events, up_to, views, position, revision, .. } = self;
        let (after, from) = (*position, Revision::following(*revision));
        let (mut deletion, mut failed) = (None, None);
        let mut visitor = |event: EventView<'_>| {
            if up_to.is_some_and(|up_to| event.position() > up_to) {
                return ControlFlow::Break(());
            }
            if is_replicated_deletion(event) && selection.selects(event.0) {
                deletion = Some(event.to_recorded());
                return ControlFlow::Break(());
            }
            // The type of a live view rules out a view of states, so that no log is needed.
            match apply(projection, selection, views, event.0, &[]) {
                Ok(is_applied) => *count += usize::from(is_applied),
                Err(error) => {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
            (*position, *revision) = (Some(event.position()), Some(event.revision()));
            ControlFlow::Continue(())
        };
        let scanned = match events {
            LiveEvents::Stream(stream) => {
                store.visit_stream(StreamRead::new(stream.clone()).from(from), &mut visitor).await?;
                None
            }
            LiveEvents::All => {
                store.visit_log(LogRead::matching(selection.log_query().clone()).after(after), &mut visitor).await?
            }
            LiveEvents::Matching(query) => {
                let query = query.clone().or(QueryItem::erasures());
                store.visit_log(LogRead::matching(query).after(after), &mut visitor).await?
            }
        };
        if let Some(error) = failed {
            return Err(error);
        }
        if deletion.is_some() {
            return Ok(deletion);
        }
        // A read of the log also scans events that do not match.
        let scanned = scanned.map(|scanned| up_to.map_or(scanned, |up_to| scanned.min(up_to)));
        self.position = self.position.max(scanned);
        Ok(None)
    }

    /// Discards the view of one stream if the stream was deleted or a subject was erased.
    async fn restart_after_erasure(&mut self) -> Result<(), LiveError> {
        let LiveEvents::Stream(stream) = &self.events else { return Ok(()) };
        let head = self.store.head().await?;
        if head == self.erasures_searched {
            return Ok(());
        }
        let read = LogRead::matching(QueryItem::erasures()).after(self.erasures_searched);
        let mut is_erased = false;
        let mut visitor = |event: EventView<'_>| {
            let of = |erasure: &Erasure| erasure.stream().is_none_or(|deleted| deleted == stream);
            is_erased |= Erasure::of(event.0).as_ref().is_some_and(of);
            ControlFlow::Continue(())
        };
        self.store.visit_log(read, &mut visitor).await?;
        if is_erased {
            (self.views, self.position, self.revision) = (MemoryViews::default(), None, None);
        }
        self.erasures_searched = head;
        Ok(())
    }

    /// Returns a reader of a view.
    #[must_use]
    pub const fn view<'a, K, V>(&'a self, view: &'a View<K, V>) -> MemoryReader<'a, K, V> {
        self.views.view(view)
    }

    /// Returns all views.
    #[must_use]
    pub const fn views(&self) -> &MemoryViews {
        &self.views
    }

    /// Returns the position up to which the events are applied. For a single stream it is that of the last event of the
    /// stream.
    #[must_use]
    pub const fn as_of(&self) -> Option<Position> {
        self.position
    }
}

/// Applies one event to the views. Returns whether the query of the projection selects it. `kept` has the events of the
/// stream that the event keeps, if it deletes the stream.
fn apply<P: Projection>(
    projection: &P,
    selection: &Selection,
    views: &mut MemoryViews,
    event: &RecordedEvent,
    kept: &[RecordedEvent],
) -> Result<bool, LiveError> {
    if !is_projected(event) || !selection.selects(event) {
        return Ok(false);
    }
    views.fold(BatchApplier::new(projection, [event], &BTreeSet::new()), kept).map_err(|(_, source)| {
        LiveError::Event {
            projection: P::NAME,
            position: event.position,
            stream: event.stream.clone(),
            event_type: event.data.event_type.clone(),
            source: Box::new(source),
        }
    })?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::RawEvents;
    use crate::model::{ExpectedRevision, NewEvent};
    use crate::projection::{ApplyError, Rows};
    use crate::store::memory::MemoryStore;
    use crate::store::{Commit, EventStore};

    const COUNT: View<(), u64> = View::new("count");

    /// Counts events and rejects those of the type "unwanted".
    struct Count;

    impl Projection for Count {
        type Source = RawEvents;
        const NAME: &'static str = "count";

        fn apply(
            &self,
            event: &RecordedEvent,
            _: &crate::projection::ProjectedContext<'_>,
            rows: &mut Rows,
        ) -> Result<(), ApplyError> {
            rows.view(&COUNT)?.update(&(), |count| *count += 1)?;
            if event.data.event_type == "unwanted" { Err(ApplyError::new("unwanted")) } else { Ok(()) }
        }
    }

    #[tokio::test]
    async fn a_refresh_stops_at_the_event_that_cannot_be_applied_and_keeps_the_events_before_it() {
        let store = Arc::new(MemoryStore::new());
        let event = |name: &str| NewEvent::json(EventType::new(name).unwrap(), "{}");
        let commit = async |events: &[&str]| {
            let stream = StreamId::new("thing-1").unwrap();
            let events = events.iter().map(|name| event(name));
            store.commit(Commit::to(&stream, ExpectedRevision::Any, events)).await.unwrap();
        };
        commit(&["wanted", "wanted"]).await;
        let mut live = Live::fold(store.clone(), Count, LiveEvents::All).await.unwrap();
        commit(&["wanted", "unwanted", "wanted"]).await;
        for _ in 0..2 {
            let failed = live.refresh().await;
            assert!(matches!(&failed, Err(LiveError::Event { position, .. }) if position.get() == 4), "{failed:?}");
            assert_eq!((live.view(&COUNT).get(&()), live.as_of()), (Some(3), Position::new(3)));
        }
        let past = Live::fold_up_to(store.clone(), Count, LiveEvents::All, Position::new(3)).await.unwrap();
        assert_eq!((past.view(&COUNT).get(&()), past.as_of()), (Some(3), Position::new(3)));
        let ahead = Live::fold_up_to(store.clone(), Count, LiveEvents::All, Position::new(6)).await.unwrap_err();
        assert!(matches!(ahead, LiveError::AheadOfLog(ahead) if ahead.head == Position::new(5)), "{ahead}");
    }
}
