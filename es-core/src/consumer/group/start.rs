//! Starts a group: raises its epoch, which fences off the process that had it open.

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::consumer::group::driver::{Driver, GroupEvents};
use crate::consumer::group::rows::{GroupRows, Stored};
use crate::consumer::group::running::RunningGroup;
use crate::consumer::group::shared::GroupCore;
use crate::consumer::group::state::{GroupBounds, GroupState};
use crate::consumer::group::{ConsumerGroup, Includes, StartAt};
use crate::consumer::lifecycle::StartError;
use crate::store::{CommitError, EventReader, EventStore};

/// The number of attempts to raise the epoch while other processes start the same group.
const ATTEMPTS: u32 = 20;

pub(crate) async fn start(group: ConsumerGroup, store: Arc<dyn EventStore>) -> Result<RunningGroup, StartError> {
    if Handle::try_current().is_err() {
        return Err(StartError::NoRuntime);
    }
    let rows = GroupRows::new(group.table, &group.name)?;
    let (stored, row) = raise_epoch(&rows, &*store, group.start_at).await?;
    // ORDER: after the new epoch is written, so that no other process can park an event any more.
    let parked = rows.parked(&*store).await?;
    let bounds = GroupBounds {
        is_ordered: group.is_ordered,
        capacity: group.capacity,
        attempts: u32::try_from(group.retry.attempts).unwrap_or(u32::MAX).max(1),
        parked: group.max_parked,
        answer_within: group.answer_within,
    };
    let state = GroupState::restore(bounds, &stored, parked);
    let (includes, scope, reader) = (group.includes, group.scope, Arc::clone(&store));
    let includes: Includes = Arc::new(move |event| includes(event) && scope.includes(&*reader, event));
    let events = GroupEvents { query: group.query, includes, key: group.key };
    let shared = Arc::new(GroupCore::new(store, rows, group.clock, group.entropy, group.retry, state));
    let driver = Driver::new(Arc::clone(&shared), events, stored, row, group.capacity)?;
    Ok(RunningGroup::new(shared, tokio::spawn(driver.run())))
}

/// Writes the state row of the group with the next epoch, and returns it. Creates the row of a new group.
async fn raise_epoch(
    rows: &GroupRows,
    store: &dyn EventStore,
    start_at: StartAt,
) -> Result<(Stored, Bytes), StartError> {
    for _ in 0..ATTEMPTS {
        let current = rows.state(store).await?;
        let mut stored = match &current {
            Some(row) => rows.decode_state(row)?,
            None => Stored { checkpoint: first_checkpoint(store, start_at).await?, ..Stored::default() },
        };
        (stored.epoch, stored.sequence) = (stored.epoch.saturating_add(1), 0);
        let (commit, row) = rows.replace_state(current, &stored)?;
        match store.commit(commit).await {
            Ok(_) => return Ok((stored, row)),
            Err(CommitError::Conflict(_)) => {}
            Err(CommitError::Store(error)) => return Err(error.into()),
            Err(error) => {
                return Err(StartError::Refused { name: rows.name().to_owned(), source: Box::new(error) });
            }
        }
    }
    Err(StartError::Contended { name: rows.name().to_owned(), attempts: ATTEMPTS })
}

async fn first_checkpoint(
    store: &dyn EventReader,
    start_at: StartAt,
) -> Result<Option<crate::model::Position>, StartError> {
    match start_at {
        StartAt::Now => Ok(store.head().await?),
        StartAt::Beginning => Ok(None),
        StartAt::After(position) => {
            store.watch_head().check(Some(position))?;
            Ok(Some(position))
        }
    }
}
