//! The sizes of the batches of a read.

use crate::options::ReadLimits;

/// The limits of the first batch that a blocking thread fetches. A log read also decodes this number of events at a
/// time. Such a batch takes some tenths of a millisecond, less than a consumer usually needs to process it.
pub(crate) const FIRST_BATCH: ReadLimits = ReadLimits { events: 512, bytes: 256 * 1024 };

/// The factor by which each batch of a read is larger than the one before it.
const GROWTH: usize = 4;

/// The limits of the successive batches of a read. The first batch is small, so that a consumer that needs few events
/// neither waits for more nor causes unused work. Each later batch is larger, up to `max`.
#[derive(Debug)]
pub(crate) struct BatchSizes {
    next: ReadLimits,
    max: ReadLimits,
}

impl BatchSizes {
    pub(crate) fn new(max: ReadLimits) -> Self {
        Self { next: max.at_most(FIRST_BATCH), max }
    }

    /// Returns the limits of the next batch, and increases those of the batch after it.
    pub(crate) fn next(&mut self) -> ReadLimits {
        let ReadLimits { events, bytes } = self.next;
        let grown = ReadLimits { events: events.saturating_mul(GROWTH), bytes: bytes.saturating_mul(GROWTH) };
        std::mem::replace(&mut self.next, grown.at_most(self.max))
    }
}

/// The remaining capacity of a batch.
pub(crate) struct BatchBudget {
    events: usize,
    bytes: usize,
    /// How many hidden events may still be skipped. It bounds the time of a batch that finds no visible event.
    hidden: usize,
}

impl BatchBudget {
    /// Creates the budget of a batch with these limits, in a read that may still return `remaining` events.
    pub(crate) fn new(limits: ReadLimits, remaining: Option<u64>) -> Self {
        let remaining = remaining.map_or(usize::MAX, |events| usize::try_from(events).unwrap_or(usize::MAX));
        let hidden = limits.events.saturating_mul(8).max(1024);
        Self { events: limits.events.min(remaining), bytes: limits.bytes, hidden }
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        self.events == 0 || self.bytes == 0 || self.hidden == 0
    }

    /// Counts a hidden event.
    pub(crate) fn skip_hidden(&mut self) {
        self.hidden = self.hidden.saturating_sub(1);
    }

    /// Counts an event of the batch.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.events = self.events.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes.max(1));
    }
}
