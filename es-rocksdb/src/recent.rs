//! The newest event ids in memory, so that a new id is known to be new without a look at the disk.
//!
//! Ids are UUIDs of version 7, which begin with a time: the id of a new event is almost always among the highest. So the
//! highest of that version are remembered, from a floor on, **all of them**. An id of version 7 above the floor that is
//! not remembered was never written: this is knowledge and no guess. About ids at the floor or below it, and about those of
//! other versions, nothing is known here, and the index on disk is asked.

use std::collections::BTreeMap;

use es_core::{EventId, Position, StoreError};
use uuid::Uuid;

use crate::database::{Database, Tier, bad_key, item};
use crate::key;
use crate::schema::Cf;

/// How many ids are remembered, about 60 bytes each. More than can be on their way at a time, so that an id that is late
/// is still above the floor.
const CAPACITY: usize = 16_384;

/// How many ids of other versions are passed over in search of the highest of version 7.
const PASSED_OVER: usize = 1024;

/// All ids of version 7 above a floor, with their positions.
#[derive(Debug)]
pub(crate) struct RecentIds {
    above: BTreeMap<EventId, Position>,
    floor: EventId,
    capacity: usize,
}

/// What is known of an id without a look at the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KnownId {
    /// It stands here.
    At(Position),
    /// It was never written.
    New,
    /// The index must be asked.
    Unknown,
}

impl RecentIds {
    /// Remembers at most `capacity` ids. No id of version 7 above `highest` was ever written.
    pub(crate) fn new(highest: EventId, capacity: usize) -> Self {
        Self { above: BTreeMap::new(), floor: highest, capacity }
    }

    /// Begins with what is in a database.
    pub(crate) fn of_database(database: &Database) -> Result<Self, StoreError> {
        let mut ids = database.iterate(Cf::Ids, Vec::new(), Tier::Any)?;
        ids.seek_to_last();
        let none = EventId::from_uuid(Uuid::nil());
        let mut floor = none;
        for _ in 0..PASSED_OVER {
            let Some((key, _)) = item(&ids, Cf::Ids)? else { return Ok(Self::new(none, CAPACITY)) };
            floor = key::decode_id(key).map_err(|error| bad_key(Cf::Ids, key, &error))?;
            if is_ordered_by_time(floor) {
                break;
            }
            ids.prev();
        }
        // NOTE: also where the search was given up: what was passed over was of other versions.
        Ok(Self::new(floor, CAPACITY))
    }

    pub(crate) fn look_up(&self, id: EventId) -> KnownId {
        if id <= self.floor || !is_ordered_by_time(id) {
            return KnownId::Unknown;
        }
        self.above.get(&id).map_or(KnownId::New, |position| KnownId::At(*position))
    }

    /// Remembers what was written. Every id that is written must come here.
    pub(crate) fn remember(&mut self, id: EventId, position: Position) {
        if id <= self.floor || !is_ordered_by_time(id) {
            return;
        }
        self.above.insert(id, position);
        if self.above.len() > self.capacity
            && let Some((lowest, _)) = self.above.pop_first()
        {
            self.floor = lowest;
        }
    }
}

/// Whether an id is a UUID of version 7.
fn is_ordered_by_time(id: EventId) -> bool {
    id.as_uuid().get_version_num() == 7
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn id(number: u16, version: u8) -> EventId {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        bytes[6] = version << 4;
        EventId::from_uuid(Uuid::from_bytes(bytes))
    }

    proptest! {
        /// Whatever is written in whatever order: what is said of an id is true.
        #[test]
        fn what_is_known_is_true(ids in prop::collection::vec((0..200u16, prop::bool::weighted(0.8)), 0..300)) {
            let mut recent = RecentIds::new(id(50, 7), 16);
            let mut written = HashMap::new();
            for (index, (number, is_ordered)) in ids.into_iter().enumerate() {
                let id = id(number, if is_ordered { 7 } else { 4 });
                match recent.look_up(id) {
                    KnownId::At(position) => prop_assert_eq!(written.get(&id), Some(&position)),
                    KnownId::New => prop_assert_eq!(written.get(&id), None),
                    KnownId::Unknown => {}
                }
                let position = Position::new(index as u64 + 1).unwrap();
                if let std::collections::hash_map::Entry::Vacant(new) = written.entry(id) {
                    new.insert(position);
                    recent.remember(id, position);
                }
                prop_assert!(recent.above.len() <= 16);
            }
        }
    }

    #[test]
    fn ids_that_come_in_the_order_of_time_are_always_known() {
        let mut recent = RecentIds::new(id(0, 7), 4);
        for number in 1..100 {
            assert_eq!(recent.look_up(id(number, 7)), KnownId::New);
            recent.remember(id(number, 7), Position::FIRST);
            assert_eq!(recent.look_up(id(number, 7)), KnownId::At(Position::FIRST));
        }
        assert_eq!(recent.look_up(id(95, 7)), KnownId::Unknown);
    }
}
