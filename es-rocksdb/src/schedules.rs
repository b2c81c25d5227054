//! Support for the tests in `tests/schedules`: starts stores one after the other on one open index, because opening an
//! index takes longer than a schedule. The log of each start is opened from its disk.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use es_core::StoreError;
use es_log::Disk;
use rocksdb::WriteBatch;

use crate::OpenError;
use crate::engine::database::{Database, Tier};
use crate::engine::layout;
use crate::open;
use crate::options::Options;
use crate::schema::{Cf, META_CREATED, META_FORMAT, META_KEY_SECRET, META_STORE_ID};
use crate::store::RocksDbStore;

/// An open index and the disk of its log, on which stores are started and closed.
#[derive(Clone)]
pub struct Ground {
    /// Taken while a store starts.
    database: Arc<Mutex<Option<Arc<Database>>>>,
    directory: PathBuf,
    disk: Arc<dyn Disk>,
}

impl std::fmt::Debug for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ground").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Ground {
    /// Opens the index in a directory. The log will be on `disk`.
    ///
    /// # Errors
    /// [`OpenError`] if the index cannot be opened.
    pub fn open(directory: &Path, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let database = open::open_index(directory, &Options::new())?;
        let database = Arc::new(Mutex::new(Some(Arc::new(database))));
        Ok(Self { database, directory: directory.to_owned(), disk })
    }

    /// Removes everything but the identity of the store from the index, for a store whose log will be on this disk. The
    /// previous store must be closed.
    ///
    /// # Errors
    /// [`OpenError`] as for [`start`](Self::start).
    pub fn renewed(&self, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let open = self.slot().as_ref().map(Arc::clone);
        let database = open.ok_or_else(|| OpenError::AlreadyOpen { directory: self.directory.clone() })?;
        let emptied = empty(&database);
        emptied.map_err(|error| OpenError::of_store(&self.directory, "empty the index", error))?;
        Ok(Self { disk, ..self.clone() })
    }

    /// Starts a store. The previous one must be closed.
    ///
    /// # Errors
    /// [`OpenError`] if the store cannot be opened. [`OpenError::AlreadyOpen`] if the previous one still uses the
    /// index, or after an earlier error.
    pub fn start(&self, options: &Options) -> Result<RocksDbStore, OpenError> {
        let free = self.slot().take().and_then(Arc::into_inner);
        let database = free.ok_or_else(|| OpenError::AlreadyOpen { directory: self.directory.clone() })?;
        let log = open::open_log(&self.directory, options, Arc::clone(&self.disk))?;
        open::describe(&database, &log, options)?;
        let opened = open::assemble(database, log, options)?;
        *self.slot() = Some(Arc::clone(&opened.publisher.database));
        RocksDbStore::start(opened, options)
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Arc<Database>>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn empty(database: &Database) -> Result<(), StoreError> {
    let mut batch = WriteBatch::new();
    for cf in Cf::ALL {
        // No key is after it.
        batch.delete_range_cf(database.family(cf)?, [].as_slice(), [u8::MAX; 64].as_slice());
    }
    // A store without an identity would write one, and wait until it is on disk.
    for key in [META_FORMAT, META_KEY_SECRET, META_STORE_ID, META_CREATED] {
        if let Some(value) = database.get(Cf::Meta, key, Tier::Any)? {
            batch.put_cf(database.family(Cf::Meta)?, key, &*value);
        }
    }
    Ok(layout::write(database, &batch)?)
}
