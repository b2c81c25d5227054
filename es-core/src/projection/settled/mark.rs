//! [`SettledMark`]: the place of a view in canonical order.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::{CanonicalKey, Dot, HybridTime, OriginId, Position, VectorClock};
use crate::store::{StoreError, encode_row};

/// The place of a view in canonical order. A checkpoint row has it beside the position of the log.
///
/// The key alone would not do: it cannot distinguish an event that was applied from one that arrived below it while the
/// projection was stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettledMark {
    /// The canonical key of the last applied event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<(HybridTime, OriginId)>,
    /// For each origin the last event that was applied or skipped.
    clock: VectorClock,
    /// The position of the last applied event that is not replicated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<Position>,
    /// The position up to which events of these origins were taken into account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<Position>,
    /// The number of applied events.
    events: u64,
}

/// Where an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The event is replicated.
    Origin(Dot),
    /// Only this node has the event.
    Local(Position),
}

/// The step from one event to the next in canonical order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SettledStep {
    /// `None` for an erasure, which has no place in canonical order.
    pub(crate) key: Option<CanonicalKey>,
    pub(crate) lane: Lane,
}

/// A checkpoint row with a mark.
#[derive(Serialize, Deserialize)]
struct MarkedCheckpoint {
    position: Option<Position>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settled: Option<SettledMark>,
}

impl SettledMark {
    /// Returns the mark in a checkpoint row, if it has one.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the row is not an encoded checkpoint.
    pub(crate) fn of_checkpoint(projection: &str, row: Option<&[u8]>) -> Result<Option<Self>, StoreError> {
        let Some(row) = row else { return Ok(None) };
        let checkpoint: MarkedCheckpoint = serde_json::from_slice(row).map_err(|error| {
            StoreError::damaged(format!("a checkpoint of projection {projection:?}"), error.to_string())
        })?;
        Ok(checkpoint.settled)
    }

    /// Encodes a checkpoint row. The encoding is canonical, because commits compare it byte by byte.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the value cannot be written as JSON, which does not happen for this type.
    pub(crate) fn checkpoint(&self, position: Option<Position>) -> Result<Bytes, StoreError> {
        encode_row(&MarkedCheckpoint { position, settled: Some(self.clone()) })
    }

    /// Returns `true` if the event with this key follows the last applied one. Events that were recorded before the
    /// replication can have equal keys, and are in the order of their origin.
    pub(crate) fn precedes(&self, key: CanonicalKey) -> bool {
        self.key.is_none_or(|last| last <= (key.time, key.origin))
    }

    /// Returns `true` if the last applied event precedes that of another view.
    pub(crate) fn is_before(&self, other: &Self) -> bool {
        self.key < other.key
    }

    /// Moves the mark after an applied event.
    pub(crate) fn apply(&mut self, step: SettledStep) {
        self.skip(step.lane);
        self.events += 1;
        if let Some(CanonicalKey { time, origin }) = step.key {
            self.key = Some((time, origin));
        }
    }

    /// Moves the mark after an event that is not applied.
    pub(crate) fn skip(&mut self, lane: Lane) {
        match lane {
            Lane::Origin(dot) => self.clock.extend([dot]),
            Lane::Local(position) => self.log = self.log.max(Some(position)),
        }
    }

    /// Returns the last sequence of an origin that was applied or skipped, or 0.
    pub(crate) fn sequence(&self, origin: OriginId) -> u64 {
        self.clock.get(origin).map_or(0, std::num::NonZeroU64::get)
    }

    /// Returns `true` if an event was applied or skipped.
    pub(crate) fn includes(&self, dot: Dot) -> bool {
        self.clock.includes(dot)
    }

    pub(crate) const fn log(&self) -> Option<Position> {
        self.log
    }

    pub(crate) const fn seen(&self) -> Option<Position> {
        self.seen
    }

    pub(crate) fn see(&mut self, position: Option<Position>) {
        self.seen = self.seen.max(position);
    }

    /// Returns the number of applied events: the place of the last one.
    pub(crate) const fn events(&self) -> u64 {
        self.events
    }
}
