//! Reads of the log and of streams: bounded batches, each of which seeks anew.
//!
//! A read is bounded by the head that was published when it was opened. That alone is a snapshot, because the log only
//! grows: nothing of RocksDB is held between two batches, however slow the consumer is.

mod log;
mod stream;

pub(crate) use log::LogSource;
pub(crate) use stream::StreamSource;

use crate::options::ReadLimits;

/// How many events an executor reads itself when they are in memory; more are left to a thread that may block.
const INLINE: ReadLimits = ReadLimits { events: 128, bytes: 128 * 1024 };

/// For how many events a batch has room from the beginning: growing a list of events moves what is in it.
const FIRST_EVENTS: usize = 128;

/// What a batch may still hold.
struct Room {
    events: usize,
    bytes: usize,
    /// How many hidden events may be passed, so that a batch does not take long that finds nothing.
    hidden: usize,
}

impl Room {
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
