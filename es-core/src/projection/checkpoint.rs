//! [`Checkpoint`]: the position up to which a generation of a view has applied the log, one row for each partition.
//!
//! ```text
//!   table "checkpoints"   key: projection 0x00 generation (u64) partition (u32), big endian   value: {"position":17}
//! ```
//!
//! The checkpoint is written in the same commit as the rows of the view. Background and inline projections write the
//! same row, so that a projection can be moved from one mode to the other and keeps its view.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::Position;
use crate::model::Table;
use crate::model::digest::Fnv;
use crate::model::reserved;
use crate::projection::generation::{Build, Generation};
use crate::store::{EventReader, StoreError};

/// The position up to which a partition has applied the log, including events that the query does not select.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// The last applied position; `None` before the first event.
    pub(crate) position: Option<Position>,
}

impl Checkpoint {
    /// Returns the checkpoint at a position.
    pub(crate) const fn at(position: Option<Position>) -> Self {
        Self { position }
    }

    /// Encodes the checkpoint. The encoding is canonical, because commits compare it byte by byte.
    pub(crate) fn encode(&self) -> Bytes {
        match self.position {
            Some(position) => format!("{{\"position\":{position}}}").into(),
            None => Bytes::from_static(b"{\"position\":null}"),
        }
    }

    /// Decodes a row. A missing row is a checkpoint before the first event.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the row is not an encoded checkpoint.
    pub(crate) fn decode(projection: &str, row: Option<&[u8]>) -> Result<Self, StoreError> {
        let Some(row) = row else { return Ok(Self::default()) };
        serde_json::from_slice(row).map_err(|error| {
            StoreError::damaged(format!("a checkpoint of projection {projection:?}"), error.to_string())
        })
    }
}

/// Returns the table of all checkpoints.
pub(crate) fn checkpoints_table() -> Table {
    Table::well_known(reserved::CHECKPOINTS)
}

/// Returns the prefix of the keys of the checkpoints of a generation.
pub(crate) fn checkpoint_prefix(projection: &str, generation: Generation) -> Bytes {
    [projection.as_bytes(), &[0], &generation.get().to_be_bytes()].concat().into()
}

/// Returns the key of the checkpoint of a partition, numbered from 0.
pub(crate) fn checkpoint_key(projection: &str, generation: Generation, partition: u32) -> Bytes {
    [projection.as_bytes(), &[0], &generation.get().to_be_bytes(), &partition.to_be_bytes()].concat().into()
}

/// Reads the checkpoint of a partition.
///
/// # Errors
/// [`StoreError`] if the row cannot be read or decoded.
pub(crate) async fn checkpoint(
    store: &dyn EventReader,
    projection: &str,
    generation: Generation,
    partition: u32,
) -> Result<Checkpoint, StoreError> {
    let row = store.row(&checkpoints_table(), &checkpoint_key(projection, generation, partition)).await?;
    Checkpoint::decode(projection, row.as_deref())
}

/// Reads the position up to which all partitions of a build have applied the log.
///
/// # Errors
/// [`StoreError`] if a row cannot be read or decoded.
pub(crate) async fn applied(
    store: &dyn EventReader,
    projection: &str,
    build: &Build,
) -> Result<Checkpoint, StoreError> {
    let mut minimum = None;
    for partition in 0..build.partitions {
        let checkpoint = checkpoint(store, projection, build.generation, partition).await?;
        minimum = Some(minimum.map_or(checkpoint, |minimum: Checkpoint| minimum.min(checkpoint)));
    }
    Ok(minimum.unwrap_or_default())
}

/// Returns the partition of an ordering key, numbered from 0. It depends only on the key and the number of partitions.
#[must_use]
pub fn partition_of(key: &str, partitions: u32) -> u32 {
    let digest = Fnv::of(key.as_bytes());
    // FNV mixes its upper half better than its lower half.
    let mixed = (digest ^ (digest >> 32)) % u64::from(partitions.max(1));
    u32::try_from(mixed).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_checkpoint_decodes_to_itself_and_a_missing_row_to_the_start() {
        for checkpoint in [Checkpoint::default(), Checkpoint::at(Position::new(u64::MAX))] {
            let row = checkpoint.encode();
            assert_eq!(Checkpoint::decode("p", Some(&row)).unwrap(), checkpoint);
        }
        assert_eq!(Checkpoint::decode("p", None).unwrap().position, None);
        assert!(Checkpoint::decode("p", Some(b"17")).is_err());
        assert!(Checkpoint::default() < Checkpoint::at(Some(Position::FIRST)));
    }

    /// If a key moved to another partition, that partition would skip or repeat its events.
    #[test]
    fn the_partition_of_a_key_never_changes() {
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
