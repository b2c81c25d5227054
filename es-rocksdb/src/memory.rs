//! [`Memory`]: what RocksDB takes of it.

use es_core::StoreError;

use crate::database::Database;
use crate::error;
use crate::schema::Cf;

/// What RocksDB takes of memory for a store just now, in bytes. See [`RocksDbStore::memory`](crate::RocksDbStore::memory).
///
/// Each part keeps about to its bound in the [`Options`](crate::Options), however long the log is and however many streams it
/// has. They also say what the store takes beside it, and why the system counts more as resident.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// What was written and is not in table files yet: up to [`Options::write_buffer_bytes`](crate::Options::write_buffer_bytes), and
    /// while that is being written to files, what comes in meanwhile.
    pub write_buffers: u64,
    /// What was read, with the indexes and filters of table files: [`Options::block_cache_bytes`](crate::Options::block_cache_bytes).
    pub block_cache: u64,
    /// What is known of the files that are open, about a kilobyte each: [`Options::max_open_files`](crate::Options::max_open_files).
    pub open_files: u64,
}

impl Memory {
    pub(crate) fn of(database: &Database) -> Result<Self, StoreError> {
        let number = |cf: Cf, property: &str| {
            let number = database.raw().property_int_value_cf(database.family(cf)?, property);
            let number = number.map_err(|error| error::of_rocksdb("ask for", property, error))?;
            number.ok_or_else(|| StoreError::io("ask RocksDB for a number", format!("it has no {property}")))
        };
        let of_all = |property| Cf::ALL.iter().map(|cf| number(*cf, property)).sum::<Result<u64, StoreError>>();
        Ok(Self {
            write_buffers: of_all("rocksdb.size-all-mem-tables")?,
            // NOTE: all families share one cache.
            block_cache: number(Cf::Log, "rocksdb.block-cache-usage")?,
            open_files: of_all("rocksdb.estimate-table-readers-mem")?,
        })
    }
}
