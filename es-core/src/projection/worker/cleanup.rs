//! Removing the rows of views whose place another one took.

use std::time::Duration;

use super::claim::{Owned, store_error};
use super::rows::{PAGE, Retired, RowKeys, decode, page, table};
use crate::model::Clock;
use crate::projection::{Generation, remove_generation};
use crate::store::{Commit, EventStore, StoreError};

/// Removes the rows of all retired generations, once they have been so for `keep`, in bounded commits. Interrupted at any point,
/// it goes on the next time: the mark that a generation is retired goes last.
pub(crate) async fn sweep(
    store: &dyn EventStore,
    projection: &str,
    keys: &RowKeys,
    owned: &Owned,
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
            while let Some(left) =
                keep.checked_sub((clock.now() - retired.at).to_std().unwrap_or_default()).filter(|left| !left.is_zero())
            {
                tokio::time::sleep(left.min(Duration::from_secs(1))).await;
            }
            remove(store, projection, keys, owned, generation).await?;
        }
    }
}

async fn remove(
    store: &dyn EventStore,
    projection: &str,
    keys: &RowKeys,
    owned: &Owned,
    generation: Generation,
) -> Result<(), StoreError> {
    let rows = remove_generation(store, projection, generation, PAGE).await.map_err(store_error)?;
    for prefix in keys.everything_of(generation) {
        loop {
            let found = page(store, prefix.clone(), None, PAGE).await?;
            if found.is_empty() {
                break;
            }
            let commit =
                found.into_iter().fold(owned.expect(Commit::new()), |commit, row| commit.delete_row(table(), row.key));
            store.commit(commit).await.map_err(store_error)?;
        }
    }
    let commit = owned.expect(Commit::new()).delete_row(table(), keys.retired(generation));
    store.commit(commit).await.map_err(store_error)?;
    tracing::info!(projection, %generation, rows, "rows of an old view removed");
    Ok(())
}
