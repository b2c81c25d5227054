//! What is measured, and of whom.

use std::fmt;
use std::path::Path;
use std::time::Duration;

/// Who appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contender {
    /// This project's store: checks, indexes and idempotency included.
    Store,
    /// L1: as many threads, each writing the same bytes to RocksDB in a synced batch of its own.
    EachThread,
    /// L2: one thread that gathers what waits into one RocksDB batch and syncs once.
    OneThread,
    /// The disk: one thread that gathers what waits, writes it to a bare file and calls `fdatasync` once.
    File,
}

impl Contender {
    pub(crate) const ALL: [Self; 4] = [Self::Store, Self::EachThread, Self::OneThread, Self::File];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Store => "es-rocksdb",
            Self::EachThread => "RocksDB, a synced batch per thread (L1)",
            Self::OneThread => "RocksDB, one thread gathers (L2)",
            Self::File => "bare file, one thread gathers, fdatasync",
        }
    }
}

/// What is asked of each contender in each round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) writers: u32,
    /// Bytes of a payload.
    pub(crate) payload: usize,
    pub(crate) duration: Duration,
}

/// What the store hands to RocksDB for one event; the direct writers write the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// How many keys.
    pub(crate) puts: usize,
    /// How many bytes of keys and values together.
    pub(crate) bytes: usize,
}

/// What one contender did in one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) events: u64,
    pub(crate) elapsed: Duration,
}

impl Measured {
    pub(crate) fn per_second(self) -> f64 {
        self.events as f64 / self.elapsed.as_secs_f64()
    }
}

/// A benchmark that could not be run.
#[derive(Debug)]
pub(crate) struct Failure {
    action: String,
    reason: String,
}

impl Failure {
    pub(crate) fn new(action: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self { action: action.into(), reason: reason.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}: {}", self.action, self.reason)
    }
}

/// Removes a folder of a round, so that the disk does not fill.
pub(crate) fn remove(folder: &Path) -> Result<(), Failure> {
    std::fs::remove_dir_all(folder).map_err(|error| Failure::new(format!("remove {}", folder.display()), error))
}
