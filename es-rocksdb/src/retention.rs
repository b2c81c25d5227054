//! Retention: the rules and deletions in memory, and the events of a stream that they leave visible.
//!
//! The store reads the retention streams when it opens, and applies their events as they are written. The key `first`
//! with the name of a stream in the column family `meta` has the first revision of the stream that was not removed.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use es_core::retention::{Retained, Retention, StreamRetention};
use es_core::store::Direction;
use es_core::store::implement::is_retention_stream;
use es_core::{Position, RecordedEvent, Revision, StoreError, StreamId, Timestamp};

use crate::engine::database::{Database, Fault, Tier, bad_key};
use crate::engine::key;
use crate::schema::{Cf, META_FIRST, META_SCAVENGED};
use crate::sync::{AtomicBool, PoisonError, RwLock};

/// The form in which a read returns [hidden](es_core::retention) events. An event that a scavenge has removed is a
/// [tombstone](es_core::RecordedEvent::is_removed) in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HiddenEvents {
    /// As tombstones, as if a scavenge had removed them.
    AsTombstones,
    /// With their content.
    WithContent,
}

/// The retention rules and deletions that operators have written.
#[derive(Debug)]
pub(crate) struct Operators {
    /// Whether there are rules, deletions or removed events. If not, every event is visible, and a check costs one
    /// load.
    is_touched: AtomicBool,
    retention: RwLock<Retention>,
}

impl Operators {
    /// Creates the rules and deletions of a log. `has_removed` tells whether events were removed.
    pub(crate) fn new(retention: Retention, has_removed: bool) -> Self {
        let is_touched = AtomicBool::new(has_removed || !retention.is_empty());
        Self { is_touched, retention: RwLock::new(retention) }
    }

    /// Returns whether any event may be hidden or removed.
    pub(crate) fn is_touched(&self) -> bool {
        self.is_touched.load(Ordering::Acquire)
    }

    /// Applies written events.
    pub(crate) fn apply<'a>(&self, events: impl Iterator<Item = &'a RecordedEvent>) -> Result<(), StoreError> {
        for event in events {
            if is_retention_stream(&event.stream) {
                self.retention.write().unwrap_or_else(PoisonError::into_inner).apply(event)?;
            } else if !event.is_removed() {
                continue;
            }
            self.is_touched.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Returns the retention of a stream.
    pub(crate) fn of(&self, stream: &StreamId) -> StreamRetention {
        if !self.is_touched() {
            return StreamRetention::default();
        }
        self.retention.read().unwrap_or_else(PoisonError::into_inner).of(stream)
    }

    /// Returns the retention of all streams.
    pub(crate) fn all(&self) -> Retention {
        self.retention.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Returns whether events were removed from any stream.
pub(crate) fn has_removed(database: &Database) -> Result<bool, StoreError> {
    let mut is_found = false;
    let mut find = |_: &[u8], _: &[u8]| {
        is_found = true;
        Ok(ControlFlow::Break(()))
    };
    let forward = (Direction::Forward, None);
    database.visit_entries(Cf::Meta, &key::prefix(META_FIRST), forward, Tier::Any, &mut find)?;
    Ok(is_found)
}

/// Returns the key in [`Cf::Meta`] of the first revision of a stream that was not removed.
pub(crate) fn first_key(stream: &StreamId) -> Vec<u8> {
    first_key_of(stream.as_str().as_bytes())
}

/// Returns the key in [`Cf::Meta`] of the first revision of the stream with this name.
pub(crate) fn first_key_of(stream: &[u8]) -> Vec<u8> {
    let mut key = key::prefix(META_FIRST);
    key.extend_from_slice(stream);
    key
}

impl Database {
    /// Returns the position of the last completed scavenge point.
    pub(crate) fn scavenged(&self) -> Result<Option<Position>, StoreError> {
        let Some(value) = self.get(Cf::Meta, META_SCAVENGED, Tier::Any)? else { return Ok(None) };
        let position = key::decode_position(&value);
        position.map(Some).map_err(|error| StoreError::damaged("the last scavenge point", error.to_string()))
    }

    /// Returns the first revision of a stream that was not removed.
    pub(crate) fn first_left(&self, stream: &StreamId, tier: Tier) -> Result<Revision, Fault> {
        let Some(value) = self.get(Cf::Meta, &first_key(stream), tier)? else { return Ok(Revision::FIRST) };
        let first = key::decode_revision(&value);
        Ok(first.map_err(|error| StoreError::damaged(format!("first of stream {stream:?}"), error.to_string()))?)
    }
}

/// Returns the number of unique keys that each hidden or removed event holds.
pub(crate) fn claims_of_hidden(
    database: &Database,
    index: &impl StreamIndex,
    operators: &Operators,
    now: Timestamp,
    head: Position,
) -> Result<HashMap<(StreamId, Revision), u64>, StoreError> {
    let mut claims = HashMap::new();
    let mut count = |hash: &[u8], owner: &[u8]| {
        let owner = key::decode_owner(owner).map_err(|error| bad_key(Cf::Keys, hash, &error))?;
        let retained = index.retained(&owner.stream, &operators.of(&owner.stream), now, Some(head), Tier::Any)?;
        // A deletion frees the keys that were claimed before the stream begins.
        if (retained.begins..retained.first).contains(&owner.revision) && !retained.is_ended {
            *claims.entry((owner.stream, owner.revision)).or_insert(0) += 1;
        }
        Ok(ControlFlow::Continue(()))
    };
    database.visit_entries(Cf::Keys, &[], (Direction::Forward, None), Tier::Any, &mut count)?;
    Ok(claims)
}

/// What retention needs to know of the streams of a log.
pub(crate) trait StreamIndex {
    /// Returns the first revision of a stream that was not removed.
    fn first_left(&self, stream: &StreamId, tier: Tier) -> Result<Revision, Fault>;

    /// Returns the revision of the last event of a stream.
    fn revision(&self, stream: &StreamId, tier: Tier) -> Result<Option<Revision>, Fault>;

    /// Returns the last revision of a stream in the log up to `head`.
    fn last_up_to(&self, stream: &StreamId, head: Position, tier: Tier) -> Result<Option<Revision>, Fault>;

    /// Returns the recorded time of the event at a revision; `None` if it was removed.
    fn recorded_at(&self, stream: &StreamId, revision: Revision, tier: Tier) -> Result<Option<Timestamp>, Fault>;

    /// Returns the first revision of a stream that is visible at the time `now` in the log up to `head`; the revision
    /// after the last if no event is visible. Costs two look-ups, and with a maximum age those of a binary search.
    fn first_visible(
        &self,
        stream: &StreamId,
        retention: &StreamRetention,
        now: Timestamp,
        head: Position,
        tier: Tier,
    ) -> Result<Revision, Fault> {
        let retained = self.first_left(stream, tier)?;
        if retention.is_whole() {
            return Ok(retained);
        }
        let last = self.last_up_to(stream, head, tier)?;
        let after_last = Revision::following(last);
        let mut first = retention.first_by_revision(last).max(retained).min(after_last.max(retained));
        let Some(oldest) = retention.oldest(now) else { return Ok(first) };
        let mut end = after_last.get().max(first.get());
        // Recorded times never decrease within a stream, so the events that are too old are its first events.
        while first.get() < end {
            let middle = Revision::new(first.get() + (end - first.get()) / 2);
            // A concurrent scavenge removed a missing event.
            if self.recorded_at(stream, middle, tier)?.is_none_or(|recorded_at| recorded_at < oldest) {
                first = middle.next();
            } else {
                end = middle.get();
            }
        }
        Ok(first)
    }

    /// Returns which events of a stream are retained in the log up to `head`.
    fn retained(
        &self,
        stream: &StreamId,
        retention: &StreamRetention,
        now: Timestamp,
        head: Option<Position>,
        tier: Tier,
    ) -> Result<Retained, Fault> {
        let Some(head) = head else { return Ok(Retained::WHOLE) };
        let first = self.first_visible(stream, retention, now, head, tier)?;
        Ok(Retained::new(retention, first, self.revision(stream, tier)?))
    }
}

/// Decides which events are visible in a part of a read. Looks up the retention of each stream once.
pub(crate) struct RetentionFilter<'a> {
    operators: &'a Operators,
    now: Timestamp,
    head: Position,
    known: HashMap<StreamId, FilteredStream>,
}

/// The retention of a stream.
#[derive(Clone, Copy)]
struct FilteredStream {
    retention: StreamRetention,
    /// The last revision up to the head; `None` also if no rule or deletion applies to the stream.
    last: Option<Revision>,
}

impl<'a> RetentionFilter<'a> {
    /// Creates the filter of the log up to `head` at the time `now`.
    pub(crate) fn new(operators: &'a Operators, now: Timestamp, head: Position) -> Self {
        Self { operators, now, head, known: HashMap::new() }
    }

    /// Returns whether any event may be hidden or removed.
    pub(crate) fn may_hide(&self) -> bool {
        self.operators.is_touched()
    }

    /// Returns whether an event is visible.
    pub(crate) fn shows(
        &mut self,
        streams: &impl StreamIndex,
        event: &RecordedEvent,
        tier: Tier,
    ) -> Result<bool, Fault> {
        if event.is_removed() {
            return Ok(false);
        }
        if !self.operators.is_touched() {
            return Ok(true);
        }
        let stream = match self.known.get(&event.stream) {
            Some(stream) => *stream,
            None => {
                let retention = self.operators.of(&event.stream);
                let last = match retention.is_whole() {
                    true => None,
                    false => streams.last_up_to(&event.stream, self.head, tier)?,
                };
                *self.known.entry(event.stream.clone()).or_insert(FilteredStream { retention, last })
            }
        };
        Ok(stream.retention.shows(event.revision, event.recorded_at, stream.last, self.now))
    }
}
