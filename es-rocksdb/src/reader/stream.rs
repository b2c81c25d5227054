//! Reads of one stream: an ordered scan of the column family whose keys are stream and revision.

use std::sync::Arc;

use async_trait::async_trait;
use es_core::retention::StreamRetention;
use es_core::store::implement::BatchSource;
use es_core::store::{Batch, Direction, Visitor};
use es_core::{Position, RecordedEvent, Revision, StoreError, StreamId, StreamRead, Timestamp};

use super::{BatchBudget, BatchSizes, FetchedRecords, INITIAL_CAPACITY};
use crate::ahead::Prefetch;
use crate::database::{Database, Fault, Tier, bad_key, bad_record, check_revision, decode_in, item, place_in};
use crate::key;
use crate::options::ReadLimits;
use crate::record::{Checked, Decoder};
use crate::retention::{MAX_NEWER_ON_EXECUTOR, StreamIndex};
use crate::schema::Cf;
use crate::shared::Shared;

/// The limits of a batch that an executor thread reads itself if the events are in memory. Small batches stay in the
/// processor's own cache.
const INLINE: ReadLimits = ReadLimits { events: 256, bytes: 128 * 1024 };
/// The number of such batches of a read. Most loads need no more. Until then one thread reads and uses the events, and
/// its warm cache saves more time than a second thread would.
const INLINE_BATCHES: u32 = 4;

/// A read of one stream. `C` is the content of its parts.
pub(crate) struct StreamSource<C> {
    shared: Arc<Shared>,
    scan: StreamScan,
    batch_sizes: BatchSizes,
    /// The prefetched next part.
    prefetched: Prefetch<StreamPart<C>>,
    /// How many batches may still be read on the executor; 0 after a batch that was not in memory.
    inline: u32,
    /// The decoder of these batches and of a visit.
    decoder: Decoder,
    ended: bool,
    /// The time at which the read was opened. Ages of events are relative to it.
    now: Timestamp,
}

/// The query and the progress of a stream read.
#[derive(Debug, Clone)]
pub(crate) struct StreamScan {
    read: StreamRead,
    head: Position,
    /// The revision of the next event; `None` for the end of the stream at which the direction starts.
    next: Option<Revision>,
    /// How many events the read may still return.
    remaining: Option<u64>,
}

/// The retention of the stream, and the time at which it applies; `None` if no event is hidden.
pub(crate) type Hiding = Option<(StreamRetention, Timestamp)>;

/// The content of a part of a stream read: decoded events, or records that a visit decodes.
pub(crate) trait StreamContent: Send + Sized + 'static {
    /// Returns an empty content that reserves space for about `events` events.
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
        Self::with_capacity(events.min(INITIAL_CAPACITY))
    }

    fn push(
        &mut self,
        stream: &StreamId,
        revision: Revision,
        record: Checked<'_>,
        decoder: &mut Decoder,
    ) -> Result<(), StoreError> {
        self.push(check_revision(stream, revision, decoder.decode_checked(record, None))?);
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
    /// Whether the read ends with this part.
    is_last: bool,
    /// Whether a scavenge removed all events of the read since it was opened, although the stream has newer events.
    is_outdated: bool,
}

impl<C> StreamPart<C> {
    fn more(content: C) -> Self {
        Self { content, is_last: false, is_outdated: false }
    }

    fn last(content: C) -> Self {
        Self { content, is_last: true, is_outdated: false }
    }
}

impl<C: StreamContent> StreamSource<C> {
    /// Creates a read of a stream up to `head`, the last position of the log when the read was opened.
    pub(crate) fn new(shared: Arc<Shared>, limits: ReadLimits, read: StreamRead, head: Position) -> Self {
        let scan = StreamScan::new(read, head);
        let now = shared.clock.now();
        let (batch_sizes, prefetched) = (BatchSizes::new(limits), Prefetch::empty());
        let decoder = Decoder::of_stream(scan.read.stream.clone());
        Self { shared, scan, batch_sizes, prefetched, inline: INLINE_BATCHES, decoder, ended: false, now }
    }

    /// Fetches the next part: on this thread if it may and the events are in memory, otherwise on a blocking thread.
    async fn fetch(&mut self) -> Result<StreamPart<C>, StoreError> {
        if self.inline > 0 {
            let (limits, hiding) = (self.batch_sizes.max.at_most(INLINE), self.hiding());
            let (scan, decoder) = (&self.scan, &mut self.decoder);
            match self.shared.cached(|database| scan.fetch(database, limits, hiding, Tier::Cached, decoder)) {
                Err(Fault::NotCached) => self.inline = 0,
                Err(Fault::Store(error)) => return Err(error),
                Ok(found) => {
                    self.inline -= 1;
                    return Ok(found);
                }
            }
        }
        match self.prefetched.take().await {
            Some(fetched) => fetched,
            None => {
                let fetch = self.next_fetch();
                self.shared.blocking(fetch).await
            }
        }
    }

    /// Returns the current retention of the stream. Each batch gets it again, so that new rules apply to it.
    fn hiding(&self) -> Hiding {
        let retention = self.shared.operators.of(&self.scan.read.stream);
        (!retention.is_whole()).then_some((retention, self.now))
    }

    /// Returns a closure that fetches the next part from memory or disk.
    fn next_fetch(&mut self) -> impl FnOnce(&Database) -> Result<StreamPart<C>, StoreError> + Send + 'static {
        let (scan, hiding, limits) = (self.scan.clone(), self.hiding(), self.batch_sizes.next());
        // A batch of another thread has its own decoder, and so its own names. With shared names, the fetching thread
        // and the consumer would contend for their reference counts at each event.
        move |database| Ok(scan.fetch(database, limits, hiding, Tier::Any, &mut Decoder::default())?)
    }

    /// Starts to fetch the next part in the background, unless it is read on the executor.
    fn prefetch(&mut self) {
        if self.inline == 0 && !self.ended && self.scan.remaining != Some(0) {
            let fetch = self.next_fetch();
            self.prefetched.start(&self.shared, fetch);
        }
    }

    /// Fetches the next part; `None` after the last.
    async fn next_part(&mut self) -> Result<Option<C>, StoreError> {
        if self.ended || self.scan.remaining == Some(0) {
            return Ok(None);
        }
        if self.shared.is_closed() {
            return Err(StoreError::Closed);
        }
        let mut found = self.fetch().await?;
        // Without this loop, a stream that always had events could be read as empty. The read restarts with the current
        // head, as often as the log has grown and a scavenge has removed all events up to that head again.
        while found.is_outdated
            && let Some(head) = self.shared.visible.head().filter(|head| *head > self.scan.head)
        {
            (self.scan.head, self.now) = (head, self.shared.clock.now());
            found = self.fetch().await?;
        }
        let StreamPart { content, is_last, .. } = found;
        self.scan.remaining = self.scan.remaining.map(|events| events.saturating_sub(content.count() as u64));
        self.scan.next = content.last_revision().and_then(|revision| successor(self.scan.read.direction, revision));
        self.ended = is_last || self.scan.next.is_none();
        self.prefetch();
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
                records.visit(decoder, &mut last, |revision, read| check_revision(stream, revision, read), visitor)?;
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
    /// Creates the scan of a read up to `head`.
    pub(crate) fn new(read: StreamRead, head: Position) -> Self {
        Self { next: read.from, remaining: read.limit, read, head }
    }

    /// Fetches the next part of the read.
    ///
    /// # Errors
    /// [`Fault::NotCached`] if `tier` is [`Tier::Cached`] and the part needs the disk or would take long;
    /// [`StoreError::Damaged`] if the stream has a gap or a record that cannot be decoded.
    pub(crate) fn fetch<C: StreamContent>(
        &self,
        database: &Database,
        limits: ReadLimits,
        hiding: Hiding,
        tier: Tier,
        decoder: &mut Decoder,
    ) -> Result<StreamPart<C>, Fault> {
        let (stream, direction) = (&self.read.stream, self.read.direction);
        let first = match hiding {
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
        let mut budget = BatchBudget::new(limits, self.remaining);
        let mut content = C::with_capacity(budget.events);
        let (mut expected, mut newer) = (self.expected_first(first), 0);
        while !budget.is_exhausted() {
            let found = match item(&keys, Cf::Streams) {
                // The events that were in memory are a batch.
                Err(Fault::NotCached) if content.count() > 0 => return Ok(StreamPart::more(content)),
                found => found?,
            };
            let Some((key, record)) = found else {
                self.check_end(database, expected, tier)?;
                return self.last_part(database, content, newer > 0, tier);
            };
            let revision = key::decode_in_stream(key, &prefix).map_err(|error| bad_key(Cf::Streams, key, &error))?;
            if first.is_some_and(|first| revision < first) {
                return Ok(StreamPart::last(content));
            }
            let bad = |error| bad_record(place_in(stream, revision), &error);
            let checked = Checked::new(record).map_err(bad)?;
            match (checked.position().map_err(bad)? > self.head, direction) {
                (false, _) => {
                    self.check_no_gap(database, expected, revision, tier)?;
                    expected = successor(direction, revision);
                    budget.add(record.len());
                    content.push(stream, revision, checked, decoder)?;
                }
                // Recorded after this read was opened: the end of a forward read, skipped by a backward read.
                (true, Direction::Forward) => return self.last_part(database, content, true, tier),
                (true, Direction::Backward) => newer += 1,
            }
            // Skipping many newer events would occupy the executor thread for too long.
            if tier == Tier::Cached && newer >= MAX_NEWER_ON_EXECUTOR {
                return Err(Fault::NotCached);
            }
            match direction {
                Direction::Forward => keys.next(),
                Direction::Backward => keys.prev(),
            }
        }
        Ok(StreamPart::more(content))
    }

    /// Returns the last part of the read. `has_newer` tells whether the scan found events after the head.
    fn last_part<C: StreamContent>(
        &self,
        database: &Database,
        content: C,
        has_newer: bool,
        tier: Tier,
    ) -> Result<StreamPart<C>, Fault> {
        // `next` changes with the first returned event, so it tells whether an earlier part had events.
        let is_empty = content.count() == 0 && self.next == self.read.from;
        let is_outdated = is_empty && has_newer && self.is_removed_up_to_head(database, tier)?;
        Ok(StreamPart { content, is_last: true, is_outdated })
    }

    /// Returns whether events of the stream were removed and all retained events are after the head.
    fn is_removed_up_to_head(&self, database: &Database, tier: Tier) -> Result<bool, Fault> {
        let stream = &self.read.stream;
        let first = database.first_left(stream, tier)?;
        if first == Revision::FIRST {
            return Ok(false);
        }
        let Some(record) = database.get(Cf::Streams, &key::in_stream(stream, first), tier)? else { return Ok(false) };
        Ok(decode_in(stream, first, &record, &mut Decoder::default())?.position > self.head)
    }

    /// Returns the revision that the next event must have, if it is known: a stream has no gaps and starts at 0. The
    /// first event of a backward read may have any revision, because the read may start after the end of the stream.
    fn expected_first(&self, first: Option<Revision>) -> Option<Revision> {
        match self.read.direction {
            Direction::Forward => Some(self.next.max(first).unwrap_or(Revision::FIRST)),
            Direction::Backward => self.next.filter(|_| self.next != self.read.from),
        }
    }

    /// Checks that no event is missing between the expected and the found revision.
    fn check_no_gap(
        &self,
        database: &Database,
        expected: Option<Revision>,
        found: Revision,
        tier: Tier,
    ) -> Result<(), Fault> {
        match expected {
            // Events before the first retained revision were removed. It is read only if an event is missing.
            Some(expected) if expected != found && database.first_left(&self.read.stream, tier)? < found => {
                let detail = format!("expected an event, found the next at revision {found}");
                Err(StoreError::damaged(place_in(&self.read.stream, expected), detail).into())
            }
            _ => Ok(()),
        }
    }

    /// Checks that a backward read that finds no more events has reached the first retained revision.
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
