//! The claims of unique keys in a backup.
//!
//! ```text
//!   1 drop each claim that is not the one of the store    a claim that events of the store released, or made again
//!   2 write the new events                                they claim and release
//!   3 set what still differs                              claims and releases by events that were removed since the last backup
//! ```
//!
//! Step 1 comes first so that no stale claim refuses a new one: the event that released it may have been removed since. What it keeps
//! is the last claim of its key, so that no new event claims the key for another stream.

use super::BackupError;
use super::rows::{Change, compare};
use crate::read_only::ReadOnlyStore;
use crate::schema::Cf;
use crate::store::RocksDbStore;
use crate::verify::Progress;

/// Drops each claim of the last backup that differs from that of the store; returns how many claims differ.
pub(super) async fn drop_stale(
    source: &ReadOnlyStore,
    before: &ReadOnlyStore,
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

/// Makes the claims of the backup those of the store.
pub(super) async fn complete(
    source: &ReadOnlyStore,
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
