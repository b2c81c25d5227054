//! For the tests of schedules alone, in `tests/schedules`: stores over one open database, one after the other, so that a
//! schedule costs no opening; and a disk that fails.

use std::path::Path;
use std::sync::Arc;

use crate::acknowledged::MarkFile;
use crate::database::Database;
use crate::open::{self, Opened};
use crate::options::{self, Durability, Options};
use crate::store::RocksDbStore;
use crate::writer::WriteToDisk;

/// An open database, on which stores are started and closed.
#[derive(Clone)]
pub struct Ground {
    database: Arc<Database>,
    id: uuid::Uuid,
    created: es_core::Timestamp,
}

impl std::fmt::Debug for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ground").field("folder", &self.database.folder()).finish_non_exhaustive()
    }
}

impl Ground {
    /// Opens the database in a folder.
    ///
    /// # Errors
    /// [`OpenError`](crate::OpenError).
    pub fn open(folder: &Path) -> Result<Self, crate::OpenError> {
        let Opened { database, id, created, .. } = open::open(folder, &Options::new())?;
        Ok(Self { database, id, created })
    }

    /// Starts a store as it starts after it was opened. Its disk takes so many batches and fails behind them, with nothing of
    /// the next one on it. The one before must be closed.
    ///
    /// # Errors
    /// [`OpenError`](crate::OpenError) when the end of the log cannot be read.
    pub fn start(&self, options: &Options, good_batches: usize) -> Result<RocksDbStore, crate::OpenError> {
        let folder = self.database.folder();
        let end = open::end_of_log(&self.database)
            .map_err(|error| crate::OpenError::of_store(folder, "read the end of the log", error))?;
        let mark = MarkFile::open(folder).map_err(|error| crate::OpenError::io(folder, "open the mark", error))?;
        let database = Arc::clone(&self.database);
        let mut left = good_batches;
        let disk: WriteToDisk = Box::new(move |batch| {
            left = left.checked_sub(1).ok_or("no space left on device")?;
            // NOTE: a schedule is about the order of threads; what a disk keeps is for the crash tests.
            Ok(database.raw().write_opt(batch, &options::write(Durability::Buffered))?)
        });
        let opened = Opened { database: Arc::clone(&self.database), mark, end, id: self.id, created: self.created };
        RocksDbStore::start(opened, options, Some(disk))
    }
}
