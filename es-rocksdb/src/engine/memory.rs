//! [`Memory`]: the memory that RocksDB uses.

use es_core::StoreError;

use crate::engine::database::Database;
use crate::error;
use crate::schema::Cf;

/// The memory that RocksDB uses for a store, in bytes.
///
/// [`RocksDbStore::memory`](crate::RocksDbStore::memory) returns it. Each part stays near its limit in the
/// [`Options`](crate::Options), independent of the length of the log and the number of streams.
/// [`Options`](crate::Options) also documents the memory of the store outside of RocksDB, and why the resident set of
/// the process is larger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// Memtables: writes that are not in table files yet. Limited by
    /// [`Options::write_buffer_bytes`](crate::Options::write_buffer_bytes), plus new writes during a flush.
    pub write_buffers: u64,
    /// Cached blocks, indexes and filters of table files. Limited by
    /// [`Options::block_cache_bytes`](crate::Options::block_cache_bytes).
    pub block_cache: u64,
    /// Metadata of the open table files, about a kilobyte each. Limited by
    /// [`Options::max_open_files`](crate::Options::max_open_files).
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
            // All families share one cache.
            block_cache: number(Cf::Streams, "rocksdb.block-cache-usage")?,
            open_files: of_all("rocksdb.estimate-table-readers-mem")?,
        })
    }
}
