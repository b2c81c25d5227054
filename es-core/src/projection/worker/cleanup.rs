//! Removal of the rows of retired generations.

use std::time::Duration;

use super::rows::{PAGE, Retired, RowKeys, decode, page, table};
use crate::consumer::lease::{HeldLease, row_error};
use crate::model::Clock;
use crate::projection::{Generation, remove_generation};
use crate::store::{Commit, EventStore, StoreError};

/// Removes the rows of all generations that were retired at least `keep` ago, in bounded commits. Waits for those that
/// were retired later.
///
/// The mark of a retired generation is removed last, so that an interrupted sweep is continued by the next one.
pub(crate) async fn sweep(
    store: &dyn EventStore,
    projection: &str,
    keys: &RowKeys,
    lease: &HeldLease,
    clock: &dyn Clock,
    keep: Duration,
) -> Result<(), StoreError> {
    loop {
        let marks = page(store, keys.all_retired(), None, PAGE).await?;
        if marks.is_empty() {
            return Ok(());
        }
        for mark in marks {
            let retired: Retired = decode(&mark.key, &mark.value)?;
            let Some(generation) = keys.generation_of_retired(&mark.key) else { continue };
            let remaining = || keep.saturating_sub((clock.now() - retired.at).to_std().unwrap_or_default());
            while !remaining().is_zero() {
                tokio::time::sleep(remaining().min(Duration::from_secs(1))).await;
            }
            remove(store, projection, keys, lease, generation).await?;
        }
    }
}

/// Removes all rows of a generation, then its retired mark.
async fn remove(
    store: &dyn EventStore,
    projection: &str,
    keys: &RowKeys,
    lease: &HeldLease,
    generation: Generation,
) -> Result<(), StoreError> {
    let rows = remove_generation(store, projection, generation, PAGE).await.map_err(row_error)?;
    for prefix in keys.parking_rows_of(generation) {
        loop {
            let rows = page(store, prefix.clone(), None, PAGE).await?;
            if rows.is_empty() {
                break;
            }
            let commit =
                rows.into_iter().fold(lease.expect(Commit::new()), |commit, row| commit.delete_row(table(), row.key));
            store.commit(commit).await.map_err(row_error)?;
        }
    }
    let commit = lease.expect(Commit::new()).delete_row(table(), keys.retired(generation));
    store.commit(commit).await.map_err(row_error)?;
    tracing::info!(projection, %generation, rows, "rows of a retired generation removed");
    Ok(())
}
