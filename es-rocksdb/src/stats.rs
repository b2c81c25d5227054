//! What a store has done since it was opened.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a store has written and read since it was opened. See [`RocksDbStore::stats`](crate::RocksDbStore::stats).
///
/// `commits / batches` says how many commits shared one write, and with it one wait for the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Commits that were written. Neither conflicts nor repeats count: they write nothing.
    pub commits: u64,
    /// Batches that were written, each with one or more commits.
    pub batches: u64,
    /// Events that were written.
    pub events: u64,
    /// Bytes that were handed to RocksDB, indexes included and before compression.
    pub bytes: u64,
    /// How often the store waited for the disk: once per batch, and never with [`Durability::Buffered`](crate::Durability::Buffered).
    pub syncs: u64,
    /// Events that reads of the log were given from memory; see [`Options::tail_bytes`](crate::Options::tail_bytes).
    pub log_events_from_memory: u64,
    /// Events that reads of the log were given from RocksDB, that is from its caches or from the disk.
    pub log_events_from_disk: u64,
}

/// [`Stats`] while they are counted.
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
    /// Adds what one batch has written, or one part of a read has given.
    pub(crate) fn add(&self, batch: Stats) {
        // NOTE: each number stands for itself; nobody infers one from another, so that no order between them is needed.
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
