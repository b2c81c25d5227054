//! Loading: snapshot and tail, folded by `evolve`.

use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use crate::aggregate::{EventContext, Evolve};
use crate::decision::Events;
use crate::event::RecordedEvent;
use crate::name::StreamId;
use crate::repository::error::{At, LoadError};
use crate::revision::{ExpectedRevision, Position, Revision, found};
use crate::snapshot::{Snapshot, Snapshots};
use crate::store::{EventStore, EventStream, StoreError, StreamRead};

/// An aggregate as it was loaded.
#[derive(Debug, Clone)]
pub struct Loaded<A> {
    /// Its state.
    pub state: A,
    /// The revision of the last event in the state; `None` before the first.
    pub revision: Option<Revision>,
    /// The position of that event.
    pub position: Option<Position>,
    pub(crate) snapshot: Option<Revision>,
}

impl<A: Evolve> Loaded<A> {
    pub(crate) fn initial(id: &A::Id) -> Self {
        Self { state: A::initial(id), revision: None, position: None, snapshot: None }
    }

    /// How many events the state is ahead of its last snapshot.
    pub(crate) fn ahead_of_snapshot(&self) -> u64 {
        let events = |last: Option<Revision>| last.map_or(0, |last| last.get() + 1);
        events(self.revision).saturating_sub(events(self.snapshot))
    }

    /// Takes a recorded event in, after all of its stream before it.
    pub(crate) fn take(&mut self, record: &RecordedEvent) -> Result<(), LoadError> {
        let expected = Revision::following(self.revision);
        if record.revision != expected {
            let place = format!("stream {:?}", record.stream);
            let detail = format!("expected revision {expected} next, found {}", record.revision);
            return Err(StoreError::damaged(place, detail).into());
        }
        for event in decode::<A>(record)? {
            self.state.evolve(&event, &EventContext::new(record));
        }
        self.pass(record);
        Ok(())
    }

    /// Goes on behind a recorded event without taking it in.
    fn pass(&mut self, record: &RecordedEvent) {
        self.revision = Some(record.revision);
        self.position = Some(record.position);
    }

    /// Takes all events of a read in.
    async fn take_all(&mut self, mut events: EventStream) -> Result<(), LoadError> {
        while let Some(batch) = events.next_batch().await? {
            for record in &batch {
                self.take(record)?;
            }
        }
        Ok(())
    }
}

fn decode<A: Evolve>(record: &RecordedEvent) -> Result<Events<A::Event>, LoadError> {
    record.decode::<A::Event>().map_err(|source| LoadError::Event {
        stream: record.stream.clone(),
        revision: record.revision,
        position: record.position,
        source,
    })
}

/// Where loads take their events and shortcuts from.
#[derive(Debug)]
pub(crate) struct Loader<A> {
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) snapshots: Option<Snapshots<A>>,
    pub(crate) cache: Option<Mutex<LruCache<StreamId, Loaded<A>>>>,
}

impl<A: Evolve> Loader<A> {
    /// The present state. A cached state is only where the load begins: what came after it is always read.
    pub(crate) async fn load(&self, id: &A::Id, stream: &StreamId) -> Result<Loaded<A>, LoadError> {
        let mut loaded = match self.cached(stream) {
            Some(cached) => cached,
            None => self.newest_snapshot_or_initial(id, stream, None).await?,
        };
        let tail = StreamRead::new(stream.clone()).from(Revision::following(loaded.revision));
        loaded.take_all(self.store.read_stream(tail).await?).await?;
        self.cache(stream, &loaded);
        Ok(loaded)
    }

    /// A past state.
    pub(crate) async fn load_at(&self, id: &A::Id, stream: &StreamId, at: At) -> Result<Loaded<A>, LoadError> {
        match at {
            At::Revision(revision) => self.load_at_revision(id, stream, revision).await,
            At::Recorded(time) => self.load_where(id, stream, |record| record.recorded_at <= time).await,
            At::Occurred(time) => self.load_where(id, stream, |record| record.occurred_at <= time).await,
        }
    }

    async fn load_at_revision(&self, id: &A::Id, stream: &StreamId, at: Revision) -> Result<Loaded<A>, LoadError> {
        let mut loaded = self.newest_snapshot_or_initial(id, stream, Some(at)).await?;
        let next = Revision::following(loaded.revision);
        let missing = (at.get() + 1).saturating_sub(next.get());
        let tail = StreamRead::new(stream.clone()).from(next).limit(missing);
        loaded.take_all(self.store.read_stream(tail).await?).await?;
        if ExpectedRevision::Exact(at).is_met_by(loaded.revision) {
            return Ok(loaded);
        }
        Err(LoadError::NotYet { stream: stream.clone(), wanted: at, actual: loaded.revision })
    }

    /// The state after those events that are wanted, in the order of the stream.
    async fn load_where(
        &self,
        id: &A::Id,
        stream: &StreamId,
        wanted: impl Fn(&RecordedEvent) -> bool + Send,
    ) -> Result<Loaded<A>, LoadError> {
        let mut loaded = Loaded::initial(id);
        let (mut revision, mut position) = (None, None);
        let mut events = self.store.read_stream(StreamRead::new(stream.clone())).await?;
        while let Some(batch) = events.next_batch().await? {
            for record in &batch {
                if wanted(record) {
                    loaded.take(record)?;
                    (revision, position) = (loaded.revision, loaded.position);
                } else {
                    loaded.pass(record);
                }
            }
        }
        Ok(Loaded { revision, position, ..loaded })
    }

    async fn newest_snapshot_or_initial(
        &self,
        id: &A::Id,
        stream: &StreamId,
        at: Option<Revision>,
    ) -> Result<Loaded<A>, LoadError> {
        let Some(snapshots) = &self.snapshots else { return Ok(Loaded::initial(id)) };
        let newest = snapshots.newest(&*self.store, stream, at).await?;
        Ok(newest.map_or_else(
            || Loaded::initial(id),
            |Snapshot { state, revision, position }| Loaded {
                state,
                revision: Some(revision),
                position: Some(position),
                snapshot: Some(revision),
            },
        ))
    }

    fn cached(&self, stream: &StreamId) -> Option<Loaded<A>> {
        let mut cache = self.cache.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(stream).cloned()
    }

    /// Remembers a state, unless a newer one is there.
    pub(crate) fn cache(&self, stream: &StreamId, loaded: &Loaded<A>) {
        let Some(cache) = &self.cache else { return };
        let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
        let is_newer = cache.peek(stream).is_some_and(|cached| cached.revision > loaded.revision);
        if !is_newer {
            cache.put(stream.clone(), loaded.clone());
        }
    }

    /// Forgets a state.
    pub(crate) fn forget(&self, stream: &StreamId) {
        if let Some(cache) = &self.cache {
            cache.lock().unwrap_or_else(PoisonError::into_inner).pop(stream);
        }
    }

    /// The events of a stream in a range of revisions, decoded. For the result of a repeated command.
    pub(crate) async fn events(
        &self,
        stream: &StreamId,
        from: Revision,
        count: u64,
    ) -> Result<Vec<A::Event>, LoadError> {
        let read = StreamRead::new(stream.clone()).from(from).limit(count);
        let records = self.store.read_stream(read).await?.collect().await?;
        if records.len() as u64 != count {
            let detail = format!("expected {count} events from revision {from}, found {}", records.len());
            let last = records.last().map(|record| record.revision);
            return Err(StoreError::damaged(format!("stream {stream:?} at {}", found(last)), detail).into());
        }
        let mut events = Vec::with_capacity(records.len());
        for record in &records {
            events.extend(decode::<A>(record)?);
        }
        Ok(events)
    }
}
