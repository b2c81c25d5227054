//! [`IndexBuilder`]: writes the index of a log again, from the log.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use es_core::store::Direction;
use es_core::{Position, StoreError};
use es_log::{ReadableLog, SystemDisk};
use rocksdb::WriteBatch;

use crate::engine::database::{Database, Tier};
use crate::engine::layout::{self, FrameEnd, LOG, TABLES};
use crate::error::OpenError;
use crate::index::Index;
use crate::index::recent::RecentIds;
use crate::open::replay::{ChangedKey, Replay, ReplayAccess};
use crate::open::{of_log_opening, open_index};
use crate::options::Options;
use crate::schema::{Cf, FORMAT_VERSION, META_APPLIED_FRAME, META_FORMAT};
use crate::writer::seal;

/// The number of bytes after which a batch is written.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// A new index, in a directory that has the log.
pub(crate) struct IndexBuilder {
    database: Database,
    batch: WriteBatch,
}

impl IndexBuilder {
    /// Creates the index.
    pub(crate) fn create(directory: &Path) -> Result<Self, OpenError> {
        let database = open_index(directory, &Options::new())?;
        let mut builder = Self { database, batch: WriteBatch::new() };
        let described = builder.put(Cf::Meta, META_FORMAT, &FORMAT_VERSION.to_be_bytes());
        described.map_err(|error| OpenError::of_store(directory, "describe the store", error))?;
        Ok(builder)
    }

    /// Sets a value that is not in the log.
    pub(crate) fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.batch.put_cf(self.database.family(cf)?, key, value);
        if self.batch.size_in_bytes() >= BATCH_BYTES { self.write() } else { Ok(()) }
    }

    /// Removes a value.
    pub(crate) fn delete(&mut self, cf: Cf, key: &[u8]) -> Result<(), StoreError> {
        self.batch.delete_cf(self.database.family(cf)?, key);
        Ok(())
    }

    /// Returns whether a key has a value.
    pub(crate) fn has(&mut self, cf: Cf, key: &[u8]) -> Result<bool, StoreError> {
        self.write()?;
        Ok(self.database.get(cf, key, Tier::Any)?.is_some())
    }

    /// Removes all values of a family.
    pub(crate) fn clear(&mut self, cf: Cf) -> Result<(), StoreError> {
        let mut keys = Vec::new();
        self.visit(cf, |key| keys.push(key.to_vec()))?;
        keys.iter().try_for_each(|key| self.delete(cf, key))?;
        self.write()
    }

    /// Returns the number of values of a family.
    pub(crate) fn count(&mut self, cf: Cf) -> Result<u64, StoreError> {
        let mut count = 0;
        self.visit(cf, |_| count += 1)?;
        Ok(count)
    }

    fn visit(&mut self, cf: Cf, mut visit: impl FnMut(&[u8])) -> Result<(), StoreError> {
        self.write()?;
        let mut each = |key: &[u8], _: &[u8]| {
            visit(key);
            Ok(ControlFlow::Continue(()))
        };
        Ok(self.database.visit_entries(cf, &[], (Direction::Forward, None), Tier::Any, &mut each)?)
    }

    /// Indexes the log, and applies the changes of rows and unique keys that `accepts` returns `true` for, given the
    /// position of the next event.
    pub(crate) fn fill(&mut self, accepts: &dyn Fn(Position, &ChangedKey) -> bool) -> Result<(), OpenError> {
        let directory = self.database.directory().to_owned();
        let log = ReadableLog::open(directory.join(LOG), Arc::new(SystemDisk));
        let log = log.map_err(|error| of_log_opening(&directory, error))?;
        let filled = self.write().and_then(|()| {
            let index = Index::new(Position::FIRST, RecentIds::of_database(&self.database)?, Options::new().index_run);
            Replay::new(&self.database, &log, &index, ReplayAccess::Writing).run(log.read_after(None), accepts)?;
            // All events and rows are in tables afterwards, so that no opening applies the changes that were skipped.
            let end = FrameEnd { frame: log.last_frame(), head: log.head() };
            index.end_run();
            while let Some(full) = index.oldest_full(log.head()) {
                let ids = seal::seal(&self.database, &log, &full, None, &directory.join(TABLES))?;
                index.remove_oldest(&ids);
            }
            self.put(Cf::Meta, META_APPLIED_FRAME, &end.encode())
        });
        filled.map_err(|error| OpenError::of_store(&directory, "index the log", error))
    }

    /// Writes everything to disk.
    pub(crate) fn finish(mut self) -> Result<(), StoreError> {
        self.write()?;
        layout::flush(&self.database)?;
        let tables = self.database.directory().join(TABLES);
        match std::fs::remove_dir(&tables) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::io("remove the directory of index tables", error))
            }
            _ => Ok(()),
        }
    }

    fn write(&mut self) -> Result<(), StoreError> {
        Ok(layout::write(&self.database, &std::mem::take(&mut self.batch))?)
    }
}
