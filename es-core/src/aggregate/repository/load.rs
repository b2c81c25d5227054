//! Loads aggregates: folds the newest snapshot or cached state and the events after it with `evolve`.

use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::aggregate::repository::cache::Cache;
use crate::aggregate::repository::error::{AsOf, LoadError};
use crate::aggregate::repository::metrics::LoadMetrics;
use crate::aggregate::snapshot::{Snapshot, Snapshots};
use crate::aggregate::{EventContext, Evolve};
use crate::model::StreamId;
use crate::model::{CanonicalKey, Dot, EventId, EventView, OriginId, Stamp, VectorClock, Version};
use crate::model::{ExpectedRevision, Position, Revision};
use crate::retention::Retained;
use crate::schema::Events;
use crate::store::{EventStore, StoreError, StreamRead};

/// A loaded aggregate.
#[derive(Debug, Clone)]
pub struct Loaded<A> {
    /// The state.
    pub state: A,
    /// The revision of the last event in the state, or `None` if it has no events.
    pub revision: Option<Revision>,
    /// The position of that event.
    pub position: Option<Position>,
    pub(crate) snapshot: Option<Revision>,
    /// The greatest canonical key of the events in the state, or `None` if no event has a stamp.
    pub(crate) last: Option<CanonicalKey>,
    /// The revision at which the stream begins: the first, or the one after its last deletion.
    pub(crate) begins: Revision,
    /// The last event of each origin in the state, if events of the stream are stamped and do not have one order.
    pub(crate) origins: Option<Box<VectorClock>>,
}

impl<A> Loaded<A> {
    /// Returns a state without events, of a stream that begins at this revision.
    pub(super) const fn of_state(state: A, begins: Revision) -> Self {
        Self { state, revision: None, position: None, snapshot: None, last: None, begins, origins: None }
    }

    /// Returns the version of the aggregate, or `None` if it has no events. It is the revision, unless the aggregate
    /// has a level without [one order](crate::model::OneOrder) and stamped events.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        let revision = self.revision?;
        Some(self.origins.as_ref().map_or_else(|| revision.into(), |origins| Version::of_origins(origins)))
    }
}

impl<A: Evolve> Loaded<A> {
    pub(crate) fn initial(id: &A::Id) -> Self {
        Self::empty(id, Revision::FIRST)
    }

    /// Returns the initial state of an aggregate whose stream begins at this revision.
    pub(crate) fn empty(id: &A::Id, begins: Revision) -> Self {
        Self::of_state(A::initial(id), begins)
    }

    /// Returns the revision that the next event must have.
    pub(crate) fn next(&self) -> Revision {
        self.revision.map_or(self.begins, Revision::next)
    }

    /// Returns the number of events in the state after its last snapshot.
    pub(crate) fn events_since_snapshot(&self) -> u64 {
        let events = |last: Option<Revision>| last.map_or(self.begins, Revision::next).get();
        events(self.revision).saturating_sub(events(self.snapshot))
    }

    /// Applies the next recorded event of the stream.
    pub(crate) fn apply(&mut self, view: EventView<'_>) -> Result<(), LoadError> {
        self.check_follows(view)?;
        let events = decode::<A>(view)?;
        self.evolve(view, events.as_slice());
        Ok(())
    }

    /// Applies the next recorded event of the stream, which is decoded already.
    pub(crate) fn apply_decoded(&mut self, view: EventView<'_>, event: &A::Event) -> Result<(), LoadError> {
        self.check_follows(view)?;
        self.evolve(view, std::slice::from_ref(event));
        Ok(())
    }

    /// Applies the events that one record was decoded as.
    fn evolve(&mut self, view: EventView<'_>, events: &[A::Event]) {
        for event in events {
            self.state.evolve(event, &EventContext::new(view));
        }
        self.last = self.last.max(view.stamp().map(Stamp::canonical_key));
        self.record_origin(view);
        self.advance(view);
    }

    /// Adds an event to the origins of the state, unless the revision identifies the events.
    fn record_origin(&mut self, event: EventView<'_>) {
        if A::CONSISTENCY.has_one_order() {
            return;
        }
        let (begins, last) = (self.begins, self.revision);
        // Events without a stamp count as events of one origin.
        let unstamped = |revision: Revision| Dot {
            origin: OriginId::GENESIS,
            sequence: NonZeroU64::MIN.saturating_add(revision.get().saturating_sub(begins.get())),
        };
        match (event.stamp(), &mut self.origins) {
            (Some(stamp), origins) => {
                origins.get_or_insert_with(|| Box::new(last.map(unstamped).into_iter().collect())).extend([stamp.dot]);
            }
            (None, Some(origins)) => origins.extend([unstamped(event.revision())]),
            (None, None) => {}
        }
    }

    /// Skips the next recorded event of the stream.
    fn skip(&mut self, event: EventView<'_>) -> Result<(), LoadError> {
        self.check_follows(event)?;
        self.advance(event);
        Ok(())
    }

    fn check_follows(&self, event: EventView<'_>) -> Result<(), LoadError> {
        let (expected, found) = (self.next(), event.revision());
        if found == expected {
            return Ok(());
        }
        let detail = format!("expected revision {expected} next, found {found}");
        Err(StoreError::damaged(format!("stream {:?}", event.stream()), detail).into())
    }

    fn advance(&mut self, event: EventView<'_>) {
        self.revision = Some(event.revision());
        self.position = Some(event.position());
    }
}

fn decode<A: Evolve>(event: EventView<'_>) -> Result<Events<A::Event>, LoadError> {
    event.decode::<A::Event>().map_err(|source| LoadError::Event {
        stream: event.stream().clone(),
        revision: event.revision(),
        position: event.position(),
        source,
    })
}

/// A past state of an aggregate.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Past {
    /// After the event with this revision.
    Revision(Revision),
    /// At a time.
    Time(AsOf),
}

/// The store, the snapshots and the cache from which aggregates are loaded.
#[derive(Debug)]
pub(crate) struct Loader<A> {
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) snapshots: Option<Snapshots<A>>,
    pub(crate) cache: Option<Cache<A>>,
    pub(crate) metrics: LoadMetrics,
}

impl<A: Evolve> Loader<A> {
    /// Loads the current state. The load starts at a cached state, a snapshot or the initial state, and always reads
    /// the events after it.
    ///
    /// The cache is not used for a truncated stream, so that the load fails if it would fail after a restart.
    pub(crate) async fn load(&self, id: &A::Id, stream: &StreamId) -> Result<Loaded<A>, LoadError> {
        let mut retained = self.store.retained(stream).await?;
        loop {
            let before = retained;
            let cached = self.cached(stream).filter(|cached| cached.begins == before.begins && !before.is_truncated());
            let is_cached = cached.is_some();
            let mut loaded = match cached {
                Some(cached) => cached,
                None => self.newest_snapshot_or_empty(id, stream, before.begins, None).await?,
            };
            let tail = StreamRead::new(stream.clone()).from(loaded.next());
            let applied = self.apply_tail(stream, &mut loaded, tail).await;
            // ORDER: check again after the read. If the stream was deleted during the read, the state mixes events from
            // before and after the deletion.
            retained = self.store.retained(stream).await?;
            if retained.begins != before.begins || (is_cached && retained.is_truncated()) {
                continue;
            }
            applied?;
            self.check_not_truncated(stream, &loaded, retained)?;
            let counter = match (is_cached, loaded.snapshot) {
                (true, _) => &self.metrics.from_cache,
                (false, Some(_)) => &self.metrics.from_snapshot,
                (false, None) => &self.metrics.from_events,
            };
            counter.increment(1);
            return Ok(loaded);
        }
    }

    /// Applies the events of a read of the stream, which must start at the next event of `loaded`.
    async fn apply_tail(&self, stream: &StreamId, loaded: &mut Loaded<A>, read: StreamRead) -> Result<(), LoadError> {
        self.visit(stream, loaded, read, Loaded::apply).await
    }

    /// Calls `step` for each event of a read of the stream until it fails. An error for a gap becomes
    /// [`LoadError::Truncated`] if a rule hides the events of the gap.
    async fn visit(
        &self,
        stream: &StreamId,
        loaded: &mut Loaded<A>,
        read: StreamRead,
        mut step: impl FnMut(&mut Loaded<A>, EventView<'_>) -> Result<(), LoadError> + Send,
    ) -> Result<(), LoadError> {
        let mut failed = None;
        let mut visitor = |event: EventView<'_>| match step(loaded, event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some((event.revision(), error));
                ControlFlow::Break(())
            }
        };
        self.store.visit_stream(read, &mut visitor).await?;
        let Some((found, error)) = failed else { return Ok(()) };
        if found != loaded.next() {
            // If a rule hides the events in between, the log is not damaged.
            self.check_not_truncated(stream, loaded, self.store.retained(stream).await?)?;
            tracing::debug!(%stream, %found, expected = %loaded.next(), "gap between events");
        }
        Err(error)
    }

    /// Returns [`LoadError::Truncated`] if a rule hides events that the state needs.
    fn check_not_truncated(&self, stream: &StreamId, loaded: &Loaded<A>, retained: Retained) -> Result<(), LoadError> {
        let from = loaded.next();
        // A stream that was deleted and written again does not need the events before the deletion.
        if retained.first <= from || retained.begins >= retained.first {
            return Ok(());
        }
        Err(LoadError::Truncated { stream: stream.clone(), from, first: retained.first })
    }

    /// Returns a past state.
    pub(crate) async fn load_past(&self, id: &A::Id, stream: &StreamId, past: Past) -> Result<Loaded<A>, LoadError> {
        let mut begins = self.store.retained(stream).await?.begins;
        loop {
            let loaded = match past {
                Past::Revision(revision) => self.load_up_to(id, stream, begins, revision).await,
                Past::Time(AsOf::Recorded(time)) => {
                    self.load_where(id, stream, begins, |event| event.recorded_at() <= time).await
                }
                Past::Time(AsOf::Occurred(time)) => {
                    self.load_where(id, stream, begins, |event| event.occurred_at() <= time).await
                }
            };
            // ORDER: check again after the read, as in `load`.
            let now = self.store.retained(stream).await?.begins;
            if std::mem::replace(&mut begins, now) == now {
                return loaded;
            }
        }
    }

    async fn load_up_to(
        &self,
        id: &A::Id,
        stream: &StreamId,
        begins: Revision,
        at: Revision,
    ) -> Result<Loaded<A>, LoadError> {
        if at < begins {
            return Err(LoadError::Deleted { stream: stream.clone(), wanted: at, begins });
        }
        let mut loaded = self.newest_snapshot_or_empty(id, stream, begins, Some(at)).await?;
        let missing = (at.get() + 1).saturating_sub(loaded.next().get());
        let tail = StreamRead::new(stream.clone()).from(loaded.next()).limit(missing);
        self.apply_tail(stream, &mut loaded, tail).await?;
        if ExpectedRevision::Exact(at).is_met_by(loaded.revision) {
            return Ok(loaded);
        }
        self.check_not_truncated(stream, &loaded, self.store.retained(stream).await?)?;
        Err(LoadError::NotYet { stream: stream.clone(), wanted: at, actual: loaded.revision })
    }

    /// Returns the state after the events for which `includes` returns `true`, in the order of the stream.
    async fn load_where(
        &self,
        id: &A::Id,
        stream: &StreamId,
        begins: Revision,
        includes: impl Fn(EventView<'_>) -> bool + Send + Sync,
    ) -> Result<Loaded<A>, LoadError> {
        let mut loaded = Loaded::empty(id, begins);
        let (mut revision, mut position) = (None, None);
        let step = |loaded: &mut Loaded<A>, event: EventView<'_>| {
            if !includes(event) {
                return loaded.skip(event);
            }
            loaded.apply(event)?;
            (revision, position) = (loaded.revision, loaded.position);
            Ok(())
        };
        self.visit(stream, &mut loaded, StreamRead::new(stream.clone()).from(begins), step).await?;
        self.check_not_truncated(stream, &loaded, self.store.retained(stream).await?)?;
        Ok(Loaded { revision, position, ..loaded })
    }

    /// Returns the newest snapshot up to `at`, or the initial state. Snapshots from before the last deletion are
    /// ignored.
    async fn newest_snapshot_or_empty(
        &self,
        id: &A::Id,
        stream: &StreamId,
        begins: Revision,
        at: Option<Revision>,
    ) -> Result<Loaded<A>, LoadError> {
        let Some(snapshots) = &self.snapshots else { return Ok(Loaded::empty(id, begins)) };
        let newest = snapshots.newest(&*self.store, stream, at).await?;
        Ok(newest.filter(|snapshot| snapshot.revision >= begins).map_or_else(
            || Loaded::empty(id, begins),
            |Snapshot { state, revision, position, last, origins }| Loaded {
                state,
                revision: Some(revision),
                position: Some(position),
                snapshot: Some(revision),
                last,
                begins,
                origins,
            },
        ))
    }

    fn cached(&self, stream: &StreamId) -> Option<Loaded<A>> {
        self.cache.as_ref()?.get(stream)
    }

    /// Caches a state unless the cached one is as new.
    pub(crate) fn cache(&self, stream: &StreamId, loaded: &Loaded<A>) {
        if let Some(cache) = &self.cache {
            cache.put(stream, loaded);
        }
    }

    /// Removes a state from the cache.
    pub(crate) fn evict(&self, stream: &StreamId) {
        if let Some(cache) = &self.cache {
            cache.remove(stream);
        }
    }

    /// Returns the events with these ids, which one command wrote to the stream, and the revision of the last of them.
    /// Returns `None` if any of them is no longer visible.
    pub(crate) async fn events(
        &self,
        stream: &StreamId,
        ids: &[EventId],
    ) -> Result<Option<(Vec<A::Event>, Revision)>, LoadError> {
        let Some(first) = ids.first() else { return Ok(None) };
        let Some(first) = self.store.find(*first).await?.filter(|first| first.stream == *stream) else {
            return Ok(None);
        };
        let read = StreamRead::new(stream.clone()).from(first.revision).limit(ids.len() as u64);
        let records = self.store.read_stream(read).await?.collect().await?;
        if !records.iter().map(|record| record.data.id).eq(ids.iter().copied()) {
            return Ok(None);
        }
        let mut events = Vec::with_capacity(records.len());
        for record in &records {
            events.extend(decode::<A>(record.into())?);
        }
        Ok(records.last().map(|last| (events, last.revision)))
    }
}
