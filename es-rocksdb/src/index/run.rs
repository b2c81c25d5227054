//! [`Run`]: the index of consecutive events in memory, until it is written to tables.
//!
//! A decision adds its events before they are on disk, so that the next decision sees them. Readers pass the published
//! head, and see nothing after it.

use std::borrow::Borrow;
use std::hash::Hash;

use es_core::model::Tag;
use es_core::store::Direction;
use es_core::{EventId, EventType, Position, RecordedEvent, Revision, StreamId};
use hashbrown::HashMap;

use crate::index::postings::nearest;
use crate::index::run_ids::RunIds;
use crate::options::RunSize;
use crate::schema::Cf;
use crate::sync::{PoisonError, RwLock, RwLockReadGuard};

/// About the size of a record without its payload, in bytes.
const RECORD_BYTES: usize = 128;

/// The index of consecutive events. Events are only added.
#[derive(Debug)]
pub(crate) struct Run {
    /// The position of the first event.
    first: Position,
    entries: RwLock<Entries>,
}

/// The entries of a run. Positions ascend.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// About the size of the records of the events, in bytes.
    pub(crate) bytes: usize,
    pub(crate) ids: RunIds,
    pub(crate) streams: HashMap<StreamId, StreamEntries>,
    pub(crate) categories: HashMap<Box<str>, Vec<Position>>,
    pub(crate) types: HashMap<EventType, Vec<Position>>,
    pub(crate) tags: HashMap<Tag, Vec<Position>>,
}

/// The events of a stream in a run: their revisions are consecutive.
#[derive(Debug)]
pub(crate) struct StreamEntries {
    pub(crate) first: Revision,
    pub(crate) positions: Vec<Position>,
}

impl StreamEntries {
    /// Returns the position of the event at a revision.
    pub(crate) fn position(&self, revision: Revision) -> Option<Position> {
        let index = revision.get().checked_sub(self.first.get())?;
        self.positions.get(usize::try_from(index).ok()?).copied()
    }

    /// Returns the last event up to a position.
    pub(crate) fn last_up_to(&self, head: Position) -> Option<(Revision, Position)> {
        let index = self.positions.partition_point(|position| *position <= head).checked_sub(1)?;
        Some((Revision::new(self.first.get() + index as u64), *self.positions.get(index)?))
    }
}

impl Run {
    /// Creates a run that will have about this number of events.
    pub(crate) fn new(first: Position, events: usize) -> Self {
        let entries = Entries { ids: RunIds::with_capacity(events), ..Entries::default() };
        Self { first, entries: RwLock::new(entries) }
    }

    pub(crate) const fn first(&self) -> Position {
        self.first
    }

    /// Adds events, which follow the last one.
    pub(crate) fn extend(&self, events: &[RecordedEvent]) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        for of_stream in events.chunk_by(|before, after| before.stream == after.stream) {
            entries.add(of_stream);
        }
    }

    pub(crate) fn entries(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of events.
    pub(crate) fn len(&self) -> usize {
        self.entries().ids.len()
    }

    /// Returns whether the run has so many events or bytes of records, so that the next one begins.
    pub(crate) fn is_full(&self, max: RunSize) -> bool {
        let entries = self.entries();
        entries.ids.len() >= max.events as usize || entries.bytes >= max.bytes
    }

    /// Returns the position of the last event; that before the first one if the run is empty.
    pub(crate) fn last(&self) -> Option<Position> {
        Position::new(self.first.get() + self.len() as u64 - 1)
    }

    /// Returns the last event of a stream up to a position.
    pub(crate) fn last_up_to(&self, stream: &StreamId, head: Position) -> Option<(Revision, Position)> {
        self.entries().streams.get(stream)?.last_up_to(head)
    }

    /// Returns the positions of a stream from a revision on, at most `count`, and the revision of the first of them.
    pub(crate) fn positions_from(
        &self,
        stream: &StreamId,
        from: Revision,
        count: usize,
    ) -> Option<(Revision, Vec<Position>)> {
        let entries = self.entries();
        let found = entries.streams.get(stream)?;
        let first = found.first.max(from);
        let skipped = usize::try_from(first.get() - found.first.get()).ok()?;
        let positions = found.positions.get(skipped..)?;
        Some((first, positions.iter().take(count).copied().collect()))
    }

    /// Returns the first revision of a stream in this run.
    pub(crate) fn first_revision(&self, stream: &StreamId) -> Option<Revision> {
        self.entries().streams.get(stream).map(|found| found.first)
    }

    /// Returns the position of the event at a revision of a stream.
    pub(crate) fn position_in(&self, stream: &StreamId, revision: Revision) -> Option<Position> {
        self.entries().streams.get(stream)?.position(revision)
    }

    /// Returns the position of the event with an id.
    pub(crate) fn position_of(&self, id: EventId) -> Option<Position> {
        let index = self.entries().ids.index_of(id)?;
        Position::new(self.first.get() + u64::from(index))
    }

    /// Returns the nearest position of a category, type or tag, from `target` on in a direction.
    pub(crate) fn seek(&self, cf: Cf, name: &str, direction: Direction, target: Position) -> Option<Position> {
        let entries = self.entries();
        let positions = match cf {
            Cf::Categories => entries.categories.get(name),
            Cf::Types => entries.types.get(name),
            Cf::Tags => entries.tags.get(name),
            _ => None,
        }?;
        nearest(positions, direction, target)
    }
}

impl Entries {
    /// Adds consecutive events of one stream.
    fn add(&mut self, events: &[RecordedEvent]) {
        let Some(RecordedEvent { stream, revision: first, .. }) = events.first() else { return };
        self.bytes += events.iter().map(|event| RECORD_BYTES + event.data.payload.len()).sum::<usize>();
        self.ids.extend(events.iter().map(|event| event.data.id));
        let positions = events.iter().map(|event| event.position);
        match self.streams.get_mut(stream) {
            Some(found) => found.positions.extend(positions),
            None => {
                self.streams.insert(stream.clone(), StreamEntries { first: *first, positions: positions.collect() });
            }
        }
        let left = || events.iter().filter(|event| !event.is_removed());
        if left().next().is_some() {
            add_to(&mut self.categories, stream.category_str(), left().map(|event| event.position), Box::from);
        }
        for event in left() {
            let position = std::iter::once(event.position);
            let event_type = &event.data.event_type;
            add_to(&mut self.types, event_type.as_str(), position.clone(), |_| event_type.clone());
            for tag in &event.data.tags {
                add_to(&mut self.tags, tag.as_str(), position.clone(), |_| tag.clone());
            }
        }
    }
}

/// Adds positions to the list of a name, which is copied only if it is new.
fn add_to<'n, N: Borrow<str> + Eq + Hash>(
    lists: &mut HashMap<N, Vec<Position>>,
    name: &'n str,
    positions: impl Iterator<Item = Position>,
    copy: impl FnOnce(&'n str) -> N,
) {
    match lists.get_mut(name) {
        Some(list) => list.extend(positions),
        None => {
            lists.insert(copy(name), positions.collect());
        }
    }
}
