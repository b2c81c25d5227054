//! [`RunIds`]: the ids of the events of a run.

use std::hash::BuildHasher;

use es_core::{EventId, Position};
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::index::recent::is_ordered_by_time;

/// The ids of consecutive events, by index.
///
/// An id is stored once, in the order of the log. The table has the indexes only.
#[derive(Debug, Default)]
pub(crate) struct RunIds {
    ids: Vec<EventId>,
    indexes: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// The highest id of version 7.
    highest: Option<EventId>,
}

impl RunIds {
    pub(crate) fn with_capacity(ids: usize) -> Self {
        Self { ids: Vec::with_capacity(ids), indexes: HashTable::with_capacity(ids), ..Self::default() }
    }

    pub(crate) fn extend(&mut self, ids: impl Iterator<Item = EventId>) {
        let Self { ids: stored, indexes, hasher, highest } = self;
        for id in ids {
            let index = u32::try_from(stored.len()).unwrap_or(u32::MAX);
            stored.push(id);
            let hash_of = |index: &u32| stored.get(*index as usize).map_or(0, |id| hasher.hash_one(id));
            indexes.insert_unique(hasher.hash_one(id), index, hash_of);
            if is_ordered_by_time(id) {
                *highest = (*highest).max(Some(id));
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Returns the index of an id.
    pub(crate) fn index_of(&self, id: EventId) -> Option<u32> {
        // Most new ids are higher than all earlier ones.
        if is_ordered_by_time(id) && Some(id) > self.highest {
            return None;
        }
        let is_same = |index: &u32| self.ids.get(*index as usize) == Some(&id);
        self.indexes.find(self.hasher.hash_one(id), is_same).copied()
    }

    /// Returns the ids in ascending order, with the positions of their events. The first event has position `first`.
    pub(crate) fn sorted(&self, first: Position) -> Vec<(EventId, Position)> {
        let positions = std::iter::successors(Some(first), |position| Some(position.next()));
        let mut ids: Vec<_> = self.ids.iter().copied().zip(positions).collect();
        // Stable, because it is fast for ids that almost ascend.
        ids.sort();
        ids
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::recent::tests::id;

    proptest! {
        #[test]
        fn each_id_is_found_at_its_index_and_no_other_is(
            numbers in prop::collection::hash_set((0..500u16, prop::sample::select(vec![4, 7])), 1..200)
        ) {
            let ids: Vec<EventId> = numbers.iter().map(|(number, version)| id(*number, *version)).collect();
            let mut found = RunIds::with_capacity(3);
            found.extend(ids.iter().copied());
            for number in 0..500 {
                for id in [id(number, 4), id(number, 7)] {
                    let expected = ids.iter().position(|other| *other == id);
                    prop_assert_eq!(found.index_of(id).map(|index| index as usize), expected);
                }
            }
        }
    }
}
