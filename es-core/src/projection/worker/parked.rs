//! The dead-letter list: events that could not be applied, and all later ones of their keys.

use std::num::NonZeroUsize;
use std::time::Duration;

use backon::ExponentialBackoff;
use bytes::Bytes;
use lru::LruCache;
use serde::{Deserialize, Serialize};

use super::progress::RetryGuard;
use super::rows::{PAGE, RowKeys, decode, page};
use crate::model::Position;
use crate::model::{EventId, RecordedEvent, Timestamp};
use crate::model::{EventType, StreamId};
use crate::projection::generation::Generation;
use crate::store::{EventReader, StoreError};

/// A parked key: one of its events could not be applied, and the later events of the key wait for that one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParkedKey {
    /// The key, as returned by [`Projection::key`](crate::projection::Projection::key).
    pub key: String,
    /// The generation of the view in which the key is parked.
    pub generation: Generation,
    /// The position of the event that could not be applied.
    pub position: Position,
    /// The error of the last attempt, shortened to 1,000 bytes.
    pub error: String,
    /// The number of attempts.
    pub attempts: u32,
    /// The time at which the key was parked.
    pub since: Timestamp,
    /// The time of the last attempt.
    pub last_attempt: Timestamp,
    /// Whether the worker still retries the event, after a pause and at each start. It parks the key for good after the
    /// last attempt of the policy.
    #[serde(default)]
    pub is_retried: bool,
}

/// An event in the dead-letter list. A retry reads its content from the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParkedEvent {
    /// The key of the event.
    pub key: String,
    /// The position of the event in the log.
    pub position: Position,
    /// The id of the event.
    pub id: EventId,
    /// The stream of the event.
    pub stream: StreamId,
    /// The wire name of the event.
    pub event_type: EventType,
    /// The time at which the event was parked.
    pub parked_at: Timestamp,
}

impl ParkedEvent {
    pub(crate) fn new(key: String, event: &RecordedEvent, parked_at: Timestamp) -> Self {
        let (stream, event_type) = (event.stream.clone(), event.data.event_type.clone());
        Self { key, position: event.position, id: event.data.id, stream, event_type, parked_at }
    }
}

/// A key that waits for another attempt.
pub(crate) struct ScheduledRetry {
    /// The position of the event that cannot be applied.
    pub(crate) position: Position,
    /// The number of events that wait.
    pub(crate) events: u64,
    pub(crate) attempts: u32,
    pub(crate) pauses: ExponentialBackoff,
    /// The elapsed time of the clock at the next attempt.
    pub(crate) due: Duration,
    /// The time at which the key was parked.
    pub(crate) since: Timestamp,
    pub(crate) _guard: RetryGuard,
}

/// The number of keys for which a worker caches whether they are parked.
const CACHED_KEYS: NonZeroUsize = NonZeroUsize::new(16 * 1024).expect("the capacity is not zero");

/// The parked keys of one generation, with a bounded cache over the rows of the store. Only the worker that writes
/// these rows uses it, so the cache cannot be stale.
#[derive(Debug)]
pub(crate) struct ParkedKeys {
    keys: RowKeys,
    generation: Generation,
    /// Whether any key of the generation may be parked. If not, no lookup is needed.
    is_any: bool,
    cache: LruCache<Bytes, bool>,
}

/// Returns whether any key of a generation is parked.
pub(crate) async fn is_any_parked(
    store: &dyn EventReader,
    projection: &str,
    generation: Generation,
) -> Result<bool, StoreError> {
    let keys = RowKeys::new(projection);
    Ok(!page(store, keys.parked_keys(generation), None, 1).await?.is_empty())
}

/// Returns the number of parked events of a generation, at most `limit`.
pub(crate) async fn count_parked(
    store: &dyn EventReader,
    projection: &str,
    generation: Generation,
    limit: usize,
) -> Result<usize, StoreError> {
    let keys = RowKeys::new(projection);
    Ok(page(store, keys.parked_events(generation), None, limit).await?.len())
}

/// Returns the keys of a generation whose events are retried.
pub(crate) async fn retried_keys(
    store: &dyn EventReader,
    keys: &RowKeys,
    generation: Generation,
) -> Result<Vec<ParkedKey>, StoreError> {
    let (mut retried, mut after) = (Vec::new(), None);
    loop {
        let rows = page(store, keys.parked_keys(generation), after, PAGE).await?;
        let Some(last) = rows.last() else { return Ok(retried) };
        after = Some(last.key.clone());
        for row in &rows {
            let parked: ParkedKey = decode(&row.key, &row.value)?;
            retried.extend(parked.is_retried.then_some(parked));
        }
    }
}

impl ParkedKeys {
    pub(crate) async fn open(
        store: &dyn EventReader,
        keys: RowKeys,
        generation: Generation,
    ) -> Result<Self, StoreError> {
        let is_any = !page(store, keys.parked_keys(generation), None, 1).await?.is_empty();
        Ok(Self { keys, generation, is_any, cache: LruCache::new(CACHED_KEYS) })
    }

    /// Returns whether a key is parked.
    pub(crate) async fn contains(&mut self, store: &dyn EventReader, key: &str) -> Result<bool, StoreError> {
        if !self.is_any {
            return Ok(false);
        }
        let row = self.keys.parked_key(self.generation, key);
        if let Some(parked) = self.cache.get(&row) {
            return Ok(*parked);
        }
        let parked = store.row(&super::rows::table(), &row).await?.is_some();
        self.cache.put(row, parked);
        Ok(parked)
    }

    /// Records that a commit parked a key.
    pub(crate) fn insert(&mut self, key: &str) {
        self.is_any = true;
        self.cache.put(self.keys.parked_key(self.generation, key), true);
    }

    /// Records that a commit released a key.
    pub(crate) fn remove(&mut self, key: &str) {
        self.cache.put(self.keys.parked_key(self.generation, key), false);
    }
}
