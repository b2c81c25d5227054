//! Posting lists in tables, as blocks of positions.
//!
//! A block is one key: the name and its first position. The value has the distance of each further position from the
//! one before it, as a varint. A block costs RocksDB as much as one position would.

use std::collections::BTreeSet;

use es_core::store::Direction;
use es_core::{Position, StoreError};
use rocksdb::{DBRawIterator, WriteBatch};

use crate::engine::database::{Database, Tier, bad_key, item};
use crate::engine::key;
use crate::index::postings::{PostingList, nearest};
use crate::record::{FieldReader, RecordError, encode_varint};
use crate::schema::Cf;

/// The number of positions in a full block. A look-up decodes one block.
const BLOCK: usize = 256;

/// Calls `put` with the key and the value of each block of a name. The positions ascend.
pub(crate) fn encode(
    name: &str,
    positions: &[Position],
    mut put: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut value = Vec::new();
    for block in positions.chunks(BLOCK) {
        if let Some(first) = block.first() {
            encode_distances(block, &mut value);
            put(&key::posting(name, *first), &value)?;
        }
    }
    Ok(())
}

/// Encodes a block without its first position.
fn encode_distances(block: &[Position], value: &mut Vec<u8>) {
    value.clear();
    for (before, position) in block.iter().zip(block.iter().skip(1)) {
        encode_varint(position.get().saturating_sub(before.get()), value);
    }
}

/// Decodes a block with this first position into `positions`, which is cleared before.
pub(crate) fn decode(first: Position, value: &[u8], positions: &mut Vec<Position>) -> Result<(), RecordError> {
    let (mut last, mut reader) = (first, FieldReader { record: value, at: 0 });
    positions.clear();
    positions.push(first);
    while reader.at < value.len() {
        let distance = reader.varint("distance of a position")?;
        let next = last.get().checked_add(distance).filter(|next| *next < u64::MAX && *next > last.get());
        last = next.and_then(Position::new).ok_or(RecordError::NoNext { field: "position" })?;
        positions.push(last);
    }
    Ok(())
}

/// The positions of one category, type or tag in tables.
pub(crate) struct BlockList<'a> {
    keys: DBRawIterator<'a>,
    cf: Cf,
    name: String,
    prefix: Vec<u8>,
    direction: Direction,
    head: Position,
    /// The positions of the block at the iterator; empty before the first seek and after the last block.
    block: Vec<Position>,
}

impl<'a> BlockList<'a> {
    /// Returns the positions of a name up to `head`.
    pub(crate) fn new(
        database: &'a Database,
        cf: Cf,
        name: &str,
        direction: Direction,
        head: Position,
    ) -> Result<Self, StoreError> {
        let prefix = key::prefix(name);
        let keys = database.iterate(cf, prefix.clone(), Tier::Any)?;
        Ok(Self { keys, cf, name: name.to_owned(), prefix, direction, head, block: Vec::new() })
    }

    /// Returns the first position at or after the target in the direction, within the block.
    fn in_block(&self, target: Position) -> Option<Position> {
        nearest(&self.block, self.direction, target)
    }

    /// Decodes the block at the iterator. Returns `false` after the last block.
    fn load(&mut self) -> Result<bool, StoreError> {
        self.block.clear();
        let Some((key, value)) = item(&self.keys, self.cf)? else { return Ok(false) };
        let first = key::decode_posting(key, &self.prefix).map_err(|error| bad_key(self.cf, key, &error))?;
        decode(first, value, &mut self.block).map_err(|error| bad_key(self.cf, key, &error))?;
        Ok(true)
    }

    /// Moves to the next block in the direction.
    fn step(&mut self) -> Result<bool, StoreError> {
        match self.direction {
            Direction::Forward => self.keys.next(),
            Direction::Backward => self.keys.prev(),
        }
        self.load()
    }

    /// Moves to the block that has the target, if one does, and to the next one in the direction otherwise.
    fn jump(&mut self, target: Position) -> Result<bool, StoreError> {
        let key = key::posting(&self.name, target);
        self.keys.seek_for_prev(&key);
        let is_before = self.load()?;
        match self.direction {
            Direction::Backward => Ok(is_before),
            Direction::Forward if !is_before => {
                self.keys.seek(&key);
                self.load()
            }
            Direction::Forward if self.block.last() < Some(&target) => self.step(),
            Direction::Forward => Ok(true),
        }
    }
}

impl PostingList for BlockList<'_> {
    fn seek(&mut self, target: Position) -> Result<Option<Position>, StoreError> {
        let target = match self.direction {
            Direction::Forward if target > self.head => return Ok(None),
            Direction::Forward => target,
            // The index may have positions after the head of this read.
            Direction::Backward => target.min(self.head),
        };
        // Most targets are in the block of the one before or in the next block.
        let mut found = self.in_block(target);
        if found.is_none() && !self.block.is_empty() && self.step()? {
            found = self.in_block(target);
        }
        if found.is_none() && self.jump(target)? {
            found = self.in_block(target);
        }
        Ok(found.filter(|found| *found <= self.head))
    }
}

/// Adds to `batch` the changes that remove positions of a name.
pub(crate) fn remove(
    database: &Database,
    (cf, name): (Cf, &str),
    removed: &BTreeSet<Position>,
    batch: &mut WriteBatch,
) -> Result<(), StoreError> {
    let (Some(first), Some(last)) = (removed.first(), removed.last()) else { return Ok(()) };
    let mut list = BlockList::new(database, cf, name, Direction::Forward, *last)?;
    let (family, mut value) = (database.family(cf)?, Vec::new());
    let mut is_loaded = list.jump(*first)?;
    while is_loaded && list.block.first() <= Some(last) {
        let left: Vec<Position> = list.block.iter().filter(|position| !removed.contains(position)).copied().collect();
        if left.len() < list.block.len() {
            if let (Some(old), true) = (list.block.first(), left.first() != list.block.first()) {
                batch.delete_cf(family, key::posting(name, *old));
            }
            if let Some(new) = left.first() {
                encode_distances(&left, &mut value);
                batch.put_cf(family, key::posting(name, *new), &value);
            }
        }
        is_loaded = list.step()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position(number: u64) -> Position {
        Position::new(number).unwrap()
    }

    fn first_of(key: &[u8]) -> Position {
        key::decode_posting(key, &key::prefix("n")).unwrap()
    }

    fn encoded(positions: &[Position]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut blocks = Vec::new();
        let put = |key: &[u8], value: &[u8]| {
            blocks.push((key.to_vec(), value.to_vec()));
            Ok(())
        };
        encode("n", positions, put).unwrap();
        blocks
    }

    proptest! {
        #[test]
        fn blocks_have_all_positions(distances in prop::collection::vec(1..100_000u64, 0..600), first in 1..1_000u64) {
            let mut all = vec![position(first)];
            for distance in distances {
                all.push(position(all.last().unwrap().get() + distance));
            }
            let (mut found, mut block) = (Vec::new(), Vec::new());
            let blocks = encoded(&all);
            prop_assert_eq!(blocks.len(), all.len().div_ceil(BLOCK));
            for (key, value) in blocks {
                decode(first_of(&key), &value, &mut block).unwrap();
                found.extend_from_slice(&block);
            }
            prop_assert_eq!(found, all);
        }

        #[test]
        fn other_bytes_are_an_error_or_ascend(value in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut block = Vec::new();
            if decode(position(7), &value, &mut block).is_ok() {
                prop_assert!(block.is_sorted_by(|before, after| before < after));
            }
        }
    }

    #[test]
    fn a_block_that_ends_within_a_number_is_an_error() {
        let [(key, mut value)]: [_; 1] = encoded(&[position(1), position(300)]).try_into().unwrap();
        value.pop();
        assert!(decode(first_of(&key), &value, &mut Vec::new()).is_err());
    }
}
