//! RocksDB: typed reads, keys, the column families and their options.

pub(crate) mod changes;
pub(crate) mod database;
pub(crate) mod key;
pub(crate) mod layout;
pub(crate) mod memory;
pub(crate) mod rows;
