//! What a store has written since it was opened.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a store has written since it was opened. See [`RocksDbStore::stats`](crate::RocksDbStore::stats).
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
}

/// [`Stats`] while they are counted.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    commits: AtomicU64,
    batches: AtomicU64,
    events: AtomicU64,
    bytes: AtomicU64,
    syncs: AtomicU64,
}

impl Counters {
    /// Adds what one batch has written.
    pub(crate) fn add(&self, batch: Stats) {
        // NOTE: each number stands for itself; nobody infers one from another, so that no order between them is needed.
        self.commits.fetch_add(batch.commits, Ordering::Relaxed);
        self.batches.fetch_add(batch.batches, Ordering::Relaxed);
        self.events.fetch_add(batch.events, Ordering::Relaxed);
        self.bytes.fetch_add(batch.bytes, Ordering::Relaxed);
        self.syncs.fetch_add(batch.syncs, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Stats {
        Stats {
            commits: self.commits.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            events: self.events.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            syncs: self.syncs.load(Ordering::Relaxed),
        }
    }
}
