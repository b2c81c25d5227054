//! Loads aggregates: folds the newest snapshot or cached state and the events after it with `evolve`.
//!
//! The stream of an aggregate whose level has no single order is stored in the order in which its events arrived on
//! this node, and folded in canonical order, which is the same on every node. As long as both orders agree, events are
//! folded while they are read. A late event precedes an event of the state in canonical order; the events after the
//! newest snapshot that no later event precedes are then sorted and folded again. A deletion of the stream removes the
//! events that it covers from the state; if it keeps some of them, the state is folded again, too.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::aggregate::Evolve;
use crate::aggregate::repository::cache::Cache;
use crate::aggregate::repository::error::{AsOf, LoadError};
use crate::aggregate::repository::loaded::{Loaded, check_follows, decode};
use crate::aggregate::repository::metrics::LoadMetrics;
use crate::aggregate::snapshot::{Snapshot, Snapshots};
use crate::model::StreamId;
use crate::model::{EventId, EventView, RecordedEvent, RetiredOrigins};
use crate::model::{ExpectedRevision, Revision};
use crate::retention::Retained;
use crate::store::{EventStore, StreamRead};

/// A past state of an aggregate.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Past {
    /// After the event with this revision.
    Revision(Revision),
    /// At a time.
    Time(AsOf),
}

/// The maximum number of events that a load sorts, because it holds all of them in memory.
pub(super) const MAX_SORTED_EVENTS: usize = 100_000;

/// Returns a read of the events after those of `loaded`, up to the revision `at`.
fn tail<A: Evolve>(stream: &StreamId, loaded: &Loaded<A>, at: Option<Revision>) -> StreamRead {
    let read = StreamRead::new(stream.clone()).from(loaded.next());
    match at {
        Some(at) => read.limit((at.get() + 1).saturating_sub(loaded.next().get())),
        None => read,
    }
}

/// The store, the snapshots and the cache from which aggregates are loaded.
#[derive(Debug)]
pub(crate) struct Loader<A> {
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) snapshots: Option<Snapshots<A>>,
    pub(crate) cache: Option<Cache<A>>,
    pub(crate) metrics: LoadMetrics,
    /// The origins that were removed from the vector clocks of events.
    pub(crate) retired: RetiredOrigins,
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
            let applied = self.apply_tail(id, stream, &mut loaded, None).await;
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

    /// Applies the events after those of `loaded`, up to the revision `at`. If one of them is late, or is a deletion
    /// that keeps an event of `loaded`, folds the stream again.
    async fn apply_tail(
        &self,
        id: &A::Id,
        stream: &StreamId,
        loaded: &mut Loaded<A>,
        at: Option<Revision>,
    ) -> Result<(), LoadError> {
        let mut must_fold_again = false;
        let step = |loaded: &mut Loaded<A>, event: EventView<'_>| {
            if loaded.must_fold_again(event)? {
                must_fold_again = true;
                return Ok(ControlFlow::Break(()));
            }
            loaded.apply(event).map(ControlFlow::Continue)
        };
        self.visit(stream, loaded, tail(stream, loaded, at), step).await?;
        if must_fold_again {
            *loaded = self.fold_again(id, stream, loaded.begins, at).await?;
        }
        Ok(())
    }

    /// Folds the events of a stream in canonical order, up to the revision `at`. Starts at the newest snapshot that no
    /// later event precedes, and of which no later deletion keeps an event.
    async fn fold_again(
        &self,
        id: &A::Id,
        stream: &StreamId,
        begins: Revision,
        at: Option<Revision>,
    ) -> Result<Loaded<A>, LoadError> {
        self.metrics.folded_again.increment(1);
        let mut loaded = self.newest_snapshot_or_empty(id, stream, begins, at).await?;
        loop {
            let read = tail(stream, &loaded, at);
            let events = self.collect(stream, &mut loaded, read, |_| true).await?;
            let mut is_stale = false;
            for event in &events {
                is_stale = is_stale || loaded.must_fold_again(event.into())?;
            }
            if !is_stale {
                loaded.apply_sorted(events)?;
                return Ok(loaded);
            }
            tracing::debug!(%stream, snapshot = ?loaded.snapshot, "snapshot not used: a late event changes it");
            loaded = match loaded.snapshot.and_then(Revision::previous) {
                Some(before) => self.newest_snapshot_or_empty(id, stream, begins, Some(before)).await?,
                None => self.empty(id, begins),
            };
        }
    }

    /// Returns the included events of a read of the stream, which must start at the next event of `loaded`.
    async fn collect(
        &self,
        stream: &StreamId,
        loaded: &mut Loaded<A>,
        read: StreamRead,
        includes: impl Fn(EventView<'_>) -> bool + Send + Sync,
    ) -> Result<Vec<RecordedEvent>, LoadError> {
        let (mut events, mut next) = (Vec::new(), loaded.next());
        let step = |_: &mut Loaded<A>, event: EventView<'_>| {
            check_follows(next, event)?;
            next = next.next();
            if events.len() == MAX_SORTED_EVENTS {
                return Err(LoadError::TooManyEvents { stream: stream.clone(), max: MAX_SORTED_EVENTS });
            }
            if includes(event) {
                events.push(event.to_recorded());
            }
            Ok(ControlFlow::Continue(()))
        };
        self.visit(stream, loaded, read, step).await?;
        Ok(events)
    }

    /// Calls `step` for each event of a read of the stream until it breaks or fails. An error for a gap becomes
    /// [`LoadError::Truncated`] if a rule hides the events of the gap.
    async fn visit(
        &self,
        stream: &StreamId,
        loaded: &mut Loaded<A>,
        read: StreamRead,
        mut step: impl FnMut(&mut Loaded<A>, EventView<'_>) -> Result<ControlFlow<()>, LoadError> + Send,
    ) -> Result<(), LoadError> {
        let mut failed = None;
        let mut visitor = |event: EventView<'_>| match step(loaded, event) {
            Ok(flow) => flow,
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
        self.apply_tail(id, stream, &mut loaded, Some(at)).await?;
        if ExpectedRevision::Exact(at).is_met_by(loaded.read_to) {
            return Ok(loaded);
        }
        self.check_not_truncated(stream, &loaded, self.store.retained(stream).await?)?;
        Err(LoadError::NotYet { stream: stream.clone(), wanted: at, actual: loaded.read_to })
    }

    /// Returns the state after the events for which `includes` returns `true`.
    async fn load_where(
        &self,
        id: &A::Id,
        stream: &StreamId,
        begins: Revision,
        includes: impl Fn(EventView<'_>) -> bool + Send + Sync,
    ) -> Result<Loaded<A>, LoadError> {
        let mut loaded = self.empty(id, begins);
        let read = StreamRead::new(stream.clone()).from(begins);
        if !A::CONSISTENCY.has_one_order() {
            let events = self.collect(stream, &mut loaded, read, includes).await?;
            self.check_not_truncated(stream, &loaded, self.store.retained(stream).await?)?;
            loaded.apply_sorted(events)?;
            return Ok(loaded);
        }
        let (mut revision, mut position, mut lock) = (None, None, None);
        let step = |loaded: &mut Loaded<A>, event: EventView<'_>| {
            if includes(event) {
                loaded.apply(event)?;
                (revision, position, lock) = (loaded.revision, loaded.position, loaded.lock.clone());
            } else {
                loaded.skip(event)?;
            }
            Ok(ControlFlow::Continue(()))
        };
        self.visit(stream, &mut loaded, read, step).await?;
        self.check_not_truncated(stream, &loaded, self.store.retained(stream).await?)?;
        Ok(Loaded { revision, position, lock, ..loaded })
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
        let Some(snapshots) = &self.snapshots else { return Ok(self.empty(id, begins)) };
        let newest = snapshots.newest(&*self.store, stream, at).await?;
        // Without the greatest key of its events, a late event could not be detected.
        let has_key = |snapshot: &Snapshot<A>| A::CONSISTENCY.has_one_order() || snapshot.last.is_some();
        Ok(newest.filter(|snapshot| snapshot.revision >= begins && has_key(snapshot)).map_or_else(
            || self.empty(id, begins),
            |Snapshot { state, revision, position, last, history }| Loaded {
                state,
                revision: Some(revision),
                position: Some(position),
                read_to: Some(revision),
                // A locked state is not stored as a snapshot.
                lock: None,
                snapshot: Some(revision),
                last,
                begins,
                history,
                retired: self.retired.clone(),
            },
        ))
    }

    /// Returns the initial state of an aggregate whose stream begins at this revision.
    fn empty(&self, id: &A::Id, begins: Revision) -> Loaded<A> {
        Loaded { retired: self.retired.clone(), ..Loaded::empty(id, begins) }
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
