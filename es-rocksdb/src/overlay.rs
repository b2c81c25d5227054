//! The view of the log against which commits are checked: the database, and the earlier commits of the same batch.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;

use bytes::Bytes;
use es_core::model::{Table, UniqueKey};
use es_core::retention::StreamRetention;
use es_core::store::implement::{KeyHash, KeyOwner, KeySecret, LogView, key_entries};
use es_core::store::{Committed, Query};
use es_core::{Commit, EventId, Position, RecordedEvent, Revision, StoreError, StreamId, Timestamp};
use lru::LruCache;

use crate::database::{Database, Tier, place_of};
use crate::postings;
use crate::recent::{KnownId, RecentIds};
use crate::record::Decoder;
use crate::retention::Operators;

/// The end of a log: the position and the recorded time of its last event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LogEnd {
    pub(crate) head: Option<Position>,
    pub(crate) recorded_at: Option<Timestamp>,
}

/// The changes of the commits of a batch that are not written yet.
#[derive(Debug)]
pub(crate) struct Overlay {
    /// The end of the log after the batch is written.
    pub(crate) end: LogEnd,
    /// The results of the commits of the batch that have events, in order and without gaps.
    pub(crate) committed: Vec<Committed>,
    /// The last revision of each stream that the batch writes to.
    pub(crate) heads: BTreeMap<StreamId, Revision>,
    /// The claims of unique keys that the batch changes; `None` for a released key.
    pub(crate) owners: BTreeMap<KeyHash, Option<KeyOwner>>,
    /// The rows that the batch changes; `None` for a removed row.
    pub(crate) rows: BTreeMap<(Table, Bytes), Option<Bytes>>,
    /// The first retained revision of each stream to which the batch writes tombstones.
    pub(crate) firsts: BTreeMap<StreamId, Revision>,
    ids: HashMap<EventId, Position>,
}

impl Overlay {
    /// Creates an overlay without changes for a log that ends at `end`.
    pub(crate) fn new(end: LogEnd) -> Self {
        Self {
            end,
            committed: Vec::new(),
            heads: BTreeMap::new(),
            owners: BTreeMap::new(),
            rows: BTreeMap::new(),
            firsts: BTreeMap::new(),
            ids: HashMap::new(),
        }
    }

    /// Applies the events of a commit.
    pub(crate) fn append(&mut self, committed: Committed, secret: &KeySecret) {
        for event in &committed.events {
            self.ids.insert(event.data.id, event.position);
            self.heads.insert(event.stream.clone(), event.revision);
            if event.is_removed() {
                self.firsts.insert(event.stream.clone(), event.revision.next());
            }
            self.owners.extend(key_entries(event).map(|(key, owner)| (secret.hash(key), owner)));
            self.end = LogEnd { head: Some(event.position), recorded_at: Some(event.recorded_at) };
        }
        self.committed.push(committed);
    }

    /// Applies the rows of a commit.
    pub(crate) fn change(&mut self, commit: &Commit) {
        for row in commit.rows() {
            self.rows.insert((row.table.clone(), row.key.clone()), row.value.clone());
        }
    }

    /// Returns the events of the batch, in order.
    pub(crate) fn events(&self) -> impl Iterator<Item = &RecordedEvent> {
        self.committed.iter().flat_map(|committed| &committed.events)
    }

    /// Returns whether the batch has changes to write.
    pub(crate) fn is_changed(&self) -> bool {
        !(self.committed.is_empty() && self.rows.is_empty())
    }

    fn event(&self, position: Position) -> Option<&RecordedEvent> {
        let starts_up_to_position =
            |committed: &Committed| committed.events.first().is_some_and(|first| first.position <= position);
        let index = self.committed.partition_point(starts_up_to_position).checked_sub(1)?;
        self.committed.get(index)?.events.iter().find(|event| event.position == position)
    }
}

/// A cache of the last revisions of recently written streams. Only the single writer appends events, so the cache is
/// always up to date.
#[derive(Debug)]
pub(crate) struct KnownHeads(LruCache<StreamId, Revision>);

impl KnownHeads {
    pub(crate) fn new(streams: usize) -> Self {
        Self(LruCache::new(NonZeroUsize::new(streams).unwrap_or(NonZeroUsize::MIN)))
    }

    /// Adds the last revisions of written streams.
    pub(crate) fn remember(&mut self, heads: BTreeMap<StreamId, Revision>) {
        for (stream, revision) in heads {
            self.0.put(stream, revision);
        }
    }
}

/// The log after the commits of the overlay.
pub(crate) struct BatchView<'a> {
    pub(crate) database: &'a Database,
    /// The last written position.
    pub(crate) written: Option<Position>,
    pub(crate) known: &'a mut KnownHeads,
    pub(crate) recent: &'a RecentIds,
    pub(crate) overlay: &'a Overlay,
    pub(crate) operators: &'a Operators,
    pub(crate) secret: &'a KeySecret,
}

impl BatchView<'_> {
    /// Returns whether an event is visible after the commits of the overlay. They can hide events that were written
    /// before them, so that the result does not depend on which commits share a batch.
    fn shows(&mut self, event: &RecordedEvent, now: Timestamp) -> Result<bool, StoreError> {
        if event.is_removed() {
            return Ok(false);
        }
        let retention = self.operators.of(&event.stream);
        if retention.is_whole() {
            return Ok(true);
        }
        let last = self.revision(&event.stream)?;
        Ok(retention.shows(event.revision, event.recorded_at, last, now))
    }
}

impl LogView for BatchView<'_> {
    fn head(&mut self) -> Result<Option<Position>, StoreError> {
        Ok(self.overlay.end.head)
    }

    fn last_recorded_at(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.overlay.end.recorded_at)
    }

    fn revision(&mut self, stream: &StreamId) -> Result<Option<Revision>, StoreError> {
        if let Some(revision) = self.overlay.heads.get(stream).or_else(|| self.known.0.get(stream)) {
            return Ok(Some(*revision));
        }
        let revision = self.database.revision(stream, Tier::Any)?;
        if let Some(revision) = revision {
            self.known.0.put(stream.clone(), revision);
        }
        Ok(revision)
    }

    fn position_of(&mut self, id: EventId) -> Result<Option<Position>, StoreError> {
        if let Some(position) = self.overlay.ids.get(&id) {
            return Ok(Some(*position));
        }
        match self.recent.look_up(id) {
            KnownId::Existing(position) => Ok(Some(position)),
            KnownId::New => Ok(None),
            KnownId::Unknown => Ok(self.database.position_of(id, Tier::Any)?),
        }
    }

    fn event(&mut self, position: Position) -> Result<RecordedEvent, StoreError> {
        if let Some(event) = self.overlay.event(position) {
            return Ok(event.clone());
        }
        if self.written.is_none_or(|written| position > written) {
            let end = self.written.map_or_else(|| "no event".to_owned(), place_of);
            let detail = format!("an index names it, but the log ends with {end}");
            return Err(StoreError::damaged(place_of(position), detail));
        }
        Ok(self.database.event(position, Tier::Any, &mut Decoder::default())?)
    }

    fn first_match(
        &mut self,
        query: &Query,
        after: Option<Position>,
        now: Timestamp,
    ) -> Result<Option<Position>, StoreError> {
        let (database, operators) = (self.database, self.operators);
        if !operators.is_touched() {
            if let Some(found) = postings::first_match(database, query, after, self.written, |_| Ok(true))? {
                return Ok(Some(found));
            }
        } else {
            let (written, mut decoder) = (self.written, Decoder::default());
            let is_visible = |position| {
                let event = database.event(position, Tier::Any, &mut decoder)?;
                self.shows(&event, now)
            };
            if let Some(found) = postings::first_match(database, query, after, written, is_visible)? {
                return Ok(Some(found));
            }
        }
        let overlay = self.overlay;
        let events = overlay.events().filter(|event| after.is_none_or(|after| event.position > after));
        for event in events.filter(|event| query.matches_event(event)) {
            if self.shows(event, now)? {
                return Ok(Some(event.position));
            }
        }
        Ok(None)
    }

    fn first_left(&mut self, stream: &StreamId) -> Result<Revision, StoreError> {
        match self.overlay.firsts.get(stream) {
            Some(first) => Ok(*first),
            None => Ok(self.database.first_left(stream, Tier::Any)?),
        }
    }

    fn retention(&mut self, stream: &StreamId) -> Result<StreamRetention, StoreError> {
        Ok(self.operators.of(stream))
    }

    fn owner(&mut self, key: &UniqueKey) -> Result<Option<KeyOwner>, StoreError> {
        let hash = self.secret.hash(key);
        match self.overlay.owners.get(&hash) {
            Some(owner) => Ok(owner.clone()),
            None => Ok(self.database.owner(&hash, Tier::Any)?),
        }
    }

    fn row(&mut self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        // The keys of the map are owned, so a look-up needs copies. They cost less than the database read that they
        // avoid.
        match self.overlay.rows.get(&(table.clone(), Bytes::copy_from_slice(key))) {
            Some(value) => Ok(value.clone()),
            None => Ok(self.database.row(table, key, Tier::Any)?),
        }
    }
}
