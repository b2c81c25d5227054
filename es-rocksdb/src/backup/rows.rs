//! Rows of a backup: those that differ from the last one are changed.

use es_core::__private::table;
use es_core::{Commit, EventStore, StoreError};

use super::BackupError;
use crate::database::{Database, Tier, bad_name, item};
use crate::key::SEPARATOR;
use crate::read_only::ReadOnlyStore;
use crate::schema::Cf;
use crate::store::RocksDbStore;
use crate::verify::Progress;

/// How many entries are compared, and how many bytes are changed at a time; one entry always is, however large.
const CHUNK_ENTRIES: usize = 1024;
const CHUNK_BYTES: usize = 8 * 1024 * 1024;

/// An entry that differs, and what it must be.
pub(super) struct Change {
    pub(super) key: Vec<u8>,
    pub(super) now: Option<Vec<u8>>,
}

/// Some changes, and the key at which to go on.
pub(super) struct Chunk {
    pub(super) changes: Vec<Change>,
    pub(super) next: Option<Vec<u8>>,
}

/// Makes the rows of the backup those of the store; returns how many were changed.
pub(super) async fn copy(
    source: &ReadOnlyStore,
    before: &ReadOnlyStore,
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

/// What differs from a key on: a merge of two ordered scans.
pub(super) fn compare(before: &Database, now: &Database, cf: Cf, from: &[u8]) -> Result<Chunk, StoreError> {
    let mut olds = before.iterate(cf, Vec::new(), Tier::Any)?;
    let mut news = now.iterate(cf, Vec::new(), Tier::Any)?;
    olds.seek(from);
    news.seek(from);
    let (mut changes, mut bytes, mut entries) = (Vec::new(), 0, 0);
    loop {
        let (old, new) = (item(&olds, cf)?, item(&news, cf)?);
        let Some(key) = [old, new].into_iter().flatten().map(|(key, _)| key).min().map(<[u8]>::to_vec) else {
            return Ok(Chunk { changes, next: None });
        };
        if entries >= CHUNK_ENTRIES {
            return Ok(Chunk { changes, next: Some(key) });
        }
        let at = |item: Option<(&[u8], &[u8])>| item.filter(|(at, _)| *at == key).map(|(_, value)| value.to_vec());
        let (before, now) = (at(old), at(new));
        let (step_old, step_new) = (before.is_some(), now.is_some());
        entries += 1;
        if before != now {
            bytes += key.len() + now.as_ref().map_or(0, Vec::len);
            // ORDER: before it is taken. A chunk becomes one commit, and a row may have nearly as many bytes as a commit may have.
            if bytes > CHUNK_BYTES && !changes.is_empty() {
                return Ok(Chunk { changes, next: Some(key) });
            }
            changes.push(Change { key, now });
        }
        if step_old {
            olds.next();
        }
        if step_new {
            news.next();
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
