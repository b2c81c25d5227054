//! [`Stats`]: the counters of an open store.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the store was opened. [`RocksDbStore::stats`](crate::RocksDbStore::stats) returns them.
///
/// `commits / batches` is the average number of commits that shared one write and one sync.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Written commits. Conflicts and repeated commits do not count, because they write nothing.
    pub commits: u64,
    /// Written batches, each with one or more commits.
    pub batches: u64,
    /// Written events.
    pub events: u64,
    /// Bytes passed to RocksDB, including indexes, before compression.
    pub bytes: u64,
    /// Syncs: one per batch, none with [`Durability::Buffered`](crate::Durability::Buffered).
    pub syncs: u64,
    /// Events that reads of the log got from memory; see [`Options::tail_bytes`](crate::Options::tail_bytes).
    pub log_events_from_memory: u64,
    /// Events that reads of the log got from RocksDB: from its caches or from the disk.
    pub log_events_from_disk: u64,
}

/// The atomic counters of [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    commits: AtomicU64,
    batches: AtomicU64,
    events: AtomicU64,
    bytes: AtomicU64,
    syncs: AtomicU64,
    log_events_from_memory: AtomicU64,
    log_events_from_disk: AtomicU64,
}

impl Counters {
    /// Adds the numbers of a batch or of a part of a read.
    pub(crate) fn add(&self, batch: Stats) {
        // The counters are independent of each other, so that no memory ordering between them is needed.
        self.commits.fetch_add(batch.commits, Ordering::Relaxed);
        self.batches.fetch_add(batch.batches, Ordering::Relaxed);
        self.events.fetch_add(batch.events, Ordering::Relaxed);
        self.bytes.fetch_add(batch.bytes, Ordering::Relaxed);
        self.syncs.fetch_add(batch.syncs, Ordering::Relaxed);
        self.log_events_from_memory.fetch_add(batch.log_events_from_memory, Ordering::Relaxed);
        self.log_events_from_disk.fetch_add(batch.log_events_from_disk, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Stats {
        Stats {
            commits: self.commits.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            events: self.events.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            syncs: self.syncs.load(Ordering::Relaxed),
            log_events_from_memory: self.log_events_from_memory.load(Ordering::Relaxed),
            log_events_from_disk: self.log_events_from_disk.load(Ordering::Relaxed),
        }
    }
}
