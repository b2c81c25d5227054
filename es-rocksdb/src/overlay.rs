//! The view of the log on which commits are decided: the database, and over it the commits of the batch under way.

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

/// Where a log ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LogEnd {
    pub(crate) head: Option<Position>,
    pub(crate) recorded_at: Option<Timestamp>,
}

/// What the commits of a batch have done that is not written yet.
#[derive(Debug)]
pub(crate) struct Overlay {
    /// Where the log ends when the batch is written.
    pub(crate) end: LogEnd,
    /// What the commits of the batch gave that have events, in order: their positions follow each other.
    pub(crate) committed: Vec<Committed>,
    /// The last revision of each stream that the batch writes to.
    pub(crate) heads: BTreeMap<StreamId, Revision>,
    /// The claims of unique keys that the batch changes; `None` for a key that is released.
    pub(crate) owners: BTreeMap<KeyHash, Option<KeyOwner>>,
    /// The rows that the batch changes; `None` for a row that was removed.
    pub(crate) rows: BTreeMap<(Table, Bytes), Option<Bytes>>,
    /// The first revision that is left of each stream to which the batch writes removed events.
    pub(crate) firsts: BTreeMap<StreamId, Revision>,
    ids: HashMap<EventId, Position>,
}

impl Overlay {
    /// Nothing has happened yet on the log that ends here.
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

    /// Lets the events of a commit have happened.
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

    /// Lets the other changes of a commit have happened.
    pub(crate) fn change(&mut self, commit: &Commit) {
        for row in commit.rows() {
            self.rows.insert((row.table.clone(), row.key.clone()), row.value.clone());
        }
    }

    /// The events of the batch, in order.
    pub(crate) fn events(&self) -> impl Iterator<Item = &RecordedEvent> {
        self.committed.iter().flat_map(|committed| &committed.events)
    }

    /// Whether there is anything to write.
    pub(crate) fn is_changed(&self) -> bool {
        !(self.committed.is_empty() && self.rows.is_empty())
    }

    fn event(&self, position: Position) -> Option<&RecordedEvent> {
        let starts_by =
            |committed: &Committed| committed.events.first().is_some_and(|first| first.position <= position);
        let index = self.committed.partition_point(starts_by).checked_sub(1)?;
        self.committed.get(index)?.events.iter().find(|event| event.position == position)
    }
}

/// The last revisions of the streams that were written to lately. Only the one writer changes them, so that what it
/// remembers is always true.
#[derive(Debug)]
pub(crate) struct KnownHeads(LruCache<StreamId, Revision>);

impl KnownHeads {
    pub(crate) fn new(streams: usize) -> Self {
        Self(LruCache::new(NonZeroUsize::new(streams).unwrap_or(NonZeroUsize::MIN)))
    }

    /// Remembers what was written.
    pub(crate) fn remember(&mut self, heads: BTreeMap<StreamId, Revision>) {
        for (stream, revision) in heads {
            self.0.put(stream, revision);
        }
    }
}

/// The log as it is when the commits of the overlay have happened.
pub(crate) struct BatchView<'a> {
    pub(crate) database: &'a Database,
    /// Where the written log ends.
    pub(crate) written: Option<Position>,
    pub(crate) known: &'a mut KnownHeads,
    pub(crate) recent: &'a RecentIds,
    pub(crate) overlay: &'a Overlay,
    pub(crate) operators: &'a Operators,
    pub(crate) secret: &'a KeySecret,
}

impl BatchView<'_> {
    /// Whether an event is visible when the commits of the overlay have happened. They count for an event that was written before
    /// them as well: which commits share a batch must not change an answer.
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
            KnownId::At(position) => Ok(Some(position)),
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
            let is_shown = |position| {
                let event = database.event(position, Tier::Any, &mut decoder)?;
                self.shows(&event, now)
            };
            if let Some(found) = postings::first_match(database, query, after, written, is_shown)? {
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
        // NOTE: the key of the map is a pair of owned parts; these copies cost less than the look at the disk they save.
        match self.overlay.rows.get(&(table.clone(), Bytes::copy_from_slice(key))) {
            Some(value) => Ok(value.clone()),
            None => Ok(self.database.row(table, key, Tier::Any)?),
        }
    }
}
