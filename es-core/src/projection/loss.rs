//! What has to be forgotten when a log has lost its end.
//!
//! Views, checkpoints and consumers follow the log by position. Where acknowledged events were lost, they are ahead of it: the
//! next events get positions that they take for done, and would be passed over in silence. [`forget`] brings them back to the
//! log that there is. A repair that loses events calls it before anybody else opens the store.

use crate::aggregate::repository;
use crate::consumer::group;
use crate::projection::{self, Generations, generations_table};
use crate::store::{CommitError, EventStore, RowScan};

/// How many rows are looked at or removed at once.
const AT_ONCE: usize = 1024;

/// What was brought back to the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Projections whose views were removed. They are built again from the beginning when they are next started.
    pub projections: u64,
    /// Consumer groups and reactors that were set back to the end of the log. What they did for events that are lost is done.
    pub groups: u64,
    /// Results of commands whose events are lost: those commands can be given again.
    pub commands: u64,
}

/// Brings everything that follows the log back to the log that there is, after events at its end were lost: views of projections are
/// removed, with what their operators had asked for; results of commands whose events are lost are removed; consumer groups and reactors that are ahead are set back to the end of the log.
/// Snapshots are not touched.
///
/// Nothing else may have the store open. It can be called again when it was interrupted.
///
/// # Errors
/// [`CommitError::Store`] when the machinery failed: call it again.
pub async fn forget(store: &dyn EventStore) -> Result<Forgotten, CommitError> {
    let mut forgotten = Forgotten::default();
    loop {
        let rows = store.rows(RowScan::new(generations_table(), Vec::new(), AT_ONCE)).await?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            let name = String::from_utf8_lossy(&row.key).into_owned();
            let generations = Generations::decode(&name, Some(&row.value))?;
            projection::forget(store, &name, &generations, AT_ONCE).await?;
            forgotten.projections += 1;
        }
    }
    forgotten.commands = repository::forget_lost(store, AT_ONCE).await?;
    forgotten.groups = group::set_back(store, store.head().await?).await?;
    Ok(forgotten)
}
