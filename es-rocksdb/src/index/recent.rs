//! The newest event ids in memory, so that the writer recognizes a new id without reading the disk.
//!
//! Event ids are UUIDs of version 7, which begin with a time, so that a new id is almost always among the highest. This
//! module keeps **all** ids of version 7 above a floor. An id of version 7 above the floor that is not kept was never
//! written; this is certain, not probable. Ids up to the floor and ids of other versions are looked up in the index.

use std::collections::BTreeMap;

use es_core::{EventId, Position, StoreError};
use uuid::Uuid;

use crate::engine::database::{Database, Tier, bad_key, item};
use crate::engine::key;
use crate::schema::Cf;

/// The largest number of kept ids, of about 60 bytes each. It exceeds the number of events in concurrent commits, so
/// that the id of a delayed event is still above the floor.
const CAPACITY: usize = 16_384;

/// How many ids of other versions the search for the highest id of version 7 skips.
const MAX_SKIPPED: usize = 1024;

/// All ids of version 7 above a floor, with their positions.
#[derive(Debug)]
pub(crate) struct RecentIds {
    above: BTreeMap<EventId, Position>,
    floor: EventId,
    capacity: usize,
}

/// What the ids in memory tell about an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KnownId {
    /// The event at this position has the id.
    Existing(Position),
    /// No event has the id.
    New,
    /// Unknown: look it up in the index.
    Unknown,
}

impl RecentIds {
    /// Creates an empty set of at most `capacity` ids. No event may have an id of version 7 above `highest`.
    pub(crate) fn new(highest: EventId, capacity: usize) -> Self {
        Self { above: BTreeMap::new(), floor: highest, capacity }
    }

    /// Creates an empty set whose floor is the highest id of version 7 in a database.
    pub(crate) fn of_database(database: &Database) -> Result<Self, StoreError> {
        let mut ids = database.iterate(Cf::Ids, Vec::new(), Tier::Any)?;
        ids.seek_to_last();
        let none = EventId::from_uuid(Uuid::nil());
        let mut floor = none;
        for _ in 0..MAX_SKIPPED {
            let Some((key, _)) = item(&ids, Cf::Ids)? else { return Ok(Self::new(none, CAPACITY)) };
            floor = key::decode_id(key).map_err(|error| bad_key(Cf::Ids, key, &error))?;
            if is_ordered_by_time(floor) {
                break;
            }
            ids.prev();
        }
        // If the search ended early, the floor is an id of another version. No id of version 7 is above it.
        Ok(Self::new(floor, CAPACITY))
    }

    /// Returns the set after these ids were written, which ascend.
    pub(crate) fn with(&self, ids: &[(EventId, Position)]) -> Self {
        let ordered = ids.iter().rev().filter(|(id, _)| is_ordered_by_time(*id));
        let mut recent = Self { above: self.above.clone(), ..*self };
        // One more than are kept, so that the floor is not below an id that is not kept.
        for (id, position) in ordered.take(self.capacity + 1) {
            recent.remember(*id, *position);
        }
        recent
    }

    /// Looks up an id.
    pub(crate) fn look_up(&self, id: EventId) -> KnownId {
        if id <= self.floor || !is_ordered_by_time(id) {
            return KnownId::Unknown;
        }
        self.above.get(&id).map_or(KnownId::New, |position| KnownId::Existing(*position))
    }

    /// Adds the id of a written event. Must be called for every written event.
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

/// Returns whether an id is a UUID of version 7.
pub(crate) fn is_ordered_by_time(id: EventId) -> bool {
    id.as_uuid().get_version_num() == 7
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Returns an id that begins with a number, as a UUID of this version.
    pub(crate) fn id(number: u16, version: u8) -> EventId {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        bytes[6] = version << 4;
        EventId::from_uuid(Uuid::from_bytes(bytes))
    }

    proptest! {
        #[test]
        fn a_look_up_is_right_or_unknown(ids in prop::collection::vec((0..200u16, prop::bool::weighted(0.8)), 0..300)) {
            let mut recent = RecentIds::new(id(50, 7), 16);
            let mut written = HashMap::new();
            for (index, (number, is_ordered)) in ids.into_iter().enumerate() {
                let id = id(number, if is_ordered { 7 } else { 4 });
                match recent.look_up(id) {
                    KnownId::Existing(position) => prop_assert_eq!(written.get(&id), Some(&position)),
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

    /// A run of events leaves the memory as a whole: the set afterwards must not call one of its ids new.
    #[test]
    fn a_look_up_after_a_run_is_right_or_unknown() {
        let run = prop::collection::vec((0..200u16, prop::bool::weighted(0.8)), 0..60);
        proptest!(|(runs in prop::collection::vec(run, 0..5))| {
            let mut recent = RecentIds::new(id(50, 7), 16);
            let (mut written, mut next) = (HashMap::new(), Position::FIRST);
            for run in runs {
                let mut ids = Vec::new();
                for (number, is_ordered) in run {
                    let id = id(number, if is_ordered { 7 } else { 4 });
                    let is_written_before = number <= 50 || written.contains_key(&id);
                    if !is_written_before {
                        written.insert(id, next);
                        ids.push((id, next));
                        next = next.next();
                    }
                }
                ids.sort();
                recent = recent.with(&ids);
                prop_assert!(recent.above.len() <= 16);
                for number in 51..200 {
                    let id = id(number, 7);
                    match recent.look_up(id) {
                        KnownId::Existing(position) => prop_assert_eq!(written.get(&id), Some(&position)),
                        KnownId::New => prop_assert_eq!(written.get(&id), None),
                        KnownId::Unknown => {}
                    }
                }
            }
        });
    }

    #[test]
    fn ids_in_the_order_of_time_are_always_known() {
        let mut recent = RecentIds::new(id(0, 7), 4);
        for number in 1..100 {
            assert_eq!(recent.look_up(id(number, 7)), KnownId::New);
            recent.remember(id(number, 7), Position::FIRST);
            assert_eq!(recent.look_up(id(number, 7)), KnownId::Existing(Position::FIRST));
        }
        assert_eq!(recent.look_up(id(95, 7)), KnownId::Unknown);
    }
}
