//! Reads of one stream: its copies in the tables, then its events in memory and in the log.

use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use es_core::model::EventView;
use es_core::store::implement::BatchSource;
use es_core::store::{Batch, Direction, Visitor};
use es_core::{Position, Revision, StoreError, StreamRead, Timestamp};
use es_log::{Batch as Record, PointReader};
use tokio::task::JoinSet;

use crate::database::{Fault, Tier, bad_key, item, place_in};
use crate::key;
use crate::record::Payloads;
use crate::retention::StreamIndex;
use crate::schema::Cf;
use crate::segmented::codec::LogDecoder;
use crate::segmented::index::{IndexView, check_place};
use crate::segmented::shared_store::{Core, SharedStore};
use crate::segmented::stream_buffers::{StreamBuffer, StreamBuffers, StreamRecord};
use crate::shared::may_block_here;

/// The number of events of a part that is read on the executor, if they are in memory.
const INLINE_EVENTS: usize = 256;

/// The number of positions that are taken from the index at a time.
const POSITIONS: usize = 256;

/// A read of one stream.
pub(crate) struct CopySource {
    inner: Arc<SharedStore>,
    scan: CopyScan,
    /// A part that is read on a blocking thread. It is kept here, so that a dropped call loses nothing.
    reading: JoinSet<Result<CopyPart, StoreError>>,
    decoder: LogDecoder,
    /// Whether the read has returned no event yet.
    is_empty: bool,
    is_ended: bool,
}

/// The query and the progress of a read.
#[derive(Debug, Clone)]
struct CopyScan {
    read: StreamRead,
    head: Position,
    /// The revision of the next event; `None` for the end of the stream at which the direction starts.
    next: Option<Revision>,
    /// How many events the read may still return.
    remaining: Option<u64>,
    /// The time at which the read was opened. Ages of events are relative to it.
    now: Timestamp,
    /// The largest number of events of a part.
    max_events: usize,
    max_bytes: usize,
}

/// A part of a read.
struct CopyPart {
    records: Vec<StreamRecord>,
    /// The revision at which the next part starts; `None` if this is the last part.
    next: Option<Revision>,
}

impl CopyPart {
    /// Returns whether the read ends without another event.
    fn is_end(&self) -> bool {
        self.records.is_empty() && self.next.is_none()
    }
}

impl CopySource {
    /// Creates a read of a stream up to `head`.
    pub(crate) fn new(inner: Arc<SharedStore>, read: StreamRead, head: Position) -> Self {
        let limits = inner.read_batch;
        let scan = CopyScan {
            next: read.from,
            remaining: read.limit,
            now: inner.clock.now(),
            read,
            head,
            max_events: limits.events,
            max_bytes: limits.bytes,
        };
        let is_ended = scan.remaining == Some(0);
        Self { inner, scan, reading: JoinSet::new(), decoder: LogDecoder::default(), is_empty: true, is_ended }
    }

    /// Returns the next records; `None` after the last part.
    async fn next_part(&mut self) -> Result<Option<Vec<StreamRecord>>, StoreError> {
        if self.is_ended {
            return Ok(None);
        }
        if self.inner.is_closed() {
            return Err(StoreError::Closed);
        }
        let mut part = self.read_part().await?;
        // Without this loop, a stream that always had events could be read as empty. The read restarts with the current
        // head, as often as the log has grown and a scavenge has removed all events up to that head again.
        while self.is_empty
            && part.is_end()
            && let Some(head) = self.head_after_removal().await?
        {
            let scan = &mut self.scan;
            (scan.head, scan.now, scan.next) = (head, self.inner.clock.now(), scan.read.from);
            part = self.read_part().await?;
        }
        let CopyPart { records, next } = part;
        self.is_empty &= records.is_empty();
        self.scan.remaining = self.scan.remaining.map(|events_left| events_left.saturating_sub(records.len() as u64));
        self.scan.next = next;
        self.is_ended = next.is_none() || self.scan.remaining == Some(0);
        Ok(Some(records))
    }

    /// Returns the current head if a scavenge has removed all events of the stream up to the head of the read, and the
    /// stream has newer events.
    async fn head_after_removal(&self) -> Result<Option<Position>, StoreError> {
        let (stream, read_to) = (self.scan.read.stream.clone(), self.scan.head);
        let Some(head) = self.inner.handles.visible.head().filter(|head| *head > read_to) else { return Ok(None) };
        let is_removed = move |core: &Core, tier: Tier| {
            let view = core.view(head);
            if !core.publisher.operators.is_touched() {
                return Ok(false);
            }
            let first = view.first_left(&stream, tier)?;
            if first == Revision::FIRST {
                return Ok(false);
            }
            let (mut points, mut copies) = (view.log.point_reader(), Payloads::default());
            let found = view.record_in(&mut points, (&stream, first), tier, &mut copies)?;
            Ok(found.is_some_and(|(position, _)| position > read_to))
        };
        Ok(self.inner.read(is_removed).await?.then_some(head))
    }

    async fn read_part(&mut self) -> Result<CopyPart, StoreError> {
        if self.reading.is_empty() {
            let Self { inner, scan, .. } = self;
            let cached = inner.with(|core| match scan.fetch(core, &inner.buffers, INLINE_EVENTS, Tier::Cached) {
                Ok(part) => Ok(Some(part)),
                Err(Fault::NotCached) => Ok(None),
                Err(Fault::Store(error)) => Err(error),
            });
            if let Some(part) = cached? {
                return Ok(part);
            }
            let (inner, scan) = (Arc::clone(inner), scan.clone());
            let fetch = move || inner.with(|core| Ok(scan.fetch(core, &inner.buffers, scan.max_events, Tier::Any)?));
            // Waking another thread would take longer than most reads.
            if may_block_here() {
                return tokio::task::block_in_place(fetch);
            }
            self.reading.spawn_blocking(fetch);
        }
        let read = self.reading.join_next().await;
        let failed = |error: &'static str| StoreError::io("run on a blocking thread", error);
        read.ok_or_else(|| failed("no task"))?.map_err(|error| StoreError::io("run on a blocking thread", error))?
    }

    /// Visits the events of the read.
    pub(crate) async fn visit(mut self, visitor: &mut Visitor<'_>) -> Result<(), StoreError> {
        self.decoder = self.inner.decoders.take();
        self.visit_parts(visitor).await?;
        self.inner.decoders.put_back(self.decoder);
        Ok(())
    }

    async fn visit_parts(&mut self, visitor: &mut Visitor<'_>) -> Result<(), StoreError> {
        let mut last = None;
        while let Some(records) = self.next_part().await? {
            for StreamRecord { revision, record, .. } in records {
                let mut placed = Ok(());
                let stream = &self.scan.read.stream;
                let mut checked = |event: EventView<'_>| {
                    placed = check_place(stream, revision, event);
                    if placed.is_ok() { visitor(event) } else { ControlFlow::Break(()) }
                };
                let broke = self.decoder.visit(&record, self.scan.head, &mut last, &mut checked)?;
                placed?;
                if broke.is_some() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl BatchSource for CopySource {
    async fn next_batch(&mut self) -> Result<Option<Batch>, StoreError> {
        let Some(records) = self.next_part().await? else { return Ok(None) };
        let mut events = Vec::with_capacity(records.len());
        for StreamRecord { revision, position, record } in records {
            let event = self.decoder.only_event(position, &record)?;
            check_place(&self.scan.read.stream, revision, EventView::from(&event))?;
            events.push(event);
        }
        Ok(Some(Batch { events, scanned: None }))
    }
}

/// A part that is being filled.
struct Filling<'a> {
    records: Vec<StreamRecord>,
    max_events: usize,
    bytes: usize,
    scan: &'a CopyScan,
    /// The revision of the next event of a forward read.
    next: Revision,
    /// Reads records that have no copy yet.
    points: PointReader,
    /// Owns the bytes of copies.
    copies: Payloads,
}

impl<'a> Filling<'a> {
    fn new(scan: &'a CopyScan, view: &IndexView<'_>, max_events: usize, next: Revision) -> Self {
        let (points, copies) = (view.log.point_reader(), Payloads::default());
        Self { records: Vec::new(), max_events, bytes: 0, scan, next, points, copies }
    }

    fn is_full(&self) -> bool {
        self.records.len() >= self.max_events || self.bytes >= self.scan.max_bytes
    }

    /// Takes the records of a buffer from the next revision on. Returns `false` if the part ends within the buffer: it
    /// is full, or the next event is after the head.
    fn take(&mut self, buffer: &StreamBuffer) -> bool {
        for record in buffer.from(self.next) {
            if self.is_full() || record.position > self.scan.head {
                return false;
            }
            self.bytes += record.record.bytes().len();
            self.next = record.revision.next();
            self.records.push(record.clone());
        }
        self.next = buffer.next;
        !self.is_full()
    }

    fn push(&mut self, revision: Revision, position: Position, record: Record) {
        if !record.starts_with_tombstone() {
            self.bytes += record.bytes().len();
            self.records.push(StreamRecord { revision, position, record });
        }
    }

    /// Adds the next event of a forward read. Returns `false` if it is after the head.
    fn push_next(
        &mut self,
        view: &IndexView<'_>,
        revision: Revision,
        (position, record): (Position, Record),
    ) -> Result<bool, StoreError> {
        let stream = &self.scan.read.stream;
        if position > self.scan.head {
            return Ok(false);
        }
        // A scavenge may have removed the events before this one since the read began.
        if revision != self.next && view.first_left(stream, Tier::Any)? < revision {
            let detail = format!("expected an event, found the next at revision {revision}");
            return Err(StoreError::damaged(place_in(stream, self.next), detail));
        }
        self.next = revision.next();
        self.push(revision, position, record);
        Ok(true)
    }

    fn into_part(self, is_last: bool) -> CopyPart {
        let next = (!is_last).then_some(self.next);
        CopyPart { records: self.records, next }
    }
}

impl CopyScan {
    /// Reads the next part.
    ///
    /// # Errors
    /// [`Fault::NotCached`] if `tier` is [`Tier::Cached`] and the first event needs the disk.
    fn fetch(&self, core: &Core, buffers: &StreamBuffers, max_events: usize, tier: Tier) -> Result<CopyPart, Fault> {
        let view = core.view(self.head);
        let stream = &self.read.stream;
        let operators = &core.publisher.operators;
        let first = match operators.is_touched() {
            true => view.first_visible(stream, &operators.of(stream), self.now, self.head, tier)?,
            false => Revision::FIRST,
        };
        let remaining = self.remaining.map_or(usize::MAX, |events| usize::try_from(events).unwrap_or(usize::MAX));
        let max_events = max_events.min(self.max_events).min(remaining);
        match self.read.direction {
            Direction::Forward => {
                let next = self.next.unwrap_or(Revision::FIRST).max(first);
                self.fetch_buffered(&view, buffers, Filling::new(self, &view, max_events, next), first, tier)
            }
            Direction::Backward => self.fetch_backward(&view, first, max_events, tier),
        }
    }

    /// Reads the next part forward: from the buffer of the stream, then from the index. Keeps what it reads. `first` is
    /// the first visible revision.
    fn fetch_buffered(
        &self,
        view: &IndexView<'_>,
        buffers: &StreamBuffers,
        mut part: Filling<'_>,
        first: Revision,
        tier: Tier,
    ) -> Result<CopyPart, Fault> {
        let stream = &self.read.stream;
        let (buffer, removals) = buffers.get(stream);
        let start = part.next;
        let buffer = buffer.filter(|buffer| (buffer.first..=buffer.next).contains(&start));
        if buffer.as_ref().is_some_and(|buffer| !part.take(buffer)) {
            let is_last = !part.is_full();
            return Ok(part.into_part(is_last));
        }
        let taken = part.records.len();
        // All later events of the stream are in memory.
        let is_covered = buffer.as_ref().is_some_and(|buffer| view.is_in_memory_after(buffer.end));
        let part = self.fetch_forward(view, part, is_covered, tier)?;
        let (kept, read) = (buffer.as_ref().map_or(0, |buffer| buffer.records.len()), part.records.len() - taken);
        let is_worth_it = !is_covered || read >= kept / 4;
        if is_worth_it && (buffer.is_some() || start == first) {
            let (buffered, buffer_first) = buffer.as_ref().map_or((&[][..], start), |kept| (&kept.records, kept.first));
            let new = part.records.iter().skip(taken);
            let new = new.map(|new| StreamRecord { record: new.record.detached(), ..new.clone() });
            let records: Vec<_> = buffered.iter().cloned().chain(new).collect();
            let end = match part.next {
                None => Some(self.head),
                Some(_) => records.last().map(|last| last.position),
            };
            let next = part.next.or_else(|| records.last().map(|last| last.revision.next())).unwrap_or(start);
            if let Some(end) = end {
                buffers.put(stream, StreamBuffer::new(buffer_first, records, next, end), removals);
            }
        }
        Ok(part)
    }

    /// Reads the next part forward. The tables have none of its events if `is_in_memory`.
    fn fetch_forward(
        &self,
        view: &IndexView<'_>,
        mut part: Filling<'_>,
        is_in_memory: bool,
        tier: Tier,
    ) -> Result<CopyPart, Fault> {
        let first_in_memory = view.first_in_memory(&self.read.stream);
        if !is_in_memory && first_in_memory.is_none_or(|first| part.next < first) {
            match self.fetch_copies(view, first_in_memory, &mut part, tier) {
                Err(Fault::NotCached) if !part.records.is_empty() => return Ok(part.into_part(false)),
                Ok(true) if part.is_full() => return Ok(part.into_part(false)),
                Ok(true) => {}
                Ok(false) => return Ok(part.into_part(true)),
                Err(fault) => return Err(fault),
            }
        }
        while !part.is_full() {
            let found = view.positions_in_memory(&self.read.stream, part.next, POSITIONS);
            let Some((mut revision, positions)) = found else { return Ok(part.into_part(true)) };
            for position in positions {
                if position > self.head {
                    return Ok(part.into_part(true));
                }
                let record = match view.record_at(&mut part.points, position, tier) {
                    Err(Fault::NotCached) if !part.records.is_empty() => return Ok(part.into_part(false)),
                    record => record?,
                };
                part.push_next(view, revision, (position, record))?;
                revision = revision.next();
                if part.is_full() {
                    break;
                }
            }
        }
        Ok(part.into_part(false))
    }

    /// Reads the copies in the tables before `end`. Returns `false` if the read ends with them.
    fn fetch_copies(
        &self,
        view: &IndexView<'_>,
        end: Option<Revision>,
        part: &mut Filling<'_>,
        tier: Tier,
    ) -> Result<bool, Fault> {
        let stream = &self.read.stream;
        let prefix = key::prefix(stream.as_str());
        let mut copies = view.database.iterate(Cf::Streams, prefix.clone(), tier)?;
        copies.seek(key::in_stream(stream, part.next));
        while !part.is_full() {
            let Some((key, value)) = item(&copies, Cf::Streams)? else { return Ok(end.is_some()) };
            let revision = key::decode_in_stream(key, &prefix).map_err(|error| bad_key(Cf::Streams, key, &error))?;
            if end.is_some_and(|end| revision >= end) {
                return Ok(true);
            }
            let found = view.copied_record(stream, revision, value, &mut part.copies)?;
            if !part.push_next(view, revision, found)? {
                return Ok(false);
            }
            copies.next();
        }
        Ok(true)
    }

    fn fetch_backward(
        &self,
        view: &IndexView<'_>,
        first: Revision,
        max_events: usize,
        tier: Tier,
    ) -> Result<CopyPart, Fault> {
        let stream = &self.read.stream;
        let last = view.last_up_to(stream, self.head, tier)?;
        let mut next = match (self.next, last) {
            (Some(next), Some(last)) => Some(next.min(last)),
            (None, last) => last,
            (_, None) => None,
        };
        let mut part = Filling::new(self, view, max_events, first);
        while let Some(revision) = next.filter(|next| *next >= first) {
            if part.is_full() {
                return Ok(CopyPart { records: part.records, next });
            }
            let found = match view.record_in(&mut part.points, (stream, revision), tier, &mut part.copies) {
                Err(Fault::NotCached) if !part.records.is_empty() => {
                    return Ok(CopyPart { records: part.records, next });
                }
                found => found?,
            };
            let Some((position, record)) = found else {
                // A scavenge may have removed it since the read began.
                if view.first_left(stream, Tier::Any)? > revision {
                    break;
                }
                return Err(StoreError::damaged(place_in(stream, revision), "expected an event, found none").into());
            };
            part.push(revision, position, record);
            next = revision.get().checked_sub(1).map(Revision::new);
        }
        Ok(CopyPart { records: part.records, next: None })
    }
}
