//! [`Index`]: finds events by stream, id, category, type and tag: in the runs in memory, then in the tables.
//!
//! ```text
//!   positions   1 ............ applied | run | run | active run | not decided yet
//!                    RocksDB tables    |        memory          |
//! ```
//!
//! A run leaves the memory after its tables are part of RocksDB. A reader therefore takes the list of runs first and
//! reads RocksDB second: an event that is in no run of the list is in the tables.

pub(crate) mod posting_blocks;
pub(crate) mod postings;
pub(crate) mod recent;
pub(crate) mod run;
mod run_ids;

use std::sync::Arc;

use es_core::model::EventView;
use es_core::retention::{CATEGORY, Retention};
use es_core::store::Direction;
use es_core::{EventId, Position, RecordedEvent, Revision, StoreError, StreamId, Timestamp};
use es_log::{Batch, Place, PointReader, ReadError, ReadableLog, RewriteError};

use crate::access;
use crate::engine::database::{Database, Fault, Tier, bad_key, item, missing_event, place_in, place_of};
use crate::engine::key::{self, KeyError, NUMBER_LEN};
use crate::index::posting_blocks::BlockList;
use crate::index::postings::{Cursor, PostingList, PostingLists, SeekResult};
use crate::index::recent::{KnownId, RecentIds};
use crate::index::run::Run;
use crate::options::RunSize;
use crate::record::Payloads;
use crate::record::codec::LogDecoder;
use crate::retention::StreamIndex;
use crate::schema::Cf;
use crate::sync::{PoisonError, RwLock, RwLockReadGuard};

/// The last position that every head precedes.
pub(crate) const END: Position = match Position::new(u64::MAX) {
    Some(position) => position,
    None => Position::FIRST,
};

/// The index of a log.
#[derive(Debug)]
pub(crate) struct Index {
    in_memory: RwLock<InMemory>,
    run_size: RunSize,
    /// The first run ends here at the earliest.
    least_end: Option<Position>,
}

/// The part of an index that is in memory.
#[derive(Debug, Clone)]
struct InMemory {
    /// The runs, the oldest first. The last one is active: decisions add events to it.
    runs: Vec<Arc<Run>>,
    /// The newest ids of the events in the tables.
    recent: Arc<RecentIds>,
}

impl Index {
    /// Creates the index of a log whose tables have the events before `first`, with these newest ids.
    pub(crate) fn new(first: Position, recent: RecentIds, run_size: RunSize) -> Self {
        let in_memory = InMemory { runs: vec![Arc::new(Run::new(first, 0))], recent: Arc::new(recent) };
        Self { in_memory: RwLock::new(in_memory), run_size, least_end: None }
    }

    /// Lets the first run have all events up to a position, also if it is full before. An earlier process may have
    /// written some tables of a run up to there. Those of a shorter run would not replace all their posting blocks, and
    /// blocks that overlap are not read correctly.
    pub(crate) fn with_first_run_up_to(self, least_end: Option<Position>) -> Self {
        Self { least_end, ..self }
    }

    /// Adds decided events to the active run, and begins the next run if it is full. Only one thread at a time may call
    /// this.
    pub(crate) fn extend(&self, events: &[RecordedEvent]) {
        let Some(active) = self.in_memory().runs.last().map(Arc::clone) else { return };
        active.extend(events);
        if active.is_full(self.run_size) && active.last() >= self.least_end {
            self.end_run();
        }
    }

    /// Begins the next run, so that the active one is written to tables although it is not full. Only one thread at a
    /// time may call this or [`extend`](Self::extend).
    pub(crate) fn end_run(&self) {
        let Some(active) = self.in_memory().runs.last().filter(|active| active.len() > 0).map(Arc::clone) else {
            return;
        };
        let Some(last) = active.last() else { return };
        let next = Arc::new(Run::new(last.next(), active.len()));
        self.in_memory.write().unwrap_or_else(PoisonError::into_inner).runs.push(next);
    }

    fn in_memory(&self) -> RwLockReadGuard<'_, InMemory> {
        self.in_memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the oldest run, if it is full and all its events are published.
    pub(crate) fn oldest_full(&self, published: Option<Position>) -> Option<Arc<Run>> {
        let in_memory = self.in_memory();
        let oldest = in_memory.runs.first().filter(|_| in_memory.runs.len() > 1)?;
        (oldest.last() <= published).then(|| Arc::clone(oldest))
    }

    /// Removes the oldest run, whose tables are part of RocksDB and have these ids, in ascending order. Only one thread
    /// at a time may call this.
    pub(crate) fn remove_oldest(&self, ids: &[(EventId, Position)]) {
        if self.full_runs() == 0 {
            return;
        }
        // Not while the index is locked, because it takes milliseconds.
        let recent = Arc::new(Arc::clone(&self.in_memory().recent).with(ids));
        let mut in_memory = self.in_memory.write().unwrap_or_else(PoisonError::into_inner);
        in_memory.runs.remove(0);
        in_memory.recent = recent;
    }

    /// Returns the size of the records of a full run, in bytes.
    pub(crate) fn run_bytes(&self) -> u64 {
        self.run_size.bytes as u64
    }

    /// Returns the number of events in a full run.
    pub(crate) fn run_events(&self) -> usize {
        usize::try_from(self.run_size.events).unwrap_or(usize::MAX)
    }

    /// Returns the number of full runs in memory.
    pub(crate) fn full_runs(&self) -> usize {
        self.in_memory().runs.len().saturating_sub(1)
    }

    /// Returns the index as of now, with the events up to `head`.
    pub(crate) fn view<'a>(&self, database: &'a Database, log: &'a ReadableLog, head: Position) -> IndexView<'a> {
        // ORDER: the runs before any read of the database.
        let InMemory { runs, recent } = self.in_memory().clone();
        IndexView { database, log, runs, recent, head }
    }
}

/// The index at one time, up to a head.
pub(crate) struct IndexView<'a> {
    pub(crate) database: &'a Database,
    pub(crate) log: &'a ReadableLog,
    runs: Vec<Arc<Run>>,
    recent: Arc<RecentIds>,
    pub(crate) head: Position,
}

/// The runs of an index and a name, as a posting list.
struct RunList<'a> {
    runs: &'a [Arc<Run>],
    cf: Cf,
    name: String,
    direction: Direction,
    head: Position,
}

impl PostingList for RunList<'_> {
    fn seek(&mut self, target: Position) -> Result<Option<Position>, StoreError> {
        let Self { runs, cf, name, direction, head } = self;
        let seek = |run: &Arc<Run>| run.seek(*cf, name, *direction, target.min(*head));
        let found = match direction {
            Direction::Forward if target > *head => None,
            Direction::Forward => runs.iter().find_map(seek),
            Direction::Backward => runs.iter().rev().find_map(seek),
        };
        Ok(found.filter(|found| found <= head))
    }
}

impl PostingLists for IndexView<'_> {
    fn list(&self, cf: Cf, name: &str, direction: Direction, head: Position) -> Result<Cursor<'_>, StoreError> {
        let in_memory = RunList { runs: &self.runs, cf, name: name.to_owned(), direction, head };
        let in_tables = BlockList::new(self.database, cf, name, direction, head);
        let in_tables = in_tables.map(|list| Cursor::List(Box::new(list)));
        let lists = [Ok(Cursor::List(Box::new(in_memory))), in_tables];
        Cursor::or(lists.into_iter())
    }
}

/// The posting lists of events after the tables.
pub(crate) struct NewestLists<'a>(&'a IndexView<'a>);

impl PostingLists for NewestLists<'_> {
    fn list(&self, cf: Cf, name: &str, direction: Direction, head: Position) -> Result<Cursor<'_>, StoreError> {
        let in_memory = RunList { runs: &self.0.runs, cf, name: name.to_owned(), direction, head };
        Ok(Cursor::List(Box::new(in_memory)))
    }
}

impl IndexView<'_> {
    /// Returns the lists in memory, if they have all events after a position.
    pub(crate) fn newest_after(&self, after: Option<Position>) -> Option<NewestLists<'_>> {
        let first = self.runs.first()?.first();
        (Position::following(after) >= first).then_some(NewestLists(self))
    }

    /// Returns the last event of a stream up to `head`.
    pub(crate) fn last_of(
        &self,
        stream: &StreamId,
        head: Position,
        tier: Tier,
    ) -> Result<Option<(Revision, Position)>, Fault> {
        if let Some(found) = self.runs.iter().rev().find_map(|run| run.last_up_to(stream, head)) {
            return Ok(Some(found));
        }
        let Some(value) = self.database.get(Cf::Heads, stream.as_str().as_bytes(), tier)? else { return Ok(None) };
        let (revision, position) = decode_head(&value)
            .map_err(|error| StoreError::damaged(format!("head of stream {stream:?}"), error.to_string()))?;
        if position <= head {
            return Ok(Some((revision, position)));
        }
        // The read was opened before newer events were moved to the tables.
        let prefix = key::prefix(stream.as_str());
        let mut copies = self.database.iterate(Cf::Streams, prefix.clone(), tier)?;
        copies.seek_for_prev(key::in_stream(stream, revision));
        while let Some((key, value)) = item(&copies, Cf::Streams)? {
            let revision = key::decode_in_stream(key, &prefix).map_err(|error| bad_key(Cf::Streams, key, &error))?;
            let copy = Copied::decode(value).map_err(|error| bad_key(Cf::Streams, key, &error))?;
            if copy.position <= head {
                return Ok(Some((revision, copy.position)));
            }
            copies.prev();
        }
        Ok(None)
    }

    /// Returns the position of the event with an id, also after the head.
    pub(crate) fn position_of(&self, id: EventId, tier: Tier) -> Result<Option<Position>, Fault> {
        if let Some(position) = self.runs.iter().rev().find_map(|run| run.position_of(id)) {
            return Ok(Some(position));
        }
        match self.recent.look_up(id) {
            KnownId::Existing(position) => Ok(Some(position)),
            KnownId::New => Ok(None),
            KnownId::Unknown => self.database.position_of(id, tier),
        }
    }

    /// Returns the event at a position, which must be published.
    pub(crate) fn event(
        &self,
        position: Position,
        tier: Tier,
        decoder: &mut LogDecoder,
    ) -> Result<RecordedEvent, Fault> {
        let record = self.record_at(&mut self.log.point_reader(), position, tier)?;
        Ok(decoder.only_event(position, &record)?)
    }

    /// Returns the record of the event at a position, which must be published. The reader is used for many of them.
    pub(crate) fn record_at(&self, points: &mut PointReader, position: Position, tier: Tier) -> Result<Batch, Fault> {
        match (self.log.event_in_memory(position), tier) {
            (Some(record), _) => Ok(record),
            (None, Tier::Cached) => Err(Fault::NotCached),
            (None, Tier::Any) => Ok(points.event(position).map_err(of_log)?.ok_or_else(|| missing_event(position))?),
        }
    }

    /// Returns the event at a revision of a stream; `None` if the stream ends before it.
    pub(crate) fn event_in(
        &self,
        stream: &StreamId,
        revision: Revision,
        tier: Tier,
        decoder: &mut LogDecoder,
    ) -> Result<Option<RecordedEvent>, Fault> {
        let mut points = self.log.point_reader();
        let found = self.record_in(&mut points, (stream, revision), tier, &mut Payloads::default())?;
        let Some((position, record)) = found else { return Ok(None) };
        let event = decoder.only_event(position, &record)?;
        check_place(stream, revision, EventView::from(&event))?;
        Ok(Some(event))
    }

    /// Returns the record of the event at a revision of a stream, and its position; `None` if the stream ends before
    /// it. `points` reads records that have no copy yet; `copies` owns the bytes of copies.
    pub(crate) fn record_in(
        &self,
        points: &mut PointReader,
        (stream, revision): (&StreamId, Revision),
        tier: Tier,
        copies: &mut Payloads,
    ) -> Result<Option<(Position, Batch)>, Fault> {
        if let Some(position) = self.runs.iter().rev().find_map(|run| run.position_in(stream, revision)) {
            return match position <= self.head {
                true => Ok(Some((position, self.record_at(points, position, tier)?))),
                false => Ok(None),
            };
        }
        let Some(value) = self.database.get(Cf::Streams, &key::in_stream(stream, revision), tier)? else {
            return Ok(None);
        };
        let found = self.copied_record(stream, revision, &value, copies)?;
        Ok(Some(found).filter(|(position, _)| *position <= self.head))
    }

    /// Decodes the copy of an event in its stream.
    pub(crate) fn copied_event(
        &self,
        stream: &StreamId,
        revision: Revision,
        value: &[u8],
        decoder: &mut LogDecoder,
    ) -> Result<RecordedEvent, StoreError> {
        let (position, record) = self.copied_record(stream, revision, value, &mut Payloads::default())?;
        let event = decoder.only_event(position, &record)?;
        check_place(stream, revision, EventView::from(&event))?;
        Ok(event)
    }

    /// Returns the record of the copy of an event in its stream, and the position of the event. `copies` owns the
    /// bytes.
    pub(crate) fn copied_record(
        &self,
        stream: &StreamId,
        revision: Revision,
        value: &[u8],
        copies: &mut Payloads,
    ) -> Result<(Position, Batch), StoreError> {
        let damaged = |detail: String| StoreError::damaged(place_in(stream, revision), detail);
        let Copied { position, segment, record } = Copied::decode(value).map_err(|error| damaged(error.to_string()))?;
        let place = Place { segment, ..self.log.place() };
        let record = Batch::of_copy(copies.take(record, None), position, place)
            .map_err(|error| damaged(format!("the copy of position {position}: {error}")))?;
        Ok((position, record))
    }

    /// Returns whether all events after a position are in runs.
    pub(crate) fn is_in_memory_after(&self, position: Position) -> bool {
        self.runs.first().is_some_and(|oldest| oldest.first() <= position.next())
    }

    /// Returns the first revision of a stream that is in a run; `None` if no run has the stream.
    pub(crate) fn first_in_memory(&self, stream: &StreamId) -> Option<Revision> {
        self.runs.iter().find_map(|run| run.first_revision(stream))
    }

    /// Returns the positions in memory of a stream from a revision on, at most `count`, and the revision of the first.
    pub(crate) fn positions_in_memory(
        &self,
        stream: &StreamId,
        from: Revision,
        count: usize,
    ) -> Option<(Revision, Vec<Position>)> {
        let is_not_empty = |found: &(Revision, Vec<Position>)| !found.1.is_empty();
        self.runs.iter().find_map(|run| run.positions_from(stream, from, count).filter(is_not_empty))
    }

    /// Returns the rules and deletions up to a position.
    pub(crate) fn retention_up_to(&self, last: Position) -> Result<Retention, StoreError> {
        let mut events = self.list(Cf::Categories, CATEGORY, Direction::Forward, last)?;
        let (mut retention, mut decoder, mut next) = (Retention::default(), LogDecoder::default(), Position::FIRST);
        while let SeekResult::Match(found) = events.seek(Direction::Forward, next)? {
            retention.apply(&self.event(found, Tier::Any, &mut decoder)?)?;
            next = found.next();
        }
        Ok(retention)
    }

    /// Returns the runs, the oldest first.
    pub(crate) fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }
}

impl StreamIndex for IndexView<'_> {
    fn first_left(&self, stream: &StreamId, tier: Tier) -> Result<Revision, Fault> {
        self.database.first_left(stream, tier)
    }

    fn revision(&self, stream: &StreamId, tier: Tier) -> Result<Option<Revision>, Fault> {
        self.last_up_to(stream, self.head, tier)
    }

    fn last_up_to(&self, stream: &StreamId, head: Position, tier: Tier) -> Result<Option<Revision>, Fault> {
        Ok(self.last_of(stream, head, tier)?.map(|(revision, _)| revision))
    }

    fn recorded_at(&self, stream: &StreamId, revision: Revision, tier: Tier) -> Result<Option<Timestamp>, Fault> {
        let event = self.event_in(stream, revision, tier, &mut LogDecoder::default())?;
        Ok(event.filter(|event| !event.is_removed()).map(|event| event.recorded_at))
    }
}

/// Checks that an event is the one at a revision of a stream.
pub(crate) fn check_place(stream: &StreamId, revision: Revision, event: EventView<'_>) -> Result<(), StoreError> {
    if event.stream() == stream && event.revision() == revision {
        return Ok(());
    }
    let found = format!("found {}", place_in(event.stream(), event.revision()));
    Err(StoreError::damaged(place_in(stream, revision), found))
}

/// The value of [`Cf::Streams`]: a copy of the record of an event.
pub(crate) struct Copied<'a> {
    pub(crate) position: Position,
    pub(crate) segment: u32,
    pub(crate) record: &'a [u8],
}

impl<'a> Copied<'a> {
    /// Encodes the value into `value`, which is cleared before.
    pub(crate) fn encode(&self, value: &mut Vec<u8>) {
        value.clear();
        value.extend_from_slice(&key::position(self.position));
        value.extend_from_slice(&self.segment.to_be_bytes());
        value.extend_from_slice(self.record);
    }

    pub(crate) fn decode(value: &'a [u8]) -> Result<Self, KeyError> {
        let too_short = || KeyError::Length { expected: NUMBER_LEN + size_of::<u32>(), found: value.len() };
        let (position, rest) = value.split_at_checked(NUMBER_LEN).ok_or_else(too_short)?;
        let (segment, record) = rest.split_first_chunk().ok_or_else(too_short)?;
        Ok(Self { position: key::decode_position(position)?, segment: u32::from_be_bytes(*segment), record })
    }
}

/// Encodes the value of [`Cf::Heads`]: the revision and the position of the last event of a stream.
pub(crate) fn encode_head(revision: Revision, position: Position) -> Vec<u8> {
    [key::revision(revision), key::position(position)].concat()
}

pub(crate) fn decode_head(value: &[u8]) -> Result<(Revision, Position), KeyError> {
    let Some((revision, position)) = value.split_at_checked(NUMBER_LEN) else {
        return Err(KeyError::Length { expected: 2 * NUMBER_LEN, found: value.len() });
    };
    Ok((key::decode_revision(revision)?, key::decode_position(position)?))
}

/// Returns the error of a store for an error of its log.
pub(crate) fn of_log(error: ReadError) -> StoreError {
    match error {
        ReadError::Damaged(damage) => {
            let place = damage.position.map_or_else(|| damage.file.clone(), place_of);
            StoreError::damaged(place, damage.to_string())
        }
        ReadError::Io { path, source } if access::is_about_the_file_limit(&source.to_string()) => {
            let limit = access::file_limit().unwrap_or(u64::MAX);
            let advice = access::file_limit_text(limit, limit.saturating_mul(2).max(256).next_multiple_of(256));
            StoreError::io(format!("read {}: {advice}", path.display()), source)
        }
        ReadError::Io { .. } => StoreError::io("read the log", error),
    }
}

/// Returns the error of a store for a segment that could not be rewritten.
pub(crate) fn not_rewritten(error: RewriteError) -> StoreError {
    match error {
        RewriteError::Read(error) => of_log(error),
        error => StoreError::io("rewrite the log", error),
    }
}
