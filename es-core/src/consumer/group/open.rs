//! Opening a group: the epoch is raised, which fences off whoever had it open.

use std::sync::Arc;

use bytes::Bytes;

use crate::consumer::group::driver::Driver;
use crate::consumer::group::error::OpenGroupError;
use crate::consumer::group::rows::{GroupRows, Stored};
use crate::consumer::group::running::RunningGroup;
use crate::consumer::group::shared::GroupCore;
use crate::consumer::group::state::{GroupBounds, GroupState};
use crate::consumer::group::{ConsumerGroup, StartAt};
use crate::store::{CommitError, EventReader, EventStore, StoreError};

/// How often opening is tried while others open the group as well.
const TIMES: u32 = 20;

pub(crate) async fn open(group: ConsumerGroup, store: Arc<dyn EventStore>) -> Result<RunningGroup, OpenGroupError> {
    let rows = GroupRows::new(group.table, &group.name)?;
    let (stored, row) = raise_epoch(&rows, &*store, group.start_at).await?;
    // ORDER: behind the new epoch, so that nobody parks anything any more.
    let parked = rows.parked(&*store).await?;
    let bounds = GroupBounds {
        is_ordered: group.is_ordered,
        capacity: group.capacity,
        attempts: u32::try_from(group.retry.attempts).unwrap_or(u32::MAX).max(1),
        parked: group.max_parked,
        answer_within: group.answer_within,
    };
    let state = GroupState::restore(bounds, &stored, parked);
    let shared = Arc::new(GroupCore::new(store, rows, group.clock, group.retry, state));
    let driver = Driver::new(Arc::clone(&shared), group.query, group.key, stored, row, group.capacity);
    Ok(RunningGroup::new(shared, tokio::spawn(driver.run())))
}

/// Writes the state of the group as it was, or as that of a new one, under a new epoch.
async fn raise_epoch(
    rows: &GroupRows,
    store: &dyn EventStore,
    start_at: StartAt,
) -> Result<(Stored, Bytes), OpenGroupError> {
    for _ in 0..TIMES {
        let before = rows.state(store).await?;
        let mut stored = match &before {
            Some(row) => rows.decode_state(row)?,
            None => Stored { checkpoint: first_checkpoint(store, start_at).await?, ..Stored::default() },
        };
        (stored.epoch, stored.sequence) = (stored.epoch.saturating_add(1), 0);
        let (commit, row) = rows.advance(before, &stored)?;
        match store.commit(commit).await {
            Ok(_) => return Ok((stored, row)),
            Err(CommitError::Conflict(_)) => {}
            Err(CommitError::Store(error)) => return Err(error.into()),
            Err(error) => {
                return Err(OpenGroupError::Refused { name: rows.name().to_owned(), source: Box::new(error) });
            }
        }
    }
    Err(OpenGroupError::Contended { name: rows.name().to_owned(), times: TIMES })
}

async fn first_checkpoint(
    store: &dyn EventReader,
    start_at: StartAt,
) -> Result<Option<crate::model::Position>, StoreError> {
    match start_at {
        StartAt::Now => store.head().await,
        StartAt::Beginning => Ok(None),
        StartAt::After(position) => Ok(Some(position)),
    }
}
