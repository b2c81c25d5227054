//! The rows of a backup: copies the rows that changed since the last backup.

use es_core::__private::table;
use es_core::{Commit, EventStore, StoreError};

use super::BackupError;
use crate::database::{Database, Tier, bad_name, item};
use crate::key::SEPARATOR;
use crate::read_only::RocksDbReader;
use crate::schema::Cf;
use crate::store::RocksDbStore;
use crate::verify::Progress;

/// The limits of a chunk: compared entries, and bytes of changes. A larger entry is a chunk of its own.
const CHUNK_ENTRIES: usize = 1024;
const CHUNK_BYTES: usize = 8 * 1024 * 1024;

/// A changed entry, with its new value; `None` if it was deleted.
pub(super) struct Change {
    pub(super) key: Vec<u8>,
    pub(super) now: Option<Vec<u8>>,
}

/// The changes of a range of keys, and the first key of the next range; `None` at the end.
pub(super) struct Chunk {
    pub(super) changes: Vec<Change>,
    pub(super) next: Option<Vec<u8>>,
}

/// Copies the changed rows of the store to the backup. Returns their number.
pub(super) async fn copy(
    source: &RocksDbReader,
    before: &RocksDbReader,
    target: &RocksDbStore,
    progress: Progress<'_>,
) -> Result<u64, BackupError> {
    let (mut changed, mut from) = (0, Some(Vec::new()));
    while let Some(key) = from {
        let chunk =
            source.shared().locked(|now| before.shared().locked(|before| compare(before, now, Cf::Rows, &key)))?;
        changed += chunk.changes.len() as u64;
        target.commit(chunk.changes.iter().try_fold(Commit::new(), apply)?).await?;
        progress("rows", changed, None);
        from = chunk.next;
    }
    Ok(changed)
}

/// Returns the next changes from a key on, with a merge of two ordered scans.
pub(super) fn compare(before: &Database, now: &Database, cf: Cf, from: &[u8]) -> Result<Chunk, StoreError> {
    let mut old_entries = before.iterate(cf, Vec::new(), Tier::Any)?;
    let mut new_entries = now.iterate(cf, Vec::new(), Tier::Any)?;
    old_entries.seek(from);
    new_entries.seek(from);
    let (mut changes, mut bytes, mut entries) = (Vec::new(), 0, 0);
    loop {
        let (old, new) = (item(&old_entries, cf)?, item(&new_entries, cf)?);
        let Some(key) = [old, new].into_iter().flatten().map(|(key, _)| key).min().map(<[u8]>::to_vec) else {
            return Ok(Chunk { changes, next: None });
        };
        if entries >= CHUNK_ENTRIES {
            return Ok(Chunk { changes, next: Some(key) });
        }
        let value_of =
            |item: Option<(&[u8], &[u8])>| item.filter(|(at, _)| *at == key).map(|(_, value)| value.to_vec());
        let (before, now) = (value_of(old), value_of(new));
        let (has_old, has_new) = (before.is_some(), now.is_some());
        entries += 1;
        if before != now {
            bytes += key.len() + now.as_ref().map_or(0, Vec::len);
            // ORDER: before the change is added. A chunk becomes one commit, and a row can be nearly as large as the
            // limit of a commit.
            if bytes > CHUNK_BYTES && !changes.is_empty() {
                return Ok(Chunk { changes, next: Some(key) });
            }
            changes.push(Change { key, now });
        }
        if has_old {
            old_entries.next();
        }
        if has_new {
            new_entries.next();
        }
    }
}

fn apply(commit: Commit, change: &Change) -> Result<Commit, StoreError> {
    let Change { key, now } = change;
    let bad = || bad_name(Cf::Rows, key);
    let at = key.iter().position(|byte| *byte == SEPARATOR).ok_or_else(bad)?;
    let (name, rest) = key.split_at(at);
    let rest = rest.get(1..).unwrap_or_default().to_vec();
    let table = std::str::from_utf8(name).ok().and_then(|name| table(name).ok()).ok_or_else(bad)?;
    Ok(match now {
        Some(value) => commit.put_row(table, rest, value.clone()),
        None => commit.delete_row(table, rest),
    })
}
