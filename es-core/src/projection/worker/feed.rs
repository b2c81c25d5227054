//! [`Feed`]: where a worker gets its batches from, and [`Reached`], what it has reached with them.

use super::partition_log::{CanonicalPart, PartitionBatch, PartitionLog, key_of};
use crate::model::Position;
use crate::projection::Projection;
use crate::projection::settled::{CanonicalBatch, CanonicalLog, SettledMark};
use crate::store::StoreError;

/// The source of the batches of a worker.
#[expect(clippy::large_enum_variant, reason = "a worker has one feed, which does not move")]
pub(super) enum Feed<'p, P> {
    /// The events of one partition in the order of the log.
    Log(PartitionLog<'p, P>),
    /// All events in canonical order, up to the settled time.
    Canonical { projection: &'p P, log: Box<CanonicalLog> },
}

/// The checkpoint of a worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reached {
    /// The position up to which every event is applied or parked.
    pub(super) position: Option<Position>,
    /// The place in canonical order. `None` for a feed in the order of the log.
    pub(super) mark: Option<SettledMark>,
}

impl From<Option<Position>> for Reached {
    fn from(position: Option<Position>) -> Self {
        Self { position, mark: None }
    }
}

impl<P: Projection> Feed<'_, P> {
    /// Returns the next batch. Waits if there are no new events. If this future is dropped, no event is lost.
    pub(super) async fn next(&mut self) -> Result<PartitionBatch, StoreError> {
        match self {
            Self::Log(log) => log.next().await,
            Self::Canonical { projection, log } => Ok(keyed(*projection, log.next().await?)),
        }
    }

    /// Returns whether the next batch may have to be waited for.
    pub(super) fn is_at_head(&self) -> bool {
        match self {
            Self::Log(log) => log.log.is_at_head(),
            // Whether further events are settled is known only when they are read.
            Self::Canonical { .. } => true,
        }
    }
}

fn keyed<P: Projection>(projection: &P, batch: CanonicalBatch) -> PartitionBatch {
    let CanonicalBatch { events, steps, late, mark, position } = batch;
    if !late.is_empty() {
        tracing::error!(
            projection = P::NAME, events = late.len(), first = %late[0],
            "events arrived below the settled time; rebuilding the view"
        );
    }
    let events = events.into_iter().map(|event| (key_of(projection, &event), event)).collect();
    let canonical = Some(CanonicalPart { steps, mark, late: late.len() as u64 });
    PartitionBatch { events, barriers: Vec::new(), scanned: position, canonical }
}
