//! The tail: the newest events of the log in memory, for those who follow it.
//!
//! ```text
//!   1 ........................ 9,871 | 9,872 ............ 20,114 = head
//!     on disk only                   | on disk and in the tail
//! ```
//!
//! A read that has come to the tail needs neither the disk nor the indexes, whatever it asks for. The tail is bounded in
//! bytes; what does not fit any more falls out at its old end. It never holds what is not written.

use std::collections::VecDeque;
use std::sync::Arc;

use es_core::{Position, RecordedEvent};

use crate::sync::{PoisonError, RwLock};

/// What an event costs beside its record, in bytes: its fields, its names and labels.
const EVENT_COST: usize = 600;

/// The newest events.
#[derive(Debug)]
pub(crate) struct Tail {
    capacity: usize,
    newest: RwLock<Newest>,
}

#[derive(Debug, Default)]
struct Newest {
    /// In the order of the log, without gaps.
    segments: VecDeque<Arc<Segment>>,
    bytes: usize,
}

/// The events of one write, at least one.
#[derive(Debug)]
pub(crate) struct Segment {
    events: Vec<RecordedEvent>,
    first: Position,
    bytes: usize,
}

impl Segment {
    /// The events from a position on.
    pub(crate) fn from(&self, position: Position) -> &[RecordedEvent] {
        let before = usize::try_from(position.get().saturating_sub(self.first.get())).unwrap_or(usize::MAX);
        self.events.get(before..).unwrap_or_default()
    }

    /// The position behind its last event.
    fn end(&self) -> Position {
        self.events.last().map_or(self.first, |last| last.position.next())
    }
}

impl Tail {
    /// A tail of about this many bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, newest: RwLock::new(Newest::default()) }
    }

    /// Adds what was written: the events, and the bytes of their records. Returns what fell out, which takes as long to free
    /// as it took to make: drop it when nobody waits.
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

    /// The segments from the one with this position on, with `count` events or a few more; `None` where the tail has
    /// no event at the position.
    pub(crate) fn from(&self, position: Position, count: usize) -> Option<Vec<Arc<Segment>>> {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        let reaches_back = newest.segments.front().is_some_and(|oldest| oldest.first <= position);
        if !reaches_back {
            return None;
        }
        let before = newest.segments.partition_point(|segment| segment.end() <= position);
        let mut left = count;
        let is_wanted = |segment: &&Arc<Segment>| {
            let is_wanted = left > 0;
            left = left.saturating_sub(segment.from(position).len());
            is_wanted
        };
        let segments: Vec<_> = newest.segments.range(before..).take_while(is_wanted).map(Arc::clone).collect();
        (!segments.is_empty()).then_some(segments)
    }

    /// Forgets what stands up to a position, because some of it is being removed. Returns it, as [`push`](Self::push) does.
    pub(crate) fn evict_to(&self, last: Position) -> Vec<Arc<Segment>> {
        let mut evicted = Vec::new();
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        while let Some(oldest) = newest.segments.pop_front_if(|oldest| oldest.first <= last) {
            newest.bytes -= oldest.bytes;
            evicted.push(oldest);
        }
        evicted
    }

    /// Whether the event at a position is here.
    pub(crate) fn has(&self, position: Position) -> bool {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        let reaches_back = newest.segments.front().is_some_and(|oldest| oldest.first <= position);
        reaches_back && newest.segments.back().is_some_and(|newest| position < newest.end())
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        let evicted = std::mem::take(&mut *self.newest.write().unwrap_or_else(PoisonError::into_inner));
        drop(evicted);
    }
}
