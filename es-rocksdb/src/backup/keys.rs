//! The claims of unique keys in a backup.
//!
//! ```text
//!   1 drop each claim that differs from the store    its key was released or claimed again since the last backup
//!   2 write the new events                           they claim and release keys
//!   3 copy the remaining differences                 claims and releases by events that were removed since then
//! ```
//!
//! Step 1 is first, so that no stale claim conflicts with a new one: the event that released the key can be removed. A
//! claim that step 1 keeps is the last one of its key, so that no new event claims the key for another stream.

use super::BackupError;
use super::rows::{Change, compare};
use crate::read_only::RocksDbReader;
use crate::schema::Cf;
use crate::store::RocksDbStore;
use crate::verify::Progress;

/// Drops each claim of the last backup that differs from the store. Returns the number of claims that differ.
pub(super) async fn drop_stale(
    source: &RocksDbReader,
    before: &RocksDbReader,
    target: &RocksDbStore,
    progress: Progress<'_>,
) -> Result<u64, BackupError> {
    let mut differing = 0;
    let mut from = Some(Vec::new());
    while let Some(key) = from {
        let chunk =
            source.shared().locked(|now| before.shared().locked(|before| compare(before, now, Cf::Keys, &key)))?;
        differing += chunk.changes.len() as u64;
        target.change_keys(chunk.changes.into_iter().map(|Change { key, .. }| (key, None)).collect()).await?;
        progress("unique keys", differing, None);
        from = chunk.next;
    }
    Ok(differing)
}

/// Copies the claims of the store that the backup lacks, and drops those that the store lacks.
pub(super) async fn complete(
    source: &RocksDbReader,
    target: &RocksDbStore,
    progress: Progress<'_>,
) -> Result<(), BackupError> {
    let (mut set, mut from) = (0, Some(Vec::new()));
    while let Some(key) = from {
        let backup = |now: &_| target.shared().locked(|backup| compare(backup, now, Cf::Keys, &key));
        let chunk = source.shared().locked(backup)?;
        set += chunk.changes.len() as u64;
        target.change_keys(chunk.changes.into_iter().map(|Change { key, now }| (key, now)).collect()).await?;
        progress("unique keys", set, None);
        from = chunk.next;
    }
    Ok(())
}
