//! [`Cache`]: the most recently used states of a repository.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;

use crate::aggregate::repository::loaded::Loaded;
use crate::model::{EventView, Position, StreamId};
use crate::retention::Erasure;
use crate::store::{EventStore, LogRead, QueryItem, StoreError};

/// The interval between two searches of the log for deleted streams.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);

/// The most recently used states of a repository, by stream.
#[derive(Debug)]
pub(super) struct Cache<A> {
    states: Mutex<LruCache<StreamId, Loaded<A>>>,
    search: Mutex<Search>,
}

/// The last search of the log for deleted streams.
#[derive(Debug, Default)]
struct Search {
    /// The time of the search; `None` before the first one.
    at: Option<Duration>,
    /// The position up to which the log was searched successfully.
    up_to: Option<Position>,
}

impl<A: Clone + Send + Sync> Cache<A> {
    pub(super) fn new(aggregates: usize) -> Self {
        // An empty cache allocates nothing; `LruCache::new` would reserve its whole capacity.
        let mut states = LruCache::unbounded();
        states.resize(NonZeroUsize::new(aggregates).unwrap_or(NonZeroUsize::MIN));
        Self { states: Mutex::new(states), search: Mutex::default() }
    }

    pub(super) fn get(&self, stream: &StreamId) -> Option<Loaded<A>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).get(stream).cloned()
    }

    /// Caches a state unless the cached one is as new.
    pub(super) fn put(&self, stream: &StreamId, loaded: &Loaded<A>) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let is_as_new = states.peek(stream).is_some_and(|cached| {
            cached.begins == loaded.begins && cached.read_to >= loaded.read_to && cached.snapshot >= loaded.snapshot
        });
        if !is_as_new {
            states.put(stream.clone(), loaded.clone());
        }
    }

    pub(super) fn remove(&self, stream: &StreamId) {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).pop(stream);
    }

    /// Removes the states of streams that were deleted, at most once per second. No load uses such a state; this
    /// removes its content from memory.
    ///
    /// `now` is the monotonic time.
    pub(super) async fn remove_deleted(&self, store: &dyn EventStore, now: Duration) -> Result<(), StoreError> {
        let after = {
            let mut search = self.search.lock().unwrap_or_else(PoisonError::into_inner);
            if search.at.is_some_and(|at| now.saturating_sub(at) < SEARCH_INTERVAL) {
                return Ok(());
            }
            let is_first = search.at.replace(now).is_none();
            (!is_first).then_some(search.up_to)
        };
        // ORDER: the head before the read, so that the next search starts after a position that this one has searched.
        let head = store.head().await?;
        // At the first search nothing is cached.
        if let Some(after) = after.filter(|after| *after < head) {
            let mut visitor = |event: EventView<'_>| {
                if let Some(stream) = Erasure::of(event.0).as_ref().and_then(Erasure::stream) {
                    self.remove(stream);
                }
                ControlFlow::Continue(())
            };
            store.visit_log(LogRead::matching(QueryItem::erasures()).after(after), &mut visitor).await?;
        }
        // The next search repeats one that failed or was dropped.
        let mut search = self.search.lock().unwrap_or_else(PoisonError::into_inner);
        search.up_to = search.up_to.max(head);
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{EventType, ExpectedRevision, NewEvent, Revision};
    use crate::retention::{DeleteKind, Note};
    use crate::store::memory::MemoryStore;
    use crate::store::{Commit, delete_stream};
    use crate::testing::{Fault, FaultyStore};

    /// The state of a deleted stream stayed in memory until it was evicted by others.
    #[tokio::test]
    async fn the_states_of_deleted_streams_are_removed() {
        let store = MemoryStore::new();
        let streams = ["order-1", "order-2"].map(|name| StreamId::new(name).unwrap());
        let cache = Cache::<u64>::new(10);
        cache.remove_deleted(&store, Duration::from_secs(1)).await.unwrap();
        for stream in &streams {
            let event = NewEvent::json(EventType::new("placed").unwrap(), "{}");
            store.commit(Commit::to(stream, ExpectedRevision::Any, [event])).await.unwrap();
            cache.put(stream, &Loaded::of_state(7, Revision::FIRST));
        }
        let delete = |stream| delete_stream(&store, stream, DeleteKind::Soft, ExpectedRevision::Any, Note::default());
        delete(&streams[0]).await.unwrap();
        cache.remove_deleted(&store, Duration::from_millis(1500)).await.unwrap();
        assert_eq!(cache.len(), 2, "the log is searched at most once per second");
        cache.remove_deleted(&store, Duration::from_secs(2)).await.unwrap();
        assert!(cache.get(&streams[0]).is_none() && cache.get(&streams[1]).is_some());
        delete(&streams[1]).await.unwrap();
        cache.remove_deleted(&store, Duration::from_secs(3)).await.unwrap();
        assert_eq!(cache.len(), 0);
    }

    /// Regression: a search that failed was not repeated, so that a state whose stream was deleted before it stayed in
    /// memory.
    #[tokio::test]
    async fn a_failed_search_is_repeated() {
        let (inner, stream) = (Arc::new(MemoryStore::new()), StreamId::new("order-1").unwrap());
        let store = FaultyStore::new(inner.clone());
        let cache = Cache::<u64>::new(10);
        cache.remove_deleted(&store, Duration::from_secs(1)).await.unwrap();
        let event = NewEvent::json(EventType::new("placed").unwrap(), "{}");
        inner.commit(Commit::to(&stream, ExpectedRevision::Any, [event])).await.unwrap();
        cache.put(&stream, &Loaded::of_state(7, Revision::FIRST));
        delete_stream(&*inner, &stream, DeleteKind::Soft, ExpectedRevision::Any, Note::default()).await.unwrap();
        store.at_read(0, Fault::Refuse);
        cache.remove_deleted(&store, Duration::from_secs(2)).await.unwrap_err();
        cache.remove_deleted(&store, Duration::from_secs(3)).await.unwrap();
        assert_eq!(cache.len(), 0);
    }
}
