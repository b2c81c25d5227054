//! A store from whose log ranges of positions are gone at once, whatever stream they are of. For what really removes events, see
//! `es_core::retention`.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use es_core::store::implement::StoreLayer;
use es_core::store::{Batch, EventStream};
use es_core::{EventId, EventStore, LogRead, RecordedEvent, StoreError};

/// A store in front of another one, that does not show some of its events.
#[derive(Debug)]
pub struct WithGaps {
    inner: Arc<dyn EventStore>,
    removed: Mutex<Vec<RangeInclusive<u64>>>,
}

impl WithGaps {
    /// Shows all events yet.
    #[must_use]
    pub fn new(inner: Arc<dyn EventStore>) -> Self {
        Self { inner, removed: Mutex::default() }
    }

    /// The events at these positions are gone, too.
    pub fn remove(&self, positions: RangeInclusive<u64>) {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner).push(positions);
    }

    fn has(&self, event: &RecordedEvent) -> bool {
        let removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        !removed.iter().any(|removed| removed.contains(&event.position.get()))
    }
}

#[async_trait]
impl StoreLayer for WithGaps {
    fn inner(&self) -> &dyn EventStore {
        &*self.inner
    }

    async fn read_log(&self, read: LogRead) -> Result<EventStream, StoreError> {
        let head = self.inner.head().await?;
        let all = self.inner.read_log(LogRead { limit: None, ..read.clone() }).await?.collect().await?;
        let limit = read.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let shown = |event: &RecordedEvent| self.has(event) && Some(event.position) <= head;
        let events: Vec<RecordedEvent> = all.into_iter().filter(shown).take(limit).collect();
        let scanned = read.scanned_to(head, &events);
        Ok(EventStream::ready(Batch { events, scanned }))
    }

    async fn find(&self, id: EventId) -> Result<Option<RecordedEvent>, StoreError> {
        Ok(self.inner.find(id).await?.filter(|event| self.has(event)))
    }
}
