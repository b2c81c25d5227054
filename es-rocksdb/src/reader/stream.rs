//! Reads of one stream: one ordered scan of the family in which records stand under stream and revision.

use std::sync::Arc;

use async_trait::async_trait;
use es_core::retention::StreamRetention;
use es_core::store::implement::BatchSource;
use es_core::store::{Batch, Direction, Visitor};
use es_core::{Position, RecordedEvent, Revision, StoreError, StreamId, StreamRead, Timestamp};

use super::{BatchBudget, FIRST_EVENTS, FetchedRecords, Pace};
use crate::ahead::Ahead;
use crate::database::{Database, Fault, Tier, at_revision, bad_key, bad_record, decode_in, item, place_in};
use crate::key;
use crate::options::ReadLimits;
use crate::record::{Checked, Decoder};
use crate::retention::PASSED;
use crate::schema::Cf;
use crate::shared::Shared;

/// How much of a stream an executor reads itself in one batch when it is in memory, and how many such batches, one after the
/// other. That is all that most loads need; and as long as one thread does all, what it reads stays near to it, which is worth
/// more than a second thread. Small batches stay in the processor's own cache.
const INLINE: ReadLimits = ReadLimits { events: 256, bytes: 128 * 1024 };
const INLINE_BATCHES: u32 = 4;

/// A read of one stream. `C` is what it fetches.
pub(crate) struct StreamSource<C> {
    shared: Arc<Shared>,
    scan: StreamScan,
    pace: Pace,
    /// What comes next, while the consumer has what came before.
    ahead: Ahead<StreamPart<C>>,
    /// How many batches may still be tried on the executor. None after one that was not in memory.
    inline: u32,
    /// Decodes those batches, and the events of a visit.
    decoder: Decoder,
    ended: bool,
    /// By what time ages count.
    now: Timestamp,
}

/// Where a read of one stream stands.
#[derive(Debug, Clone)]
pub(crate) struct StreamScan {
    read: StreamRead,
    head: Position,
    /// The revision to go on at; `None` for the end at which the direction begins.
    next: Option<Revision>,
    /// How many events may still be returned.
    left: Option<u64>,
}

/// What hides events of the stream, and at what time; `None` where nothing does.
pub(crate) type Hides = Option<(StreamRetention, Timestamp)>;

/// What a read of a stream fetches: events, or records that a visit decodes.
pub(crate) trait StreamContent: Send + Sized + 'static {
    /// Returns one without events, in which so many will be pushed at the most.
    fn with_capacity(events: usize) -> Self;

    /// Adds the event of a record of the stream.
    fn push(
        &mut self,
        stream: &StreamId,
        revision: Revision,
        record: Checked<'_>,
        decoder: &mut Decoder,
    ) -> Result<(), StoreError>;

    /// Returns the number of events.
    fn count(&self) -> usize;

    /// Returns the revision of the last event.
    fn last_revision(&self) -> Option<Revision>;
}

impl StreamContent for Vec<RecordedEvent> {
    fn with_capacity(events: usize) -> Self {
        Self::with_capacity(events.min(FIRST_EVENTS))
    }

    fn push(
        &mut self,
        stream: &StreamId,
        revision: Revision,
        record: Checked<'_>,
        decoder: &mut Decoder,
    ) -> Result<(), StoreError> {
        self.push(at_revision(stream, revision, decoder.decode_checked(record, None))?);
        Ok(())
    }

    fn count(&self) -> usize {
        self.len()
    }

    fn last_revision(&self) -> Option<Revision> {
        self.last().map(|event| event.revision)
    }
}

impl StreamContent for FetchedRecords<Revision> {
    fn with_capacity(_: usize) -> Self {
        Self::default()
    }

    fn push(
        &mut self,
        _: &StreamId,
        revision: Revision,
        record: Checked<'_>,
        _: &mut Decoder,
    ) -> Result<(), StoreError> {
        self.push(revision, record);
        Ok(())
    }

    fn count(&self) -> usize {
        self.len()
    }

    fn last_revision(&self) -> Option<Revision> {
        self.last()
    }
}

/// A part of a read of one stream.
pub(crate) struct StreamPart<C> {
    pub(crate) content: C,
    /// Whether nothing comes after it.
    is_last: bool,
    /// Whether all that the read would have begun with was removed since it was opened, while newer events are there.
    is_overtaken: bool,
}

impl<C> StreamPart<C> {
    fn more(content: C) -> Self {
        Self { content, is_last: false, is_overtaken: false }
    }

    fn last(content: C) -> Self {
        Self { content, is_last: true, is_overtaken: false }
    }
}

impl<C: StreamContent> StreamSource<C> {
    /// A read of a stream up to `head`, the position at which the log ended when it was opened.
    pub(crate) fn new(shared: Arc<Shared>, limits: ReadLimits, read: StreamRead, head: Position) -> Self {
        let scan = StreamScan::new(read, head);
        let now = shared.clock.now();
        let (pace, ahead, decoder) = (Pace::new(limits), Ahead::none(), Decoder::of_stream(scan.read.stream.clone()));
        Self { shared, scan, pace, ahead, inline: INLINE_BATCHES, decoder, ended: false, now }
    }

    async fn fetch(&mut self) -> Result<StreamPart<C>, StoreError> {
        if self.inline > 0 {
            let (limits, hides) = (self.pace.most.at_most(INLINE), self.hides());
            let (scan, decoder) = (&self.scan, &mut self.decoder);
            match self.shared.cached(|database| scan.fetch(database, limits, hides, Tier::Cached, decoder)) {
                Err(Fault::NotCached) => self.inline = 0,
                Err(Fault::Store(error)) => return Err(error),
                Ok(found) => {
                    self.inline -= 1;
                    return Ok(found);
                }
            }
        }
        match self.ahead.take().await {
            Some(fetched) => fetched,
            None => {
                let fetch = self.next_fetch();
                self.shared.blocking(fetch).await
            }
        }
    }

    /// What hides events of the stream now. Each batch asks anew: what operators say meanwhile holds for what comes then.
    fn hides(&self) -> Hides {
        let retention = self.shared.operators.of(&self.scan.read.stream);
        (!retention.is_whole()).then_some((retention, self.now))
    }

    /// What fetches the next part, from the disk where it must be.
    fn next_fetch(&mut self) -> impl FnOnce(&Database) -> Result<StreamPart<C>, StoreError> + Send + 'static {
        let (scan, hides, limits) = (self.scan.clone(), self.hides(), self.pace.next());
        // NOTE: a batch from another thread has names of its own, for all of its events. If it shared one, the thread that reads and
        // the one that has the events would wait for each other at its count of owners, for every event.
        move |database| Ok(scan.fetch(database, limits, hides, Tier::Any, &mut Decoder::default())?)
    }

    /// Begins to fetch what comes next, so that it is there when the consumer asks for it.
    fn go_ahead(&mut self) {
        if self.inline == 0 && !self.ended && self.scan.left != Some(0) {
            let fetch = self.next_fetch();
            self.ahead.begin(&self.shared, fetch);
        }
    }

    /// Fetches the next part; `None` after the last.
    async fn next_part(&mut self) -> Result<Option<C>, StoreError> {
        if self.ended || self.scan.left == Some(0) {
            return Ok(None);
        }
        if self.shared.is_closed() {
            return Err(StoreError::Closed);
        }
        let mut found = self.fetch().await?;
        // NOTE: a stream that always had events is not to be read as an empty one. It is read again as if it were opened now, as
        // often as the log has grown and all of it was removed again.
        while found.is_overtaken
            && let Some(head) = self.shared.visible.head().filter(|head| *head > self.scan.head)
        {
            (self.scan.head, self.now) = (head, self.shared.clock.now());
            found = self.fetch().await?;
        }
        let StreamPart { content, is_last, .. } = found;
        self.scan.left = self.scan.left.map(|left| left.saturating_sub(content.count() as u64));
        self.scan.next = content.last_revision().and_then(|revision| successor(self.scan.read.direction, revision));
        self.ended = is_last || self.scan.next.is_none();
        self.go_ahead();
        Ok(Some(content))
    }
}

#[async_trait]
impl BatchSource for StreamSource<Vec<RecordedEvent>> {
    async fn next_batch(&mut self) -> Result<Option<Batch>, StoreError> {
        Ok(self.next_part().await?.map(|events| Batch { events, scanned: None }))
    }
}

impl StreamSource<FetchedRecords<Revision>> {
    /// Visits the events of the read.
    pub(crate) async fn visit(mut self, visitor: &mut Visitor<'_>) -> Result<(), StoreError> {
        let mut last = None;
        while let Some(mut records) = self.next_part().await? {
            let Self { scan, decoder, .. } = &mut self;
            let stream = &scan.read.stream;
            let broke =
                records.visit(decoder, &mut last, |revision, read| at_revision(stream, revision, read), visitor)?;
            if broke.is_some() {
                break;
            }
        }
        Ok(())
    }
}

/// Returns the next revision in a direction; `None` after the first or the last possible revision.
fn successor(direction: Direction, revision: Revision) -> Option<Revision> {
    let number = match direction {
        Direction::Forward => revision.get().checked_add(1),
        Direction::Backward => revision.get().checked_sub(1),
    };
    number.map(Revision::new)
}

impl StreamScan {
    /// The beginning of a read up to `head`.
    pub(crate) fn new(read: StreamRead, head: Position) -> Self {
        Self { next: read.from, left: read.limit, read, head }
    }

    pub(crate) fn fetch<C: StreamContent>(
        &self,
        database: &Database,
        limits: ReadLimits,
        hides: Hides,
        tier: Tier,
        decoder: &mut Decoder,
    ) -> Result<StreamPart<C>, Fault> {
        let (stream, direction) = (&self.read.stream, self.read.direction);
        let first = match hides {
            None => None,
            Some((retention, now)) => Some(database.first_visible(stream, &retention, now, self.head, tier)?),
        };
        let prefix = key::prefix(stream.as_str());
        let mut keys = database.iterate(Cf::Streams, prefix.clone(), tier)?;
        match (direction, self.next) {
            (Direction::Forward, next) => {
                keys.seek(key::in_stream(
                    stream,
                    next.unwrap_or(Revision::FIRST).max(first.unwrap_or(Revision::FIRST)),
                ));
            }
            (Direction::Backward, Some(next)) => keys.seek_for_prev(key::in_stream(stream, next)),
            (Direction::Backward, None) => keys.seek_to_last(),
        }
        let mut budget = BatchBudget::new(limits, self.left);
        let mut content = C::with_capacity(budget.events);
        let (mut expected, mut newer) = (self.expected_first(first), 0);
        while !budget.is_used_up() {
            let found = match item(&keys, Cf::Streams) {
                // NOTE: what was in memory is enough to begin with.
                Err(Fault::NotCached) if content.count() > 0 => return Ok(StreamPart::more(content)),
                found => found?,
            };
            let Some((key, record)) = found else {
                self.check_end(database, expected, tier)?;
                return self.ended(database, content, newer > 0, tier);
            };
            let revision = key::decode_in_stream(key, &prefix).map_err(|error| bad_key(Cf::Streams, key, &error))?;
            if first.is_some_and(|first| revision < first) {
                return Ok(StreamPart::last(content));
            }
            let bad = |error| bad_record(place_in(stream, revision), &error);
            let checked = Checked::new(record).map_err(bad)?;
            match (checked.position().map_err(bad)? > self.head, direction) {
                (false, _) => {
                    self.check_follows(database, expected, revision, tier)?;
                    expected = successor(direction, revision);
                    budget.take(record.len());
                    content.push(stream, revision, checked, decoder)?;
                }
                // NOTE: recorded after this read was opened. Forward this is the end; backward it is passed over.
                (true, Direction::Forward) => return self.ended(database, content, true, tier),
                (true, Direction::Backward) => newer += 1,
            }
            // NOTE: an executor has other work than to step over all that came since the read was opened.
            if tier == Tier::Cached && newer >= PASSED {
                return Err(Fault::NotCached);
            }
            match direction {
                Direction::Forward => keys.next(),
                Direction::Backward => keys.prev(),
            }
        }
        Ok(StreamPart::more(content))
    }

    /// The end of the read, which may have met events that are newer than its head.
    fn ended<C: StreamContent>(
        &self,
        database: &Database,
        content: C,
        has_newer: bool,
        tier: Tier,
    ) -> Result<StreamPart<C>, Fault> {
        // NOTE: `next` moves with the first event that is returned.
        let is_empty = content.count() == 0 && self.next == self.read.from;
        let is_overtaken = is_empty && has_newer && self.is_removed_up_to_head(database, tier)?;
        Ok(StreamPart { content, is_last: true, is_overtaken })
    }

    /// Whether something of the stream was removed, and what is left of it is newer than the head.
    fn is_removed_up_to_head(&self, database: &Database, tier: Tier) -> Result<bool, Fault> {
        let stream = &self.read.stream;
        let left = database.first_left(stream, tier)?;
        if left == Revision::FIRST {
            return Ok(false);
        }
        let Some(record) = database.get(Cf::Streams, &key::in_stream(stream, left), tier)? else { return Ok(false) };
        Ok(decode_in(stream, left, &record, &mut Decoder::default())?.position > self.head)
    }

    /// Which revision the next event must have, if it is known: a stream has no gaps and begins at 0. The first event of
    /// a backward read may have any, because the read may begin behind the end of the stream.
    fn expected_first(&self, first: Option<Revision>) -> Option<Revision> {
        match self.read.direction {
            Direction::Forward => Some(self.next.max(first).unwrap_or(Revision::FIRST)),
            Direction::Backward => self.next.filter(|_| self.next != self.read.from),
        }
    }

    fn check_follows(
        &self,
        database: &Database,
        expected: Option<Revision>,
        found: Revision,
        tier: Tier,
    ) -> Result<(), Fault> {
        match expected {
            // NOTE: what is missing up to there was removed. It is looked up only where something is missing.
            Some(expected) if expected != found && database.first_left(&self.read.stream, tier)? < found => {
                let detail = format!("expected an event, found the next at revision {found}");
                Err(StoreError::damaged(place_in(&self.read.stream, expected), detail).into())
            }
            _ => Ok(()),
        }
    }

    /// Nothing more is there. That is a loss where a backward read has not come to revision 0.
    fn check_end(&self, database: &Database, expected: Option<Revision>, tier: Tier) -> Result<(), Fault> {
        match (self.read.direction, expected) {
            (Direction::Backward, Some(expected)) if database.first_left(&self.read.stream, tier)? <= expected => {
                let place = place_in(&self.read.stream, expected);
                Err(StoreError::damaged(place, "expected an event, found none").into())
            }
            _ => Ok(()),
        }
    }
}
