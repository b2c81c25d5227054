//! The layout of a segmented store: its directories, the column families of its index, and writes of the index.

use std::path::Path;

use es_core::{Position, StoreError};
use rocksdb::{Cache, DBCompressionType, WriteBatch, WriteOptions};

use crate::database::{Database, Tier};
use crate::error::of_rocksdb;
use crate::key;
use crate::options::{self, Options};
use crate::schema::Cf;

/// The version of the layout: the column families, and their keys and values. `es-log` has its own.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// Key in [`Cf::Meta`]: the position up to which the tables have all events, 8 bytes big-endian. The log after it is
/// read when the store is opened.
pub(crate) const META_APPLIED: &[u8] = b"applied";

/// The directories within the directory of a store.
pub(crate) const LOG: &str = "log";
pub(crate) const INDEX: &str = "index";
pub(crate) const TABLES: &str = "tables";

/// The column families of the index.
pub(crate) const FAMILIES: [Cf; 9] =
    [Cf::Streams, Cf::Heads, Cf::Ids, Cf::Categories, Cf::Types, Cf::Tags, Cf::Keys, Cf::Rows, Cf::Meta];

/// Returns whether a directory has a segmented store, or a part of one.
pub(crate) fn is_segmented(directory: &Path) -> bool {
    [LOG, INDEX].iter().any(|part| directory.join(part).is_dir())
}

/// Returns the options of a table that RocksDB takes over.
pub(crate) fn table_options(cf: Cf) -> rocksdb::Options {
    let mut family = options::family(cf, &Options::new(), &Cache::new_lru_cache(0));
    // A compaction compresses the table. Until then, compression would cost as much as the rest of the table.
    family.set_compression_type(DBCompressionType::None);
    family.set_bottommost_compression_type(DBCompressionType::None);
    family
}

/// Writes to the memtables. The log has the changes, so RocksDB's own log is not used.
pub(crate) fn write(database: &Database, batch: WriteBatch) -> Result<(), StoreError> {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    database.raw().write_opt(batch, &options).map_err(|error| of_rocksdb("write", "rows and keys", error))
}

/// Writes all memtables to tables: rows, unique keys and metadata at one point of the log, and the deletions of a
/// scavenge.
pub(crate) fn flush(database: &Database) -> Result<(), StoreError> {
    let families: Result<Vec<_>, _> = FAMILIES.into_iter().map(|cf| database.family(cf)).collect();
    let flushed = database.raw().flush_cfs_opt(&families?, &rocksdb::FlushOptions::default());
    flushed.map_err(|error| of_rocksdb("flush", "the index", error))
}

/// Returns the position up to which the tables have all events.
pub(crate) fn applied(database: &Database) -> Result<Option<Position>, StoreError> {
    let Some(value) = database.get(Cf::Meta, META_APPLIED, Tier::Any)? else { return Ok(None) };
    let position = key::decode_position(&value);
    position
        .map(Some)
        .map_err(|error| StoreError::damaged("the position up to which events are indexed", error.to_string()))
}
