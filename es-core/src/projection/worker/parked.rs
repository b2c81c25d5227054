//! The dead-letter list: events that could not be applied, and all later ones of their keys.

use std::num::NonZeroUsize;

use bytes::Bytes;
use lru::LruCache;
use serde::{Deserialize, Serialize};

use super::rows::{RowKeys, page};
use crate::model::Position;
use crate::model::{EventId, RecordedEvent, Timestamp};
use crate::model::{EventType, StreamId};
use crate::projection::generation::Generation;
use crate::store::{EventReader, StoreError};

/// A key that stands still, because one of its events could not be applied. Its later events wait behind that one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParkedKey {
    /// The key: without more said, the name of a stream.
    pub key: String,
    /// The generation of the view for which it stands still.
    pub generation: Generation,
    /// The event that could not be applied.
    pub position: Position,
    /// Why, in the words of the last attempt.
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Since when it stands still.
    pub since: Timestamp,
    /// When it was tried last.
    pub last_attempt: Timestamp,
}

/// An event that waits in the dead-letter list. Its content is read from the log when it is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParkedEvent {
    /// Its key.
    pub key: String,
    /// Where it stands in the log.
    pub position: Position,
    /// Its identity.
    pub id: EventId,
    /// Its stream.
    pub stream: StreamId,
    /// Its wire name.
    pub event_type: EventType,
    /// Since when it waits.
    pub parked_at: Timestamp,
}

impl ParkedEvent {
    pub(crate) fn new(key: String, event: &RecordedEvent, parked_at: Timestamp) -> Self {
        let (stream, event_type) = (event.stream.clone(), event.data.event_type.clone());
        Self { key, position: event.position, id: event.data.id, stream, event_type, parked_at }
    }
}

/// How many keys a worker remembers as parked or not.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(16 * 1024).expect("not zero");

/// Which keys are parked, as the one worker knows that writes it. The rows are the truth; what is remembered is bounded.
#[derive(Debug)]
pub(crate) struct ParkedKeys {
    keys: RowKeys,
    generation: Generation,
    /// Without a parked key in the whole generation, no look-up is needed.
    is_any: bool,
    remembered: LruCache<Bytes, bool>,
}

/// Whether events of a build wait that could not be applied.
pub(crate) async fn is_any_parked(
    store: &dyn EventReader,
    projection: &str,
    generation: Generation,
) -> Result<bool, StoreError> {
    let keys = RowKeys::new(projection);
    Ok(!page(store, keys.parked_keys(generation), None, 1).await?.is_empty())
}

impl ParkedKeys {
    pub(crate) async fn open(
        store: &dyn EventReader,
        keys: RowKeys,
        generation: Generation,
    ) -> Result<Self, StoreError> {
        let is_any = !page(store, keys.parked_keys(generation), None, 1).await?.is_empty();
        Ok(Self { keys, generation, is_any, remembered: LruCache::new(REMEMBERED) })
    }

    pub(crate) async fn contains(&mut self, store: &dyn EventReader, key: &str) -> Result<bool, StoreError> {
        if !self.is_any {
            return Ok(false);
        }
        let row = self.keys.parked_key(self.generation, key);
        if let Some(parked) = self.remembered.get(&row) {
            return Ok(*parked);
        }
        let parked = store.row(&super::rows::table(), &row).await?.is_some();
        self.remembered.put(row, parked);
        Ok(parked)
    }

    /// Remembers what was committed.
    pub(crate) fn note(&mut self, key: &str, is_parked: bool) {
        self.is_any |= is_parked;
        self.remembered.put(self.keys.parked_key(self.generation, key), is_parked);
    }
}
