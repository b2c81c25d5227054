//! [`Database`]: typed reads of RocksDB.

use std::cmp::Ordering;
use std::ops::{Bound, ControlFlow, Deref};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use es_core::model::Table;
use es_core::store::Direction;
use es_core::store::implement::{KeyHash, KeyOwner};
use es_core::{EventId, Position, Revision, StoreError, StreamId};
use rocksdb::{ColumnFamily, DB, DBPinnableSlice, DBRawIterator, ErrorKind, ReadOptions, ReadTier};

use crate::engine::changes::{ChangedEntry, UnflushedChanges};
use crate::engine::key::{self, KeyError};
use crate::error;
use crate::schema::Cf;
use crate::sync::switch_threads;

/// An open RocksDB database with the column families of a store.
pub(crate) struct Database {
    db: DB,
    /// UnflushedChanges over the keys of RocksDB. A database that is written has none.
    changes: UnflushedChanges,
    cached: ReadOptions,
    any: ReadOptions,
    directory: PathBuf,
}

/// A value that was read.
pub(crate) enum Value<'a> {
    Stored(DBPinnableSlice<'a>),
    Changed(&'a Bytes),
}

impl Deref for Value<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Stored(value) => value,
            Self::Changed(value) => value,
        }
    }
}

/// Receives keys and values, until it breaks.
pub(crate) type EntryVisitor<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, Fault> + 'a;

/// Where a read may look for data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    /// In memory only, so that the read may run on an executor thread. Other data is [`Fault::NotCached`].
    Cached,
    /// In memory and on disk. The read may block.
    Any,
}

/// The error of a read with a [`Tier`].
#[derive(Debug)]
pub(crate) enum Fault {
    /// The read needs the disk. Repeat it with [`Tier::Any`] on a thread that may block.
    NotCached,
    /// The read failed.
    Store(StoreError),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Store(error) => error,
            Fault::NotCached => Self::io("read", "RocksDB looked only in its cache"),
        }
    }
}

/// Formats the place of an event in the log for messages.
pub(crate) fn place_of(position: Position) -> String {
    format!("position {position}")
}

/// Formats the place of an event in its stream for messages.
pub(crate) fn place_in(stream: &StreamId, revision: Revision) -> String {
    format!("stream {stream:?}, revision {revision}")
}

/// The number of names up to which their ranges are compacted one by one.
const SEPARATE_RANGES: usize = 16;

impl Database {
    pub(crate) fn new(db: DB, directory: PathBuf) -> Self {
        let changes = UnflushedChanges::default();
        Self { db, changes, cached: read_options(Tier::Cached), any: read_options(Tier::Any), directory }
    }

    /// Reads these changes over the keys of RocksDB from now on.
    pub(crate) fn with_changes(self, changes: UnflushedChanges) -> Self {
        Self { changes, ..self }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the RocksDB database, for writes.
    pub(crate) fn raw(&self) -> &DB {
        switch_threads();
        &self.db
    }

    pub(crate) fn family(&self, cf: Cf) -> Result<&ColumnFamily, StoreError> {
        let missing = || StoreError::damaged(format!("column family {}", cf.name()), "expected it, found none");
        self.db.cf_handle(cf.name()).ok_or_else(missing)
    }

    pub(crate) fn get(&self, cf: Cf, key: &[u8], tier: Tier) -> Result<Option<Value<'_>>, Fault> {
        if let Some(changed) = self.changes.get(cf, key) {
            return Ok(changed.map(Value::Changed));
        }
        let options = match tier {
            Tier::Cached => &self.cached,
            Tier::Any => &self.any,
        };
        switch_threads();
        let found = self.db.get_pinned_cf_opt(self.family(cf)?, key, options).map_err(|error| fault(cf, error))?;
        Ok(found.map(Value::Stored))
    }

    /// Visits the keys of a family that start with `prefix`, in this direction, from `start` on if it is given, until
    /// the visitor breaks. Unlike [`iterate`](Self::iterate), it also visits changed keys that are not in RocksDB.
    pub(crate) fn visit_entries(
        &self,
        cf: Cf,
        prefix: &[u8],
        (direction, start): (Direction, Option<&[u8]>),
        tier: Tier,
        visit: &mut EntryVisitor<'_>,
    ) -> Result<(), Fault> {
        let mut stored = self.iterate(cf, prefix.to_vec(), tier)?;
        let changed: Box<dyn Iterator<Item = ChangedEntry<'_>>> = match direction {
            Direction::Forward => {
                let start = start.map_or(prefix, |start| start.max(prefix));
                stored.seek(start);
                Box::new(self.changes.range(cf, prefix, (Bound::Included(start), Bound::Unbounded)))
            }
            Direction::Backward => {
                match start {
                    Some(start) => stored.seek_for_prev(start),
                    None => stored.seek_to_last(),
                }
                let end = start.map_or(Bound::Unbounded, Bound::Included);
                Box::new(self.changes.range(cf, prefix, (Bound::Included(prefix), end)).rev())
            }
        };
        let mut changed = changed.peekable();
        loop {
            let order = match (item(&stored, cf)?, changed.peek()) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((stored, _)), Some((changed, _))) => match direction {
                    Direction::Forward => stored.cmp(changed),
                    Direction::Backward => stored.cmp(changed).reverse(),
                },
            };
            // A changed key replaces the same key of RocksDB.
            let next = if order == Ordering::Less {
                item(&stored, cf)?
            } else {
                changed.next().and_then(|(key, value)| Some((key, value?.as_ref())))
            };
            if let Some((key, value)) = next
                && visit(key, value)?.is_break()
            {
                return Ok(());
            }
            if order != Ordering::Greater {
                match direction {
                    Direction::Forward => stored.next(),
                    Direction::Backward => stored.prev(),
                }
            }
        }
    }

    /// Returns an iterator over the keys of a column family that start with `prefix`; over all keys if it is empty.
    pub(crate) fn iterate(&self, cf: Cf, prefix: Vec<u8>, tier: Tier) -> Result<DBRawIterator<'_>, StoreError> {
        let mut options = read_options(tier);
        switch_threads();
        options.set_iterate_range(rocksdb::PrefixRange(prefix));
        Ok(self.db.raw_iterator_cf_opt(self.family(cf)?, options))
    }

    /// Rewrites all table files of a column family into its last level, without deleted keys and overwritten values.
    pub(crate) fn compact(&self, cf: Cf) -> Result<(), StoreError> {
        self.compact_range(cf, None, None)
    }

    /// Rewrites the table files of the keys of these names, which are in order, as [`compact`](Self::compact) does. The
    /// range of many names is rewritten at once: a file can have the keys of thousands of them.
    pub(crate) fn compact_names(&self, cf: Cf, names: &[&str]) -> Result<(), StoreError> {
        let together = if names.len() > SEPARATE_RANGES { names.len() } else { 1 };
        for range in names.chunks(together) {
            let (Some(first), Some(last)) = (range.first(), range.last()) else { continue };
            let mut end = key::prefix(last);
            end.pop();
            end.push(key::SEPARATOR + 1);
            self.compact_range(cf, Some(&key::prefix(first)), Some(&end))?;
        }
        Ok(())
    }

    fn compact_range(&self, cf: Cf, start: Option<&[u8]>, end: Option<&[u8]>) -> Result<(), StoreError> {
        let mut options = rocksdb::CompactOptions::default();
        // Without this option, files that are already in the last level keep the bytes of deleted keys.
        options.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::ForceOptimized);
        // Writers would stall while automatic compactions wait for a long manual one.
        options.set_exclusive_manual_compaction(false);
        let before = self.background_errors();
        self.db.compact_range_cf_opt(self.family(cf)?, start, end, &options);
        // The bindings drop the status of a compaction, but RocksDB counts its errors. After an error that stops all
        // writes it refuses the compaction and counts nothing; the caller then fails with its next write.
        if self.background_errors() == before {
            return Ok(());
        }
        let advice =
            "RocksDB could not write all tables, for example because the disk is full; its file LOG has the error";
        Err(StoreError::io(format!("compact the {} of the index", cf.name()), advice))
    }

    /// Returns the number of errors of RocksDB's threads since the store was opened.
    pub(crate) fn background_errors(&self) -> u64 {
        self.db.property_int_value(rocksdb::properties::BACKGROUND_ERRORS).ok().flatten().unwrap_or(0)
    }

    /// Returns the position of the event with an id; `None` if there is none.
    pub(crate) fn position_of(&self, id: EventId, tier: Tier) -> Result<Option<Position>, Fault> {
        let Some(value) = self.get(Cf::Ids, &key::id(id), tier)? else { return Ok(None) };
        let position = key::decode_position(&value);
        Ok(Some(position.map_err(|error| StoreError::damaged(format!("event id {id}"), error.to_string()))?))
    }

    /// Returns the claim of the unique key with this hash.
    pub(crate) fn owner(&self, hash: &KeyHash, tier: Tier) -> Result<Option<KeyOwner>, Fault> {
        let Some(value) = self.get(Cf::Keys, hash.as_bytes(), tier)? else { return Ok(None) };
        let owner = key::decode_owner(&value);
        let damaged = |error: KeyError| StoreError::damaged(format!("owner of unique key {hash}"), error.to_string());
        Ok(Some(owner.map_err(damaged)?))
    }

    pub(crate) fn row(&self, table: &Table, key: &[u8], tier: Tier) -> Result<Option<Bytes>, Fault> {
        let value = self.get(Cf::Rows, &key::row(table, key), tier)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }
}

fn read_options(tier: Tier) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    options.set_read_tier(match tier {
        Tier::Cached => ReadTier::BlockCache,
        Tier::Any => ReadTier::All,
    });
    options
}

fn fault(cf: Cf, error: rocksdb::Error) -> Fault {
    match error.kind() {
        ErrorKind::Incomplete => Fault::NotCached,
        _ => Fault::Store(error::of_rocksdb("read", format!("column family {}", cf.name()), error)),
    }
}

/// A key and its value.
pub(crate) type Item<'a> = (&'a [u8], &'a [u8]);

/// Returns the current key and value of an iterator; `None` after the last.
pub(crate) fn item<'a>(iterator: &'a DBRawIterator<'_>, cf: Cf) -> Result<Option<Item<'a>>, Fault> {
    match iterator.item() {
        Some(item) => Ok(Some(item)),
        // An iterator also becomes invalid after a read error. Without this check, an error would look like the end.
        None => iterator.status().map(|()| None).map_err(|error| fault(cf, error)),
    }
}

/// Returns the error for a key that does not have the format of its column family.
pub(crate) fn bad_key(cf: Cf, key: &[u8], error: &dyn std::fmt::Display) -> StoreError {
    StoreError::damaged(format!("column family {}, key {}", cf.name(), key.escape_ascii()), error.to_string())
}

/// Returns the error for a key that is not a name.
pub(crate) fn bad_name(cf: Cf, key: &[u8]) -> StoreError {
    let place = format!("column family {}, key {}", cf.name(), key.escape_ascii());
    StoreError::damaged(place, "expected a name, found other bytes")
}

/// Returns the error for a position without an event.
pub(crate) fn missing_event(position: Position) -> StoreError {
    StoreError::damaged(place_of(position), "expected an event, found none")
}
