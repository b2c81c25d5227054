//! For the tests of schedules alone, in `tests/schedules`: stores over one open database, one after the other, so that a
//! schedule costs no opening; and a disk that fails.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::acknowledged::MarkFile;
use crate::database::Database;
use crate::open::{self, Identity, Opened};
use crate::options::{self, Durability, Options};
use crate::recent::RecentIds;
use crate::store::{RocksDbStore, THREAD_NAME};
use crate::sync::thread;
use crate::writer::WriteToDisk;

/// An open database, on which stores are started and closed.
#[derive(Clone)]
pub struct Ground {
    database: Arc<Database>,
    identity: Identity,
    turns: Arc<Turns>,
}

/// Whose turn it was to write, over all stores of a ground: whether a test has seen what it is for.
#[derive(Debug, Default)]
pub struct Turns {
    /// From a caller that wrote for itself to the writer's thread.
    pub to_thread: AtomicU64,
    /// And back.
    pub to_callers: AtomicU64,
    /// Whether a batch is on its way to the disk.
    pub is_writing: AtomicBool,
}

impl std::fmt::Debug for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ground").field("directory", &self.database.directory()).finish_non_exhaustive()
    }
}

impl Ground {
    /// Opens the database in a directory.
    ///
    /// # Errors
    /// [`OpenError`](crate::OpenError).
    pub fn open(directory: &Path) -> Result<Self, crate::OpenError> {
        let Opened { database, identity, .. } = open::open(directory, &Options::new())?;
        Ok(Self { database, identity, turns: Arc::default() })
    }

    /// Whose turn it was, and is.
    #[must_use]
    pub fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Starts a store as it starts after it was opened. Its disk takes so many batches and fails behind them, with nothing of
    /// the next one on it. The one before must be closed.
    ///
    /// # Errors
    /// [`OpenError`](crate::OpenError) when the end of the log cannot be read.
    pub fn start(&self, options: &Options, good_batches: usize) -> Result<RocksDbStore, crate::OpenError> {
        let directory = self.database.directory();
        let end = open::end_of_log(&self.database)
            .map_err(|error| crate::OpenError::of_store(directory, "read the end of the log", error))?;
        let mark =
            MarkFile::open(directory).map_err(|error| crate::OpenError::io(directory, "open the mark", error))?;
        let recent = RecentIds::of_database(&self.database)
            .map_err(|error| crate::OpenError::of_store(directory, "read the newest event ids", error))?;
        let (database, turns) = (Arc::clone(&self.database), Arc::clone(&self.turns));
        let mut last_was_thread = None;
        let mut left = good_batches;
        let disk: WriteToDisk = Box::new(move |batch| {
            let is_thread = thread::current().name() == Some(THREAD_NAME);
            match last_was_thread.replace(is_thread) {
                Some(false) if is_thread => turns.to_thread.fetch_add(1, Ordering::Relaxed),
                Some(true) if !is_thread => turns.to_callers.fetch_add(1, Ordering::Relaxed),
                _ => 0,
            };
            // NOTE: a disk takes its time. Here whatever can happen meanwhile may happen.
            assert!(!turns.is_writing.swap(true, Ordering::Relaxed), "two write at a time");
            thread::yield_now();
            turns.is_writing.store(false, Ordering::Relaxed);
            left = left.checked_sub(1).ok_or("no space left on device")?;
            // NOTE: a schedule is about the order of threads; what a disk keeps is for the crash tests.
            Ok(database.raw().write_opt(batch, &options::write(Durability::Buffered))?)
        });
        let (database, identity) = (Arc::clone(&self.database), self.identity.clone());
        // No lease outlives a schedule.
        let opened = Opened { database, mark, end, recent, identity, opening: 1 };
        RocksDbStore::start(opened, options, Some(disk))
    }
}
