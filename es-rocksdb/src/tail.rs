//! The tail: the newest events of the log in memory, for reads that follow the log.
//!
//! ```text
//!   1 ........................ 9,871 | 9,872 ............ 20,114 = head
//!     on disk only                   | on disk and in the tail
//! ```
//!
//! A read whose next event is in the tail needs neither the disk nor the indexes, whatever its query is. The tail has a
//! maximum size in bytes: the oldest segments are evicted. It only has events that were written.

use std::collections::VecDeque;
use std::sync::Arc;

use es_core::{Position, RecordedEvent};

use crate::sync::{PoisonError, RwLock};

/// The memory of an event in addition to its record, in bytes: its fields, names and tags.
const EVENT_COST: usize = 600;

/// The newest events.
#[derive(Debug)]
pub(crate) struct Tail {
    capacity: usize,
    newest: RwLock<Newest>,
}

#[derive(Debug, Default)]
struct Newest {
    /// In log order, without gaps.
    segments: VecDeque<Arc<Segment>>,
    bytes: usize,
}

/// The events of one write batch, at least one.
#[derive(Debug)]
pub(crate) struct Segment {
    events: Vec<RecordedEvent>,
    first: Position,
    bytes: usize,
}

impl Segment {
    /// Returns the events from `position` on.
    pub(crate) fn from(&self, position: Position) -> &[RecordedEvent] {
        let before = usize::try_from(position.get().saturating_sub(self.first.get())).unwrap_or(usize::MAX);
        self.events.get(before..).unwrap_or_default()
    }

    /// Returns the position after the last event.
    fn end(&self) -> Position {
        self.events.last().map_or(self.first, |last| last.position.next())
    }
}

impl Tail {
    /// Creates a tail of about `capacity` bytes; 0 turns it off.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, newest: RwLock::new(Newest::default()) }
    }

    /// Adds written events, whose records have `record_bytes` together. Returns the evicted segments. Freeing them
    /// takes as long as creating them: drop them when no commit waits.
    pub(crate) fn push<'a>(
        &self,
        events: impl Iterator<Item = &'a RecordedEvent>,
        record_bytes: usize,
    ) -> Vec<Arc<Segment>> {
        let mut evicted = Vec::new();
        if self.capacity == 0 {
            return evicted;
        }
        let events: Vec<RecordedEvent> = events.cloned().collect();
        let Some(first) = events.first().map(|first| first.position) else { return evicted };
        let bytes = record_bytes.saturating_add(events.len().saturating_mul(EVENT_COST));
        let segment = Arc::new(Segment { events, first, bytes });
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        newest.bytes += bytes;
        newest.segments.push_back(segment);
        while newest.bytes > self.capacity {
            let Some(oldest) = newest.segments.pop_front() else { break };
            newest.bytes -= oldest.bytes;
            evicted.push(oldest);
        }
        evicted
    }

    /// Returns segments with about `count` events, from the segment that contains `position` on; `None` if the tail
    /// does not have that position.
    pub(crate) fn from(&self, position: Position, count: usize) -> Option<Vec<Arc<Segment>>> {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        let reaches_back = newest.segments.front().is_some_and(|oldest| oldest.first <= position);
        if !reaches_back {
            return None;
        }
        let before = newest.segments.partition_point(|segment| segment.end() <= position);
        let mut remaining = count;
        let is_wanted = |segment: &&Arc<Segment>| {
            let is_wanted = remaining > 0;
            remaining = remaining.saturating_sub(segment.from(position).len());
            is_wanted
        };
        let segments: Vec<_> = newest.segments.range(before..).take_while(is_wanted).map(Arc::clone).collect();
        (!segments.is_empty()).then_some(segments)
    }

    /// Evicts the events up to `last`, for a scavenge that removes some of them. Returns the evicted segments, as
    /// [`push`](Self::push).
    pub(crate) fn evict_to(&self, last: Position) -> Vec<Arc<Segment>> {
        let mut evicted = Vec::new();
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        while let Some(oldest) = newest.segments.pop_front_if(|oldest| oldest.first <= last) {
            newest.bytes -= oldest.bytes;
            evicted.push(oldest);
        }
        evicted
    }

    /// Returns whether the tail has the event at a position.
    pub(crate) fn has(&self, position: Position) -> bool {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        let reaches_back = newest.segments.front().is_some_and(|oldest| oldest.first <= position);
        reaches_back && newest.segments.back().is_some_and(|newest| position < newest.end())
    }

    /// Removes all events.
    pub(crate) fn clear(&self) {
        let evicted = std::mem::take(&mut *self.newest.write().unwrap_or_else(PoisonError::into_inner));
        drop(evicted);
    }
}
