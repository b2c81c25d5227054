//! [`reset_followers`]: resets projections, consumers and stored command results after the log lost events at its end.
//!
//! ```text
//!   repair that lost events --> reset_followers --+--> views and checkpoints: removed, rebuilt at the next start
//!                                                 +--> consumer groups and reactors: set back to the head of the log
//!                                                 +--> results of commands whose events are lost: removed
//! ```
//!
//! Views, checkpoints and consumers follow the log by position. After a loss they are ahead of the log: new events get
//! positions that they have already processed, so they would silently skip these events.

use crate::aggregate::repository;
use crate::consumer::group;
use crate::projection::{self, Generations, generations_table};
use crate::store::{CommitError, EventStore, RowScan};

/// The number of rows that are read or removed per commit.
const ROWS_PER_COMMIT: usize = 1024;

/// The number of followers that [`reset_followers`] has reset, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FollowersReset {
    /// Projections whose views were removed. They are rebuilt from the first event at the next start.
    pub projections: u64,
    /// Consumer groups and reactors that were set back to the head of the log. Their effects for lost events remain.
    pub groups: u64,
    /// Results of commands whose events are lost. These commands can be executed again.
    pub commands: u64,
}

/// Resets everything that follows the log, after events at its end were lost.
///
/// Removes the views of all projections together with their control rows and dead letters, removes the stored results
/// of commands whose events are lost, and sets consumer groups and reactors that are ahead of the log back to its head.
/// Snapshots are not changed.
///
/// No other process may have the store open. An interrupted call can be repeated.
///
/// # Errors
/// [`CommitError::Store`] if the store failed.
pub async fn reset_followers(store: &dyn EventStore) -> Result<FollowersReset, CommitError> {
    let mut reset = FollowersReset::default();
    loop {
        let rows = store.rows(RowScan::new(generations_table(), Vec::new(), ROWS_PER_COMMIT)).await?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            let name = String::from_utf8_lossy(&row.key).into_owned();
            let generations = Generations::decode(&name, Some(&row.value))?;
            projection::remove_projection(store, &name, &generations, projection::worker_rows(&name), ROWS_PER_COMMIT)
                .await?;
            reset.projections += 1;
        }
    }
    reset.commands = repository::remove_lost_results(store, ROWS_PER_COMMIT).await?;
    reset.groups = group::set_back(store, store.head().await?).await?;
    Ok(reset)
}
