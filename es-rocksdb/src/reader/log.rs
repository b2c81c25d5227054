//! Reads of the log: one scan where everything is wanted, else the indexes and then only the records that match.

use std::sync::Arc;

use async_trait::async_trait;
use es_core::model::EventView;
use es_core::store::implement::BatchSource;
use es_core::store::{Batch, Direction, Visitor};
use es_core::{LogRead, Position, RecordedEvent, StoreError, Timestamp};

use super::{BatchBudget, FIRST, FIRST_EVENTS, FetchedRecords, Pace};
use crate::ahead::Ahead;
use crate::database::{Database, Fault, Keeping, Tier, at, bad_record, decode_at, item, place_of};
use crate::key;
use crate::options::ReadLimits;
use crate::postings::{Cursor, Sought, predecessor, successor};
use crate::read_only::HiddenEvents;
use crate::record::{Checked, Decoder};
use crate::retention::Lens;
use crate::schema::Cf;
use crate::shared::Shared;
use crate::stats::Stats;
use crate::tail::{Segment, Tail};

/// How many records a filtered read fetches in one request.
const FETCH: usize = 64;

/// At about how many events in memory a read looks in one batch: an executor does it, and has other work, too.
const REMEMBERED: usize = 2048;

/// A read of the log.
pub(crate) struct LogSource {
    shared: Arc<Shared>,
    scan: LogScan,
    pace: Pace,
    /// What comes next from the disk, while the consumer has what came before.
    ahead: Ahead<Fetched>,
    /// What was fetched and is not decoded yet.
    records: FetchedRecords<Position>,
    decoder: Decoder,
    /// How far the read has looked when that is decoded.
    scanned: Option<Position>,
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
    hidden: Option<HiddenEvents>,
}

/// A part of a read of the log.
struct LogPart {
    events: Vec<RecordedEvent>,
    /// Where to go on; `None` when everything in the direction was looked at.
    next: Option<Position>,
}

/// A part of a read as it comes from the disk.
enum Fetched {
    /// All of them are returned. They are in the order of the read, not looked at yet; and where to go on as in [`LogPart`].
    Records(FetchedRecords<Position>, Option<Position>),
    /// What is left of those that were looked at.
    Events(LogPart),
}

impl LogSource {
    /// A read of the log up to `head`; `None` where it has nothing to look at.
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
        let scan = LogScan { left: read.limit, read, head, next, hidden };
        let now = shared.clock.now();
        let (pace, ahead) = (Pace::new(limits), Ahead::none());
        let (records, decoder) = (FetchedRecords::default(), Decoder::default());
        Some(Self { shared, scan, pace, ahead, records, decoder, scanned: None, ended: false, now })
    }

    /// From memory if what comes next is there, else from the disk.
    async fn fetch(&mut self) -> Result<Fetched, StoreError> {
        let fetched = match self.ahead.take().await {
            Some(fetched) => fetched?,
            None => {
                if let Some(found) = self.remembered()? {
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

    /// What the tail has; `None` also where a rule asks for what is on the disk only.
    fn remembered(&self) -> Result<Option<LogPart>, StoreError> {
        let Self { shared, scan, .. } = self;
        if !scan.may_be_remembered() {
            return Ok(None);
        }
        let Some(segments) = shared.tail.from(scan.next, REMEMBERED) else { return Ok(None) };
        let lens = Lens::new(&shared.operators, self.now, scan.head);
        match shared.cached(|database| scan.remembered(database, &segments, self.pace.most, lens)) {
            Ok(found) => Ok(Some(found)),
            Err(Fault::NotCached) => Ok(None),
            Err(Fault::Store(error)) => Err(error),
        }
    }

    /// Goes on behind what was fetched. Returns how far the read has looked then.
    fn advance(&mut self, fetched: &Fetched) -> Option<Position> {
        self.scan.left = self.scan.left.map(|left| left.saturating_sub(fetched.len() as u64));
        match fetched.next() {
            _ if self.scan.left == Some(0) => {
                self.ended = true;
                fetched.last()
            }
            Some(next) => {
                self.scan.next = next;
                predecessor(self.scan.read.direction, next)
            }
            None => {
                self.ended = true;
                // NOTE: it is told of no event, because it was not the limit that ended this read.
                self.scan.read.scanned_to::<RecordedEvent>(Some(self.scan.head), &[])
            }
        }
    }

    /// What fetches the next part from the disk.
    fn next_fetch(&mut self) -> impl FnOnce(&Database) -> Result<Fetched, StoreError> + Send + 'static {
        let (scan, limits) = (self.scan.clone(), self.pace.next());
        let (shared, now) = (Arc::clone(&self.shared), self.now);
        move |database| scan.fetch(database, limits, Lens::new(&shared.operators, now, scan.head))
    }

    /// Begins to fetch what comes next, so that it is there when the consumer asks for it.
    fn go_ahead(&mut self) {
        if !self.ended && !self.scan.is_remembered(&self.shared.tail) {
            let fetch = self.next_fetch();
            self.ahead.begin(&self.shared, fetch);
        }
    }
}

impl LogSource {
    /// Visits the events of the read. Returns the last position that was scanned, or that of the event at which the visitor broke.
    pub(crate) async fn visit(mut self, visitor: &mut Visitor<'_>) -> Result<Option<Position>, StoreError> {
        let mut last = None;
        while !self.ended {
            for event in &self.refill().await? {
                if visitor(EventView::from(event)).is_break() {
                    return Ok(Some(event.position));
                }
            }
            #[expect(clippy::redundant_closure, reason = "the function itself is not general over the lifetime")]
            let position =
                self.records.visit(&mut self.decoder, &mut last, |position, read| at(position, read), visitor)?;
            if let Some(position) = position {
                return Ok(Some(position));
            }
        }
        Ok(self.scanned)
    }

    /// Fetches the next part of the read. Returns its events where they are decoded; else its records are in `self.records`.
    async fn refill(&mut self) -> Result<Vec<RecordedEvent>, StoreError> {
        if self.shared.is_closed() {
            return Err(StoreError::Closed);
        }
        let fetched = self.fetch().await?;
        self.scanned = self.advance(&fetched);
        self.go_ahead();
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
        // NOTE: here and not where they were fetched, so that two threads share the work; and what is allocated is freed by the
        // thread that allocated it, as a rule, which is much cheaper than if another one did.
        let events = self.records.decode(FIRST.events, &mut self.decoder)?;
        let is_all = self.records.is_empty();
        let scanned = if is_all { self.scanned } else { events.last().map(|event| event.position) };
        Ok(Some(Batch { events, scanned }))
    }
}

impl Fetched {
    fn len(&self) -> usize {
        match self {
            Self::Records(records, _) => records.len(),
            Self::Events(found) => found.events.len(),
        }
    }

    /// The position of the last event.
    fn last(&self) -> Option<Position> {
        match self {
            Self::Records(records, _) => records.last(),
            Self::Events(found) => found.events.last().map(|event| event.position),
        }
    }

    fn next(&self) -> Option<Position> {
        match self {
            Self::Records(_, next) => *next,
            Self::Events(found) => found.next,
        }
    }
}

impl LogScan {
    /// Whether the tail has what comes next.
    fn is_remembered(&self, tail: &Tail) -> bool {
        self.may_be_remembered() && tail.has(self.next)
    }

    /// Whether the tail is asked at all.
    fn may_be_remembered(&self) -> bool {
        // NOTE: it has nothing for who wants to see what is hidden: it forgets what is removed.
        self.read.direction == Direction::Forward && self.hidden.is_none()
    }

    /// What the tail has of a forward read: every event that it looks at is matched here, without an index.
    fn remembered(
        &self,
        database: &Database,
        segments: &[Arc<Segment>],
        limits: ReadLimits,
        mut lens: Lens<'_>,
    ) -> Result<LogPart, Fault> {
        let mut budget = BatchBudget::new(limits, self.left);
        let mut events = Vec::new();
        let mut next = Some(self.next);
        for event in segments.iter().flat_map(|segment| segment.from(self.next)) {
            if event.position > self.head || budget.is_used_up() {
                break;
            }
            if self.read.query.matches_event(event) {
                match lens.shows(database, event, Tier::Cached)? {
                    true => {
                        budget.take(event.data.payload.len());
                        events.push(event.clone());
                    }
                    false => budget.pass(),
                }
            }
            next = successor(Direction::Forward, event.position);
        }
        Ok(LogPart { events, next: next.filter(|next| *next <= self.head) })
    }

    fn fetch(&self, database: &Database, limits: ReadLimits, mut lens: Lens<'_>) -> Result<Fetched, StoreError> {
        let mut cursor = Cursor::new(database, &self.read.query, self.read.direction, self.head)?;
        match cursor {
            // NOTE: whether something is hidden may need the database, which only the thread has that fetches.
            Cursor::All { .. } if self.hidden != Some(HiddenEvents::WithContent) && lens.may_hide() => {
                self.look_through(database, limits, &mut lens).map(Fetched::Events)
            }
            Cursor::All { .. } => self.copy(database, limits),
            _ => self.filter(database, limits, &mut cursor, &mut lens).map(Fetched::Events),
        }
    }

    /// Copies the records of all events, where the read hides none. The reader decodes them.
    fn copy(&self, database: &Database, limits: ReadLimits) -> Result<Fetched, StoreError> {
        let mut budget = BatchBudget::new(limits, self.left);
        let mut records = FetchedRecords::default();
        let next = self.scan(database, self.span(budget.events), &mut budget, |position, record, budget| {
            // NOTE: checked here and decoded elsewhere, because each takes about as long as the other.
            let record = Checked::new(record).map_err(|error| bad_record(place_of(position), &error))?;
            // Events may have been hidden and removed since the check whether any event is hidden. Decoding finds a damaged
            // tombstone.
            if record.is_removed() && self.hidden.is_none() {
                at(position, Decoder::default().decode_checked(record, None))?;
                budget.pass();
            } else {
                budget.take(record.bytes().len());
                records.push(position, record);
            }
            Ok(())
        })?;
        Ok(Fetched::Records(records, next))
    }

    /// Every event that this read shows.
    fn look_through(
        &self,
        database: &Database,
        limits: ReadLimits,
        lens: &mut Lens<'_>,
    ) -> Result<LogPart, StoreError> {
        let mut budget = BatchBudget::new(limits, self.left);
        let span = self.span(budget.events.saturating_add(budget.hidden));
        let mut decoder = Decoder::default();
        let mut events = Vec::with_capacity(budget.events.min(FIRST_EVENTS));
        let next = self.scan(database, span, &mut budget, |position, record, budget| {
            match self.shown(database, decode_at(position, record, &mut decoder)?, lens)? {
                Some(event) => {
                    budget.take(record.len());
                    events.push(event);
                }
                None => budget.pass(),
            }
            Ok(())
        })?;
        Ok(LogPart { events, next })
    }

    /// One scan of the log from the first to the last position of `span`, as long as the budget lasts, in the direction of the read.
    /// Returns where to go on. The log has no gaps; one found here is a loss.
    fn scan(
        &self,
        database: &Database,
        (first, last): (Position, Position),
        budget: &mut BatchBudget,
        mut take: impl FnMut(Position, &[u8], &mut BatchBudget) -> Result<(), StoreError>,
    ) -> Result<Option<Position>, StoreError> {
        let direction = self.read.direction;
        let keeping = if budget.events > FIRST.events { Keeping::No } else { Keeping::Yes };
        let mut keys = database.scan_log(first, last, keeping)?;
        match direction {
            Direction::Forward => keys.seek(key::position(self.next)),
            Direction::Backward => keys.seek_for_prev(key::position(self.next)),
        }
        let mut next = Some(self.next);
        while let Some(expected) = next.filter(|next| (first..=last).contains(next) && !budget.is_used_up()) {
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

    /// An event in the form in which this read returns it; `None` where it does not.
    fn shown(
        &self,
        database: &Database,
        event: RecordedEvent,
        lens: &mut Lens<'_>,
    ) -> Result<Option<RecordedEvent>, StoreError> {
        match self.hidden {
            Some(HiddenEvents::WithContent) => Ok(Some(event)),
            _ if lens.shows(database, &event, Tier::Any)? => Ok(Some(event)),
            Some(HiddenEvents::AsTombstones) => Ok(Some(event.without_content())),
            None => Ok(None),
        }
    }

    /// The first and the last position of the next so many events.
    fn span(&self, events: usize) -> (Position, Position) {
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

    /// The events that match: their positions from the indexes, then their records.
    fn filter(
        &self,
        database: &Database,
        limits: ReadLimits,
        cursor: &mut Cursor<'_>,
        lens: &mut Lens<'_>,
    ) -> Result<LogPart, StoreError> {
        let mut budget = BatchBudget::new(limits, self.left);
        let mut decoder = Decoder::default();
        let mut events = Vec::new();
        let mut next = Some(self.next);
        while let Some(from) = next.filter(|_| !budget.is_used_up()) {
            let matches = Matches::find(cursor, self.read.direction, from, budget.events.min(FETCH))?;
            next = matches.next;
            for (event, bytes) in database.events(&matches.positions, &mut decoder)? {
                if budget.is_used_up() {
                    // NOTE: fetched in vain; the next batch begins with it.
                    next = Some(event.position);
                    break;
                }
                // NOTE: an index may name what was removed since it was looked at.
                if event.is_removed() {
                    budget.pass();
                    continue;
                }
                self.check_matches(&event)?;
                match self.shown(database, event, lens)? {
                    Some(event) => {
                        budget.take(bytes);
                        events.push(event);
                    }
                    None => budget.pass(),
                }
            }
            if matches.is_paused {
                break;
            }
        }
        Ok(LogPart { events, next })
    }

    /// What an index names must be what was asked for.
    fn check_matches(&self, event: &RecordedEvent) -> Result<(), StoreError> {
        if self.read.query.matches_event(event) {
            return Ok(());
        }
        let (stream, event_type) = (&event.stream, &event.data.event_type);
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
                    next = successor(direction, found);
                }
                Sought::Pause(at) => return Ok(Self { positions, next: Some(at), is_paused: true }),
                Sought::End => next = None,
            }
        }
        Ok(Self { positions, next, is_paused: false })
    }
}

#[cfg(test)]
mod tests;
