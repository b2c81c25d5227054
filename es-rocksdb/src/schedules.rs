//! Support for the tests in `tests/schedules`: starts stores one after the other on one open database, because opening
//! a database for each schedule is slow. Their disk can fail.

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

/// Counts the changes between the threads that write, over all stores of a ground. A test checks with them that its
/// schedules covered both directions.
#[derive(Debug, Default)]
pub struct Turns {
    /// The number of changes from a caller that wrote its own commit to the writer thread.
    pub to_thread: AtomicU64,
    /// The number of changes from the writer thread to a caller.
    pub to_callers: AtomicU64,
    /// Whether a batch is being written.
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
    /// [`OpenError`](crate::OpenError) if the database cannot be opened.
    pub fn open(directory: &Path) -> Result<Self, crate::OpenError> {
        let Opened { database, identity, .. } = open::open(directory, &Options::new())?;
        Ok(Self { database, identity, turns: Arc::default() })
    }

    /// Returns the counts of all stores of this ground.
    #[must_use]
    pub fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Starts a store on the open database. Its disk writes `good_batches` batches and fails at the next one, of which
    /// it writes nothing. The previous store must be closed.
    ///
    /// # Errors
    /// [`OpenError`](crate::OpenError) if the end of the log cannot be read, or the mark cannot be opened.
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
        let mut remaining = good_batches;
        let disk: WriteToDisk = Box::new(move |batch| {
            let is_thread = thread::current().name() == Some(THREAD_NAME);
            match last_was_thread.replace(is_thread) {
                Some(false) if is_thread => turns.to_thread.fetch_add(1, Ordering::Relaxed),
                Some(true) if !is_thread => turns.to_callers.fetch_add(1, Ordering::Relaxed),
                _ => 0,
            };
            // The write of a real disk takes time. The yield lets the other threads run meanwhile.
            assert!(!turns.is_writing.swap(true, Ordering::Relaxed), "two write at a time");
            thread::yield_now();
            turns.is_writing.store(false, Ordering::Relaxed);
            remaining = remaining.checked_sub(1).ok_or("no space left on device")?;
            // A schedule tests the order of threads. The crash tests cover durability.
            Ok(database.raw().write_opt(batch, &options::write(Durability::Buffered))?)
        });
        let (database, identity) = (Arc::clone(&self.database), self.identity.clone());
        // The number of the opening distinguishes leases of earlier openings, and no lease outlives a schedule.
        let opened = Opened { database, mark, end, recent, identity, opening: 1 };
        RocksDbStore::start(opened, options, Some(disk))
    }
}
