//! Reads of the log and of streams: bounded batches, each of which seeks anew.
//!
//! ```text
//!   thread that may block    │ batch 1 │ batch 2 │ batch 3 ...      one batch ahead, and no more
//!   consumer                           │ batch 1 │ batch 2 │ ...
//! ```
//!
//! A read is bounded by the head that was published when it was opened. That alone is a snapshot, because the log only
//! grows: nothing of RocksDB is held between two batches, however slow the consumer is.

mod log;
mod records;
mod stream;

pub(crate) use log::LogSource;
pub(crate) use records::FetchedRecords;
#[cfg(test)]
pub(crate) use stream::StreamScan;
pub(crate) use stream::StreamSource;

use crate::options::ReadLimits;

/// What the first batch from a thread that may block holds, and how many events of the log are decoded at once. It takes some
/// tenths of a millisecond, less than whoever asked needs for what it does with them.
const FIRST: ReadLimits = ReadLimits { events: 512, bytes: 256 * 1024 };

/// For how many events a batch reserves space from the beginning: growing a list of events moves what is in it.
const FIRST_EVENTS: usize = 128;

/// By how much the batches of a read grow, one after the other.
const GROWTH: usize = 4;

/// How much the batches of a read fetch: the first one little, because who wants little should not wait for more, nor should
/// more be fetched in vain; then more and more.
#[derive(Debug)]
struct Pace {
    next: ReadLimits,
    most: ReadLimits,
}

impl Pace {
    fn new(most: ReadLimits) -> Self {
        Self { next: most.at_most(FIRST), most }
    }

    /// What the next batch may hold.
    fn next(&mut self) -> ReadLimits {
        let ReadLimits { events, bytes } = self.next;
        let grown = ReadLimits { events: events.saturating_mul(GROWTH), bytes: bytes.saturating_mul(GROWTH) };
        std::mem::replace(&mut self.next, grown.at_most(self.most))
    }
}

/// What a batch may still hold.
struct BatchBudget {
    events: usize,
    bytes: usize,
    /// How many hidden events may be passed, so that a batch does not take long that finds nothing.
    hidden: usize,
}

impl BatchBudget {
    /// Room for what a batch may hold and the read may still return.
    fn new(limits: ReadLimits, left: Option<u64>) -> Self {
        let left = left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        Self { events: limits.events.min(left), bytes: limits.bytes, hidden: limits.events.saturating_mul(8).max(1024) }
    }

    fn is_used_up(&self) -> bool {
        self.events == 0 || self.bytes == 0 || self.hidden == 0
    }

    fn pass(&mut self) {
        self.hidden = self.hidden.saturating_sub(1);
    }

    fn take(&mut self, bytes: usize) {
        self.events = self.events.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes.max(1));
    }
}
