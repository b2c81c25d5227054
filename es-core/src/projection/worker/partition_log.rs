//! [`PartitionLog`]: the events of one partition in the log, and the erasures at which all partitions wait.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::consumer::selection::{Selection, ordering_key};
use crate::consumer::subscription::Subscription;
use crate::model::{EventView, Position, RecordedEvent};
use crate::projection::settled::{SettledMark, SettledStep};
use crate::projection::{Projection, is_projected, partition_of};
use crate::retention::Erasure;
use crate::store::StoreError;

/// The part of a batch that only a feed in canonical order has.
pub(super) struct CanonicalPart {
    /// One step for each event of the batch.
    pub(super) steps: Vec<SettledStep>,
    /// The mark after the batch.
    pub(super) mark: SettledMark,
    /// The number of events that arrived below the settled time.
    pub(super) late: u64,
}

/// The events of one partition in the log.
pub(super) struct PartitionLog<'p, P> {
    pub(super) projection: &'p P,
    pub(super) selection: Selection,
    pub(super) partition: u32,
    pub(super) partitions: u32,
    pub(super) log: Subscription,
}

/// The events of one partition in a batch of the log, with their keys.
#[derive(Default)]
pub(super) struct PartitionBatch {
    pub(super) events: Vec<(String, RecordedEvent)>,
    /// The erasures of all partitions in the batch. Empty if there is only one partition.
    pub(super) barriers: Vec<Barrier>,
    /// The position up to which the log was scanned.
    pub(super) scanned: Option<Position>,
    pub(super) canonical: Option<CanonicalPart>,
}

/// An erasure at which the partitions wait for each other: it may concern rows of every partition. One partition
/// applies it, after all partitions have applied the events before it. The others apply the events after it only then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Barrier {
    /// The position of the erasure.
    pub(super) position: Position,
    /// The partition that applies the erasure.
    pub(super) owner: u32,
}

impl<P: Projection> PartitionLog<'_, P> {
    /// Reads the next batch. Does not copy the events of other partitions.
    pub(super) async fn next(&mut self) -> Result<PartitionBatch, StoreError> {
        let Self { projection, selection, partition, partitions, log } = self;
        let mut batch = PartitionBatch::default();
        let mut visitor = |event: EventView<'_>| {
            if is_projected(event.0) && selection.includes(event.0) {
                let key = key_of(*projection, event.0);
                let owner = partition_of(&key, *partitions);
                if *partitions > 1 && Erasure::of(event.0).is_some() {
                    batch.barriers.push(Barrier { position: event.position(), owner });
                }
                if owner == *partition {
                    batch.events.push((key, event.to_recorded()));
                }
            }
            ControlFlow::Continue(())
        };
        let scanned = log.visit_next(&mut visitor).await?;
        Ok(PartitionBatch { scanned, ..batch })
    }
}

impl PartitionBatch {
    /// Returns the batch without the events after a position.
    pub(super) fn up_to(mut self, until: Option<Position>) -> Self {
        if until.is_some() {
            self.events.retain(|(_, event)| Some(event.position) <= until);
            self.barriers.retain(|barrier| Some(barrier.position) <= until);
            self.scanned = self.scanned.min(until);
        }
        self
    }
}

/// Returns the key of an event. If the projection panics, this is the name of the stream, and the event is parked under
/// it.
pub(super) fn key_of<P: Projection>(projection: &P, event: &RecordedEvent) -> String {
    let key = AssertUnwindSafe(|| ordering_key(event, |event| projection.key(event)));
    catch_unwind(key).unwrap_or_else(|_| event.stream.as_str().to_owned())
}
