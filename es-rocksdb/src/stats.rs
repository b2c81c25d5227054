//! [`Stats`]: the counters of an open store.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the store was opened. [`RocksDbStore::stats`](crate::RocksDbStore::stats) returns them.
///
/// `commits / frames` is the average number of commits that shared one write and one sync.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Written commits. Conflicts and repeated commits do not count, because they write nothing.
    pub commits: u64,
    /// Written frames of the log, each with one or more commits.
    pub frames: u64,
    /// Written events.
    pub events: u64,
    /// Bytes written to the log.
    pub bytes: u64,
    /// Syncs: one per frame, none with [`Durability::Buffered`](crate::Durability::Buffered).
    pub syncs: u64,
}

/// The atomic counters of [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    commits: AtomicU64,
    frames: AtomicU64,
    events: AtomicU64,
    bytes: AtomicU64,
    syncs: AtomicU64,
}

impl Counters {
    /// Adds the numbers of a frame.
    pub(crate) fn add(&self, counted: Stats) {
        // The counters are independent of each other, so that no memory ordering between them is needed.
        self.commits.fetch_add(counted.commits, Ordering::Relaxed);
        self.frames.fetch_add(counted.frames, Ordering::Relaxed);
        self.events.fetch_add(counted.events, Ordering::Relaxed);
        self.bytes.fetch_add(counted.bytes, Ordering::Relaxed);
        self.syncs.fetch_add(counted.syncs, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Stats {
        Stats {
            commits: self.commits.load(Ordering::Relaxed),
            frames: self.frames.load(Ordering::Relaxed),
            events: self.events.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            syncs: self.syncs.load(Ordering::Relaxed),
        }
    }
}
