//! Checkpoints: up to where a generation of a view has applied the log, one row for each partition.
//!
//! ```text
//!   table "checkpoints"   key: projection 0x00 generation (u64) partition (u32), big endian   value: {"position":17}
//! ```
//!
//! The row is written in the commit of the rows that it speaks of. Background and inline projections write the same row, so that
//! a projection can be moved from one to the other and keeps its view. Who may write it (a lease) stands elsewhere.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::Position;
use crate::model::Table;
use crate::model::digest::Fnv;
use crate::model::reserved;
use crate::projection::generation::{Build, Generation};
use crate::store::{EventReader, StoreError};

/// Up to where a partition has applied the log, with all events that its query leaves out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// The last position that counts; `None` before the first.
    pub(crate) position: Option<Position>,
}

impl Checkpoint {
    /// A checkpoint at a position.
    pub(crate) const fn at(position: Option<Position>) -> Self {
        Self { position }
    }

    /// What is written, in one form only, so that it can be compared byte by byte.
    pub(crate) fn encode(&self) -> Bytes {
        match self.position {
            Some(position) => format!("{{\"position\":{position}}}").into(),
            None => Bytes::from_static(b"{\"position\":null}"),
        }
    }

    /// Reads a row; without one the partition is before the first event.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it is not what was written.
    pub(crate) fn decode(projection: &str, row: Option<&[u8]>) -> Result<Self, StoreError> {
        let Some(row) = row else { return Ok(Self::default()) };
        serde_json::from_slice(row).map_err(|error| {
            StoreError::damaged(format!("a checkpoint of projection {projection:?}"), error.to_string())
        })
    }
}

/// The table of all checkpoints.
pub(crate) fn checkpoints_table() -> Table {
    Table::well_known(reserved::CHECKPOINTS)
}

/// What the keys of the checkpoints of a generation begin with.
pub(crate) fn checkpoint_prefix(projection: &str, generation: Generation) -> Bytes {
    [projection.as_bytes(), &[0], &generation.get().to_be_bytes()].concat().into()
}

/// The key of the checkpoint of a partition, which counts from 0.
pub(crate) fn checkpoint_key(projection: &str, generation: Generation, partition: u32) -> Bytes {
    [projection.as_bytes(), &[0], &generation.get().to_be_bytes(), &partition.to_be_bytes()].concat().into()
}

/// The checkpoint of a partition.
///
/// # Errors
/// [`StoreError`] when the row cannot be read.
pub(crate) async fn checkpoint(
    store: &dyn EventReader,
    projection: &str,
    generation: Generation,
    partition: u32,
) -> Result<Checkpoint, StoreError> {
    let row = store.row(&checkpoints_table(), &checkpoint_key(projection, generation, partition)).await?;
    Checkpoint::decode(projection, row.as_deref())
}

/// Up to where all partitions of a build have applied the log: every event up to here counts in its rows.
///
/// # Errors
/// [`StoreError`] when a row cannot be read.
pub(crate) async fn applied(
    store: &dyn EventReader,
    projection: &str,
    build: &Build,
) -> Result<Checkpoint, StoreError> {
    let mut least = None;
    for partition in 0..build.partitions {
        let found = checkpoint(store, projection, build.generation, partition).await?;
        least = Some(least.map_or(found, |least: Checkpoint| least.min(found)));
    }
    Ok(least.unwrap_or_default())
}

/// Returns the partition, from 0, to which an ordering key belongs. It depends on the key and the number of partitions alone.
#[must_use]
pub fn partition_of(key: &str, partitions: u32) -> u32 {
    let digest = Fnv::of(key.as_bytes());
    // NOTE: the upper half is the better mixed one in this digest.
    let mixed = (digest ^ (digest >> 32)) % u64::from(partitions.max(1));
    u32::try_from(mixed).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_back_and_absent_is_before_the_first() {
        for checkpoint in [Checkpoint::default(), Checkpoint::at(Position::new(u64::MAX))] {
            let row = checkpoint.encode();
            assert_eq!(Checkpoint::decode("p", Some(&row)).unwrap(), checkpoint);
        }
        assert_eq!(Checkpoint::decode("p", None).unwrap().position, None);
        assert!(Checkpoint::decode("p", Some(b"17")).is_err());
        assert!(Checkpoint::default() < Checkpoint::at(Some(Position::FIRST)));
    }

    /// A partition may never change: the rows of a key would be built by two.
    #[test]
    fn the_partition_of_a_key_is_for_ever() {
        let found = ["order-1", "order-2", "order-3", "customer-VINET", ""].map(|key| partition_of(key, 4));
        assert_eq!(found, [2, 3, 0, 0, 1]);
        assert_eq!(partition_of("order-1", 1), 0);
        assert_eq!(partition_of("order-1", 0), 0);
        let counts = (0..1000).fold([0u32; 4], |mut counts, number| {
            counts[partition_of(&format!("order-{number}"), 4) as usize] += 1;
            counts
        });
        assert!(counts.iter().all(|count| *count > 200), "{counts:?}");
    }
}
