//! Reads of the log: one scan where everything is wanted, else the indexes and then only the records that match.

use std::sync::Arc;

use async_trait::async_trait;
use es_core::store::{Batch, BatchSource, Direction};
use es_core::{LogRead, Position, RecordedEvent, StoreError, Timestamp};

use super::{FIRST_EVENTS, Room};
use crate::database::{Database, Fault, Tier, decode_at, item, place_of};
use crate::key;
use crate::options::ReadLimits;
use crate::postings::{Cursor, Sought, before, behind};
use crate::read_only::Hidden;
use crate::record::Decoder;
use crate::retention::Lens;
use crate::schema::Cf;
use crate::shared::Shared;
use crate::stats::Stats;
use crate::tail::Segment;

/// How many records a filtered read fetches in one request.
const FETCH: usize = 64;

/// At about how many events in memory a read looks in one batch: an executor does it, and has other work, too.
const REMEMBERED: usize = 2048;

/// A read of the log.
pub(crate) struct LogSource {
    shared: Arc<Shared>,
    scan: LogScan,
    limits: ReadLimits,
    ended: bool,
    /// By what time ages count.
    now: Timestamp,
}

/// Where a read of the log stands.
#[derive(Debug, Clone)]
struct LogScan {
    read: LogRead,
    head: Position,
    /// The position to go on at.
    next: Position,
    /// How many events may still be returned.
    left: Option<u64>,
    /// In which form hidden events are returned, if they are.
    hidden: Option<Hidden>,
}

/// A part of a read of the log.
struct Found {
    events: Vec<RecordedEvent>,
    /// Where to go on; `None` when everything in the direction was looked at.
    next: Option<Position>,
}

impl LogSource {
    /// A read of the log up to `head`; `None` where it has nothing to look at.
    pub(crate) fn new(
        shared: Arc<Shared>,
        limits: ReadLimits,
        read: LogRead,
        head: Position,
        hidden: Option<Hidden>,
    ) -> Option<Self> {
        let next = match read.direction {
            Direction::Forward => read.from.unwrap_or(Position::FIRST),
            Direction::Backward => read.from.map_or(head, |from| from.min(head)),
        };
        if next > head || read.limit == Some(0) {
            return None;
        }
        let scan = LogScan { left: read.limit, read, head, next, hidden };
        let now = shared.clock.now();
        Some(Self { shared, scan, limits, ended: false, now })
    }

    /// From memory if what comes next is there, else from the disk.
    async fn fetch(&self) -> Result<Found, StoreError> {
        if let Some(found) = self.remembered()? {
            let log_events_from_memory = found.events.len() as u64;
            self.shared.counters.add(Stats { log_events_from_memory, ..Stats::default() });
            return Ok(found);
        }
        let (scan, limits) = (self.scan.clone(), self.limits);
        let (shared, now) = (Arc::clone(&self.shared), self.now);
        let fetch =
            move |database: &Database| scan.fetch(database, limits, Lens::new(&shared.operators, now, scan.head));
        let found = self.shared.blocking(fetch).await?;
        let log_events_from_disk = found.events.len() as u64;
        self.shared.counters.add(Stats { log_events_from_disk, ..Stats::default() });
        Ok(found)
    }

    /// What the tail has; `None` also where a rule asks for what is on the disk only.
    fn remembered(&self) -> Result<Option<Found>, StoreError> {
        let Self { shared, scan, limits, .. } = self;
        // NOTE: the tail has nothing for who wants to see what is hidden: it forgets what is removed.
        if scan.read.direction == Direction::Backward || scan.hidden.is_some() {
            return Ok(None);
        }
        let Some(segments) = shared.tail.from(scan.next, REMEMBERED) else { return Ok(None) };
        let lens = Lens::new(&shared.operators, self.now, scan.head);
        match shared.cached(|database| scan.remembered(database, &segments, *limits, lens)) {
            Ok(found) => Ok(Some(found)),
            Err(Fault::NotCached) => Ok(None),
            Err(Fault::Store(error)) => Err(error),
        }
    }
}

#[async_trait]
impl BatchSource for LogSource {
    async fn next_batch(&mut self) -> Result<Option<Batch>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let Found { events, next } = self.fetch().await?;
        self.scan.left = self.scan.left.map(|left| left.saturating_sub(events.len() as u64));
        let scanned = match next {
            _ if self.scan.left == Some(0) => {
                self.ended = true;
                events.last().map(|event| event.position)
            }
            Some(next) => {
                self.scan.next = next;
                before(self.scan.read.direction, next)
            }
            None => {
                self.ended = true;
                // NOTE: it is told of no event, because it was not the limit that ended this read.
                self.scan.read.scanned_to(Some(self.scan.head), &[])
            }
        };
        Ok(Some(Batch { events, scanned }))
    }
}

impl LogScan {
    /// What the tail has of a forward read: every event that it looks at is matched here, without an index.
    fn remembered(
        &self,
        database: &Database,
        segments: &[Arc<Segment>],
        limits: ReadLimits,
        mut lens: Lens<'_>,
    ) -> Result<Found, Fault> {
        let mut room = Room::new(limits, self.left);
        let mut events = Vec::new();
        let mut next = Some(self.next);
        for event in segments.iter().flat_map(|segment| segment.from(self.next)) {
            if event.position > self.head || room.is_used_up() {
                break;
            }
            if self.read.query.matches_event(event) {
                match lens.shows(database, event, Tier::Cached)? {
                    true => {
                        room.take(event.payload.len());
                        events.push(event.clone());
                    }
                    false => room.pass(),
                }
            }
            next = behind(Direction::Forward, event.position);
        }
        Ok(Found { events, next: next.filter(|next| *next <= self.head) })
    }

    fn fetch(&self, database: &Database, limits: ReadLimits, mut lens: Lens<'_>) -> Result<Found, StoreError> {
        let mut cursor = Cursor::new(database, &self.read.query, self.read.direction, self.head)?;
        match cursor {
            Cursor::All { .. } => self.scan(database, limits, &mut lens),
            _ => self.filter(database, limits, &mut cursor, &mut lens),
        }
    }

    /// Every event: one scan of the log. The log has no gaps; one found here is a loss.
    fn scan(&self, database: &Database, limits: ReadLimits, lens: &mut Lens<'_>) -> Result<Found, StoreError> {
        let direction = self.read.direction;
        let mut keys = database.scan_log()?;
        match direction {
            Direction::Forward => keys.seek(key::position(self.next)),
            Direction::Backward => keys.seek_for_prev(key::position(self.next)),
        }
        let mut room = Room::new(limits, self.left);
        let mut decoder = Decoder::default();
        let mut events = Vec::with_capacity(room.events.min(FIRST_EVENTS));
        let mut next = Some(self.next);
        while let Some(expected) = next.filter(|next| *next <= self.head) {
            if room.is_used_up() {
                return Ok(Found { events, next });
            }
            let record = match item(&keys, Cf::Log)? {
                Some((key, record)) if key == key::position(expected) => record,
                other => {
                    let found = other.map_or("none".into(), |(key, _)| format!("key {}", key.escape_ascii()));
                    return Err(StoreError::damaged(place_of(expected), format!("expected an event, found {found}")));
                }
            };
            match self.shown(database, decode_at(expected, record, &mut decoder)?, lens)? {
                Some(event) => {
                    room.take(record.len());
                    events.push(event);
                }
                None => room.pass(),
            }
            next = behind(direction, expected);
            match direction {
                Direction::Forward => keys.next(),
                Direction::Backward => keys.prev(),
            }
        }
        Ok(Found { events, next: None })
    }

    /// An event in the form in which this read returns it; `None` where it does not.
    fn shown(
        &self,
        database: &Database,
        event: RecordedEvent,
        lens: &mut Lens<'_>,
    ) -> Result<Option<RecordedEvent>, StoreError> {
        match self.hidden {
            Some(Hidden::AsItIs) => Ok(Some(event)),
            _ if lens.shows(database, &event, Tier::Any)? => Ok(Some(event)),
            Some(Hidden::AsRemoved) => Ok(Some(event.without_content())),
            None => Ok(None),
        }
    }

    /// The events that match: their positions from the indexes, then their records.
    fn filter(
        &self,
        database: &Database,
        limits: ReadLimits,
        cursor: &mut Cursor<'_>,
        lens: &mut Lens<'_>,
    ) -> Result<Found, StoreError> {
        let mut room = Room::new(limits, self.left);
        let mut decoder = Decoder::default();
        let mut events = Vec::new();
        let mut next = Some(self.next);
        while let Some(from) = next.filter(|_| !room.is_used_up()) {
            let matches = Matches::find(cursor, self.read.direction, from, room.events.min(FETCH))?;
            next = matches.next;
            for (event, bytes) in database.events(&matches.positions, &mut decoder)? {
                if room.is_used_up() {
                    // NOTE: fetched in vain; the next batch begins with it.
                    next = Some(event.position);
                    break;
                }
                // NOTE: an index may name what was removed since it was looked at.
                if event.is_removed() {
                    room.pass();
                    continue;
                }
                self.check_matches(&event)?;
                match self.shown(database, event, lens)? {
                    Some(event) => {
                        room.take(bytes);
                        events.push(event);
                    }
                    None => room.pass(),
                }
            }
            if matches.is_paused {
                break;
            }
        }
        Ok(Found { events, next })
    }

    /// What an index names must be what was asked for.
    fn check_matches(&self, event: &RecordedEvent) -> Result<(), StoreError> {
        if self.read.query.matches_event(event) {
            return Ok(());
        }
        let (stream, event_type) = (&event.stream, &event.event_type);
        let detail = format!(
            "an index names it; expected an event that matches what was asked for, \
             found type {event_type:?} in stream {stream:?}"
        );
        Err(StoreError::damaged(place_of(event.position), detail))
    }
}

/// Some positions that match.
struct Matches {
    positions: Vec<Position>,
    /// Where to look for more; `None` when there are none.
    next: Option<Position>,
    /// Whether the search stopped before it had found enough, so that it does not take too long at once.
    is_paused: bool,
}

impl Matches {
    fn find(cursor: &mut Cursor<'_>, direction: Direction, from: Position, count: usize) -> Result<Self, StoreError> {
        let mut positions = Vec::with_capacity(count);
        let mut next = Some(from);
        while let Some(target) = next.filter(|_| positions.len() < count) {
            match cursor.seek(direction, target)? {
                Sought::At(found) => {
                    positions.push(found);
                    next = behind(direction, found);
                }
                Sought::Pause(at) => return Ok(Self { positions, next: Some(at), is_paused: true }),
                Sought::End => next = None,
            }
        }
        Ok(Self { positions, next, is_paused: false })
    }
}
