//! Reads of the log: a scan if the query matches every event, otherwise index look-ups and the records that match.

use std::sync::Arc;

use async_trait::async_trait;
use es_core::model::EventView;
use es_core::store::implement::BatchSource;
use es_core::store::{Batch, Direction, Visitor};
use es_core::{LogRead, Position, RecordedEvent, StoreError, Timestamp};

use super::{BatchBudget, BatchSizes, FIRST_BATCH, FetchedRecords, INITIAL_CAPACITY};
use crate::ahead::Prefetch;
use crate::database::{Database, Fault, FillCache, Tier, bad_record, check_position, decode_at, item, place_of};
use crate::key;
use crate::options::ReadLimits;
use crate::postings::{Cursor, SeekResult, check_matches, predecessor, successor};
use crate::record::{Checked, Decoder};
use crate::retention::{HiddenEvents, RetentionFilter};
use crate::schema::Cf;
use crate::shared::Shared;
use crate::stats::Stats;
use crate::tail::{Segment, Tail};

/// The largest number of records that a filtered read requests at a time.
const FETCH: usize = 64;

/// About how many events of the tail a batch examines. The limit bounds the time on an executor thread.
const TAIL_EVENTS: usize = 2048;

/// A read of the log.
pub(crate) struct LogSource {
    shared: Arc<Shared>,
    scan: LogScan,
    batch_sizes: BatchSizes,
    /// The prefetched next part, from disk.
    prefetched: Prefetch<Fetched>,
    /// The fetched records that are not decoded yet.
    records: FetchedRecords<Position>,
    decoder: Decoder,
    /// The last scanned position once `records` is decoded.
    scanned: Option<Position>,
    ended: bool,
    /// The time at which the read was opened. Ages of events are relative to it.
    now: Timestamp,
}

/// The query and the progress of a log read.
#[derive(Debug, Clone)]
struct LogScan {
    read: LogRead,
    head: Position,
    /// The first position of the next part.
    next: Position,
    /// How many events the read may still return.
    remaining: Option<u64>,
    /// The form in which hidden events are returned; `None` if they are skipped.
    hidden: Option<HiddenEvents>,
}

/// A part of a read of the log.
struct LogPart {
    events: Vec<RecordedEvent>,
    /// The first position of the next part; `None` if this is the last part.
    next: Option<Position>,
}

/// A fetched part of a log read.
enum Fetched {
    /// Records of a read that returns all of them, in its order and not decoded yet, and the next position as in
    /// [`LogPart`].
    Records(FetchedRecords<Position>, Option<Position>),
    /// Decoded events. Hidden events are filtered out already.
    Events(LogPart),
}

impl LogSource {
    /// Creates a read of the log up to `head`; `None` if its range is empty or its limit is 0.
    pub(crate) fn new(
        shared: Arc<Shared>,
        limits: ReadLimits,
        read: LogRead,
        head: Position,
        hidden: Option<HiddenEvents>,
    ) -> Option<Self> {
        let next = match read.direction {
            Direction::Forward => read.from.unwrap_or(Position::FIRST),
            Direction::Backward => read.from.map_or(head, |from| from.min(head)),
        };
        if next > head || read.limit == Some(0) {
            return None;
        }
        let scan = LogScan { remaining: read.limit, read, head, next, hidden };
        let now = shared.clock.now();
        let (batch_sizes, prefetched) = (BatchSizes::new(limits), Prefetch::empty());
        let (records, decoder) = (FetchedRecords::default(), Decoder::default());
        Some(Self { shared, scan, batch_sizes, prefetched, records, decoder, scanned: None, ended: false, now })
    }

    /// Fetches the next part: the prefetched one, from the tail if the tail has its first event, otherwise from disk.
    async fn fetch(&mut self) -> Result<Fetched, StoreError> {
        let fetched = match self.prefetched.take().await {
            Some(fetched) => fetched?,
            None => {
                if let Some(found) = self.fetch_from_tail()? {
                    let log_events_from_memory = found.events.len() as u64;
                    self.shared.counters.add(Stats { log_events_from_memory, ..Stats::default() });
                    return Ok(Fetched::Events(found));
                }
                let fetch = self.next_fetch();
                self.shared.blocking(fetch).await?
            }
        };
        let log_events_from_disk = fetched.len() as u64;
        self.shared.counters.add(Stats { log_events_from_disk, ..Stats::default() });
        Ok(fetched)
    }

    /// Fetches a part from the tail; `None` if the tail does not have its first event, or if a retention rule needs
    /// data that is not in memory.
    fn fetch_from_tail(&self) -> Result<Option<LogPart>, StoreError> {
        let Self { shared, scan, .. } = self;
        if !scan.can_use_tail() {
            return Ok(None);
        }
        let Some(segments) = shared.tail.from(scan.next, TAIL_EVENTS) else { return Ok(None) };
        let filter = RetentionFilter::new(&shared.operators, self.now, scan.head);
        match shared.cached(|database| scan.select(database, &segments, self.batch_sizes.max, filter)) {
            Ok(found) => Ok(Some(found)),
            Err(Fault::NotCached) => Ok(None),
            Err(Fault::Store(error)) => Err(error),
        }
    }

    /// Moves the scan past a fetched part. Returns the last scanned position.
    fn advance(&mut self, fetched: &Fetched) -> Option<Position> {
        self.scan.remaining = self.scan.remaining.map(|events| events.saturating_sub(fetched.len() as u64));
        match fetched.next() {
            _ if self.scan.remaining == Some(0) => {
                self.ended = true;
                fetched.last()
            }
            Some(next) => {
                self.scan.next = next;
                predecessor(self.scan.read.direction, next)
            }
            None => {
                self.ended = true;
                // The list of events is empty, because the limit did not end this read.
                self.scan.read.scanned_to::<RecordedEvent>(Some(self.scan.head), &[])
            }
        }
    }

    /// Returns a closure that fetches the next part from disk.
    fn next_fetch(&mut self) -> impl FnOnce(&Database) -> Result<Fetched, StoreError> + Send + 'static {
        let (scan, limits) = (self.scan.clone(), self.batch_sizes.next());
        let (shared, now) = (Arc::clone(&self.shared), self.now);
        move |database| scan.fetch(database, limits, RetentionFilter::new(&shared.operators, now, scan.head))
    }

    /// Starts to fetch the next part in the background, unless the tail has it.
    fn prefetch(&mut self) {
        if !self.ended && !self.scan.is_in_tail(&self.shared.tail) {
            let fetch = self.next_fetch();
            self.prefetched.start(&self.shared, fetch);
        }
    }
}

impl LogSource {
    /// Visits the events of the read. Returns the last scanned position, or the position of the event at which the
    /// visitor broke.
    pub(crate) async fn visit(mut self, visitor: &mut Visitor<'_>) -> Result<Option<Position>, StoreError> {
        let mut last = None;
        while !self.ended {
            for event in &self.refill().await? {
                if visitor(EventView::from(event)).is_break() {
                    return Ok(Some(event.position));
                }
            }
            #[expect(clippy::redundant_closure, reason = "the function itself is not general over the lifetime")]
            let position = self.records.visit(
                &mut self.decoder,
                &mut last,
                |number, read| check_position(number, read),
                visitor,
            )?;
            if let Some(position) = position {
                return Ok(Some(position));
            }
        }
        Ok(self.scanned)
    }

    /// Fetches the next part of the read. Returns its events if they are decoded; otherwise stores its records in
    /// `self.records` and returns an empty list.
    async fn refill(&mut self) -> Result<Vec<RecordedEvent>, StoreError> {
        if self.shared.is_closed() {
            return Err(StoreError::Closed);
        }
        let fetched = self.fetch().await?;
        self.scanned = self.advance(&fetched);
        self.prefetch();
        match fetched {
            Fetched::Events(LogPart { events, .. }) => Ok(events),
            Fetched::Records(records, _) => {
                self.records = records;
                Ok(Vec::new())
            }
        }
    }
}

#[async_trait]
impl BatchSource for LogSource {
    async fn next_batch(&mut self) -> Result<Option<Batch>, StoreError> {
        if self.ended && self.records.is_empty() {
            return Ok(None);
        }
        if self.shared.is_closed() {
            return Err(StoreError::Closed);
        }
        if self.records.is_empty() {
            let events = self.refill().await?;
            if self.records.is_empty() {
                return Ok(Some(Batch { events, scanned: self.scanned }));
            }
        }
        // The consumer's thread decodes and the blocking thread fetches, so that two threads share the work. Then the
        // thread that allocates an event usually also frees it, which is much cheaper than freeing on another thread.
        let events = self.records.decode(FIRST_BATCH.events, &mut self.decoder)?;
        let is_all = self.records.is_empty();
        let scanned = if is_all { self.scanned } else { events.last().map(|event| event.position) };
        Ok(Some(Batch { events, scanned }))
    }
}

impl Fetched {
    /// Returns the number of events.
    fn len(&self) -> usize {
        match self {
            Self::Records(records, _) => records.len(),
            Self::Events(found) => found.events.len(),
        }
    }

    /// Returns the position of the last event.
    fn last(&self) -> Option<Position> {
        match self {
            Self::Records(records, _) => records.last(),
            Self::Events(found) => found.events.last().map(|event| event.position),
        }
    }

    /// Returns the first position of the next part; `None` if this is the last part.
    fn next(&self) -> Option<Position> {
        match self {
            Self::Records(_, next) => *next,
            Self::Events(found) => found.next,
        }
    }
}

impl LogScan {
    /// Returns whether the next part can be read from the tail.
    fn is_in_tail(&self, tail: &Tail) -> bool {
        self.can_use_tail() && tail.has(self.next)
    }

    /// Returns whether the tail serves reads of this kind.
    fn can_use_tail(&self) -> bool {
        // It cannot serve a read that returns hidden events, because it drops removed events and has no tombstones.
        self.read.direction == Direction::Forward && self.hidden.is_none()
    }

    /// Selects the events of a forward read from segments of the tail. Tests each event against the query, without an
    /// index.
    fn select(
        &self,
        database: &Database,
        segments: &[Arc<Segment>],
        limits: ReadLimits,
        mut filter: RetentionFilter<'_>,
    ) -> Result<LogPart, Fault> {
        let mut budget = BatchBudget::new(limits, self.remaining);
        let mut events = Vec::new();
        let mut next = Some(self.next);
        for event in segments.iter().flat_map(|segment| segment.from(self.next)) {
            if event.position > self.head || budget.is_exhausted() {
                break;
            }
            if self.read.query.matches_event(event) {
                match filter.shows(database, event, Tier::Cached)? {
                    true => {
                        budget.add(event.data.payload.len());
                        events.push(event.clone());
                    }
                    false => budget.skip_hidden(),
                }
            }
            next = successor(Direction::Forward, event.position);
        }
        Ok(LogPart { events, next: next.filter(|next| *next <= self.head) })
    }

    fn fetch(
        &self,
        database: &Database,
        limits: ReadLimits,
        mut filter: RetentionFilter<'_>,
    ) -> Result<Fetched, StoreError> {
        let mut cursor = Cursor::new(database, &self.read.query, self.read.direction, self.head)?;
        match cursor {
            // The check whether an event is hidden may read the database, so the fetching thread does it.
            Cursor::All { .. } if self.hidden != Some(HiddenEvents::WithContent) && filter.may_hide() => {
                self.scan_visible(database, limits, &mut filter).map(Fetched::Events)
            }
            Cursor::All { .. } => self.copy_records(database, limits),
            _ => self.fetch_matches(database, limits, &mut cursor, &mut filter).map(Fetched::Events),
        }
    }

    /// Copies the records of all events, for a read that skips none of them. The consumer decodes them.
    fn copy_records(&self, database: &Database, limits: ReadLimits) -> Result<Fetched, StoreError> {
        let mut budget = BatchBudget::new(limits, self.remaining);
        let mut records = FetchedRecords::default();
        let next = self.scan(database, self.range_of(budget.events), &mut budget, |position, record, budget| {
            // Checked here and decoded on the consumer's thread: both steps take about the same time.
            let record = Checked::new(record).map_err(|error| bad_record(place_of(position), &error))?;
            // An event may have been hidden and removed after the check whether any event is hidden. Decoding detects a
            // damaged tombstone.
            if record.is_removed() && self.hidden.is_none() {
                check_position(position, Decoder::default().decode_checked(record, None))?;
                budget.skip_hidden();
            } else {
                budget.add(record.bytes().len());
                records.push(position, record);
            }
            Ok(())
        })?;
        Ok(Fetched::Records(records, next))
    }

    /// Scans the log and decodes the events that this read returns.
    fn scan_visible(
        &self,
        database: &Database,
        limits: ReadLimits,
        filter: &mut RetentionFilter<'_>,
    ) -> Result<LogPart, StoreError> {
        let mut budget = BatchBudget::new(limits, self.remaining);
        let range = self.range_of(budget.events.saturating_add(budget.hidden));
        let mut decoder = Decoder::default();
        let mut events = Vec::with_capacity(budget.events.min(INITIAL_CAPACITY));
        let next = self.scan(database, range, &mut budget, |position, record, budget| {
            match self.apply_retention(database, decode_at(position, record, &mut decoder)?, filter)? {
                Some(event) => {
                    budget.add(record.len());
                    events.push(event);
                }
                None => budget.skip_hidden(),
            }
            Ok(())
        })?;
        Ok(LogPart { events, next })
    }

    /// Scans the log within a range of positions, in the direction of the read, until the budget is exhausted. Passes
    /// each record to `take`. Returns the first position of the next part.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if a position has no event, because the log has no gaps; otherwise the error of `take`.
    fn scan(
        &self,
        database: &Database,
        (first, last): (Position, Position),
        budget: &mut BatchBudget,
        mut take: impl FnMut(Position, &[u8], &mut BatchBudget) -> Result<(), StoreError>,
    ) -> Result<Option<Position>, StoreError> {
        let direction = self.read.direction;
        let fill_cache = if budget.events > FIRST_BATCH.events { FillCache::No } else { FillCache::Yes };
        let mut keys = database.scan_log(first, last, fill_cache)?;
        match direction {
            Direction::Forward => keys.seek(key::position(self.next)),
            Direction::Backward => keys.seek_for_prev(key::position(self.next)),
        }
        let mut next = Some(self.next);
        while let Some(expected) = next.filter(|next| (first..=last).contains(next) && !budget.is_exhausted()) {
            let record = match item(&keys, Cf::Log)? {
                Some((key, record)) if key == key::position(expected) => record,
                other => {
                    let found = other.map_or("none".into(), |(key, _)| format!("key {}", key.escape_ascii()));
                    return Err(StoreError::damaged(place_of(expected), format!("expected an event, found {found}")));
                }
            };
            take(expected, record, budget)?;
            next = successor(direction, expected);
            match direction {
                Direction::Forward => keys.next(),
                Direction::Backward => keys.prev(),
            }
        }
        Ok(next.filter(|next| *next <= self.head))
    }

    /// Returns an event in the form in which this read returns it; `None` if the read skips it.
    fn apply_retention(
        &self,
        database: &Database,
        event: RecordedEvent,
        filter: &mut RetentionFilter<'_>,
    ) -> Result<Option<RecordedEvent>, StoreError> {
        match self.hidden {
            Some(HiddenEvents::WithContent) => Ok(Some(event)),
            _ if filter.shows(database, &event, Tier::Any)? => Ok(Some(event)),
            Some(HiddenEvents::AsTombstones) => Ok(Some(event.without_content())),
            None => Ok(None),
        }
    }

    /// Returns the lowest and the highest position of the next `events` events.
    fn range_of(&self, events: usize) -> (Position, Position) {
        let others = (events as u64).saturating_sub(1);
        match self.read.direction {
            Direction::Forward => {
                let last = Position::new(self.next.get().saturating_add(others)).unwrap_or(self.head);
                (self.next, last.min(self.head))
            }
            Direction::Backward => {
                (Position::new(self.next.get().saturating_sub(others)).unwrap_or(Position::FIRST), self.next)
            }
        }
    }

    /// Finds the positions of matching events in the indexes, and fetches their records.
    fn fetch_matches(
        &self,
        database: &Database,
        limits: ReadLimits,
        cursor: &mut Cursor<'_>,
        filter: &mut RetentionFilter<'_>,
    ) -> Result<LogPart, StoreError> {
        let mut budget = BatchBudget::new(limits, self.remaining);
        let mut decoder = Decoder::default();
        let mut events = Vec::new();
        let mut next = Some(self.next);
        while let Some(from) = next.filter(|_| !budget.is_exhausted()) {
            let matches = Matches::find(cursor, self.read.direction, from, budget.events.min(FETCH))?;
            next = matches.next;
            for (event, bytes) in database.events(&matches.positions, &mut decoder)? {
                if budget.is_exhausted() {
                    // The batch is full. The next batch fetches this event again.
                    next = Some(event.position);
                    break;
                }
                // A scavenge may have removed the event after the index was read.
                if event.is_removed() {
                    budget.skip_hidden();
                    continue;
                }
                check_matches(&self.read.query, &event)?;
                match self.apply_retention(database, event, filter)? {
                    Some(event) => {
                        budget.add(bytes);
                        events.push(event);
                    }
                    None => budget.skip_hidden(),
                }
            }
            if matches.is_paused {
                break;
            }
        }
        Ok(LogPart { events, next })
    }
}

/// The next positions that match a query.
struct Matches {
    positions: Vec<Position>,
    /// The first position of the next search; `None` if there are no more matches.
    next: Option<Position>,
    /// Whether the search stopped early to bound its time.
    is_paused: bool,
}

impl Matches {
    fn find(cursor: &mut Cursor<'_>, direction: Direction, from: Position, count: usize) -> Result<Self, StoreError> {
        let mut positions = Vec::with_capacity(count);
        let mut next = Some(from);
        while let Some(target) = next.filter(|_| positions.len() < count) {
            match cursor.seek(direction, target)? {
                SeekResult::Match(found) => {
                    positions.push(found);
                    next = successor(direction, found);
                }
                SeekResult::Pause(at) => return Ok(Self { positions, next: Some(at), is_paused: true }),
                SeekResult::End => next = None,
            }
        }
        Ok(Self { positions, next, is_paused: false })
    }
}

#[cfg(test)]
mod tests;
