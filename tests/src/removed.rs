//! A store layer that hides ranges of positions of the log, for any stream. `es_core::retention` is the real removal of
//! events.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use es_core::store::implement::StoreLayer;
use es_core::store::{Batch, EventStream};
use es_core::{EventId, EventStore, LogRead, RecordedEvent, StoreError};

/// A store layer that hides some of the events of a store.
#[derive(Debug)]
pub struct WithGaps {
    inner: Arc<dyn EventStore>,
    removed: Mutex<Vec<RangeInclusive<u64>>>,
}

impl WithGaps {
    /// Creates a layer that hides no events.
    #[must_use]
    pub fn new(inner: Arc<dyn EventStore>) -> Self {
        Self { inner, removed: Mutex::default() }
    }

    /// Hides the events at these positions.
    pub fn remove(&self, positions: RangeInclusive<u64>) {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner).push(positions);
    }

    fn is_visible(&self, event: &RecordedEvent) -> bool {
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
        let visible = |event: &RecordedEvent| self.is_visible(event) && Some(event.position) <= head;
        let events: Vec<RecordedEvent> = all.into_iter().filter(visible).take(limit).collect();
        let scanned = read.scanned_to(head, &events);
        Ok(EventStream::ready(Batch { events, scanned }))
    }

    async fn find(&self, id: EventId) -> Result<Option<RecordedEvent>, StoreError> {
        Ok(self.inner.find(id).await?.filter(|event| self.is_visible(event)))
    }
}
