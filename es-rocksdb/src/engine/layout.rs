//! The directories of a store, and writes of its index.

use std::time::Duration;

use es_core::{Position, StoreError};
use rocksdb::{Cache, DBCompressionType, ErrorKind, WriteBatch, WriteOptions, properties};

use crate::engine::database::{Database, Tier};
use crate::engine::key;
use crate::error::of_rocksdb;
use crate::options::{self, Options};
use crate::schema::{Cf, META_APPLIED, META_APPLIED_FRAME, META_SEALING};

pub(crate) use crate::schema::{INDEX, LOG, TABLES};

/// Returns the options of a table that RocksDB takes over.
pub(crate) fn table_options(cf: Cf) -> rocksdb::Options {
    let mut family = options::family(cf, &Options::new(), &Cache::new_lru_cache(0));
    // A compaction compresses the table. Until then, compression would cost as much as the rest of the table.
    family.set_compression_type(DBCompressionType::None);
    family.set_bottommost_compression_type(DBCompressionType::None);
    family
}

/// The pause before a write that RocksDB refused is tried again.
const PAUSE: Duration = Duration::from_millis(1);
/// For how many pauses RocksDB may do nothing after an error, and refuse writes, until that counts as a failure.
const IDLE_PAUSES: u32 = 2_000;
/// How many errors RocksDB may have in the background while it refuses a write, until that counts as a failure. It
/// tries a compaction again after each.
const ERRORS: u64 = 3;

/// The cause of a failed write.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// RocksDB cannot write its tables now, such as without disk space. It tries again by itself, and accepts writes
    /// when the cause is gone.
    ForNow(rocksdb::Error),
    /// RocksDB accepts no more writes.
    ForGood(rocksdb::Error),
}

impl From<WriteError> for StoreError {
    fn from(error: WriteError) -> Self {
        let (WriteError::ForNow(error) | WriteError::ForGood(error)) = error;
        of_rocksdb("write", "rows and keys", error)
    }
}

impl From<rocksdb::Error> for WriteError {
    fn from(error: rocksdb::Error) -> Self {
        // RocksDB has a code for a lack of space, which its C interface does not return.
        let has_no_space = error.as_ref().contains("No space left on device");
        match error.kind() {
            ErrorKind::Incomplete => Self::ForNow(error),
            ErrorKind::IOError if has_no_space => Self::ForNow(error),
            _ => Self::ForGood(error),
        }
    }
}

/// Writes to the memtables. The log has the changes, so RocksDB's own log is not used. Waits while RocksDB has to write
/// or merge tables first.
///
/// # Errors
/// [`WriteError`] also if RocksDB cannot write tables, such as on a full disk. RocksDB itself would wait for free
/// space, and each commit with it.
pub(crate) fn write(database: &Database, batch: &WriteBatch) -> Result<(), WriteError> {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    options.set_no_slowdown(true);
    let (mut idle_pauses, errors) = (0, database.background_errors());
    loop {
        match database.raw().write_opt(WriteBatch::from_data(batch.data()), &options) {
            Ok(()) => return Ok(()),
            // RocksDB would have waited. After an error that it cannot recover from, the next attempt returns that.
            Err(error) if error.kind() == ErrorKind::Incomplete => {
                idle_pauses = if is_idle_after_an_error(database) { idle_pauses + 1 } else { 0 };
                if idle_pauses > IDLE_PAUSES || database.background_errors() >= errors + ERRORS {
                    return Err(error.into());
                }
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns whether RocksDB has had an error in the background and does nothing now that could let writes continue.
fn is_idle_after_an_error(database: &Database) -> bool {
    let number = |name| database.raw().property_int_value(name).ok().flatten().unwrap_or(0);
    let running = number(properties::NUM_RUNNING_FLUSHES) + number(properties::NUM_RUNNING_COMPACTIONS);
    running == 0 && database.background_errors() > 0
}

/// Writes all memtables to tables: rows, unique keys and metadata at one point of the log, and the deletions of a
/// scavenge.
pub(crate) fn flush(database: &Database) -> Result<(), StoreError> {
    let families: Result<Vec<_>, _> = Cf::ALL.into_iter().map(|cf| database.family(cf)).collect();
    let flushed = database.raw().flush_cfs_opt(&families?, &rocksdb::FlushOptions::default());
    flushed.map_err(|error| of_rocksdb("flush", "the index", error))
}

/// Writes to the memtables, and all memtables to tables, so that the batch is on disk.
pub(crate) fn write_and_flush(database: &Database, batch: &WriteBatch) -> Result<(), StoreError> {
    write(database, batch)?;
    flush(database)
}

/// Writes all memtables to tables, which then have the rows and unique keys of all frames up to this one.
pub(crate) fn flush_up_to(database: &Database, end: FrameEnd) -> Result<(), StoreError> {
    let mut applied = WriteBatch::new();
    applied.put_cf(database.family(Cf::Meta)?, META_APPLIED_FRAME, end.encode());
    write_and_flush(database, &applied)
}

/// Returns the position up to which the tables have all events.
pub(crate) fn applied(database: &Database) -> Result<Option<Position>, StoreError> {
    position_of(database, META_APPLIED, "the position up to which events are indexed")
}

/// Returns the position up to which the tables may have some entries of events.
pub(crate) fn sealing(database: &Database) -> Result<Option<Position>, StoreError> {
    position_of(database, META_SEALING, "the position up to which tables were being written")
}

fn position_of(database: &Database, key: &[u8], place: &str) -> Result<Option<Position>, StoreError> {
    let Some(value) = database.get(Cf::Meta, key, Tier::Any)? else { return Ok(None) };
    key::decode_position(&value).map(Some).map_err(|error| StoreError::damaged(place, error.to_string()))
}

/// The end of the log up to a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FrameEnd {
    /// The number of the frame; 0 for none.
    pub(crate) frame: u64,
    /// The last event up to it.
    pub(crate) head: Option<Position>,
}

impl FrameEnd {
    pub(crate) fn encode(self) -> [u8; 16] {
        let mut value = [0; 16];
        let (frame, head) = value.split_at_mut(8);
        frame.copy_from_slice(&self.frame.to_be_bytes());
        head.copy_from_slice(&self.head.map_or(0, Position::get).to_be_bytes());
        value
    }
}

/// Returns the frame up to which the tables have all rows and unique keys.
pub(crate) fn applied_frame(database: &Database) -> Result<FrameEnd, StoreError> {
    let Some(value) = database.get(Cf::Meta, META_APPLIED_FRAME, Tier::Any)? else { return Ok(FrameEnd::default()) };
    let [frame, head] = match value.as_chunks() {
        ([frame, head], []) => [frame, head].map(|number| u64::from_be_bytes(*number)),
        _ => {
            let detail = format!("expected 16 bytes, found {}", value.len());
            return Err(StoreError::damaged("the frame up to which rows are in tables", detail));
        }
    };
    Ok(FrameEnd { frame, head: Position::new(head) })
}
