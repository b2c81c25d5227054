//! Reads of the log: frames in order if the query matches every event, otherwise the positions of an index.

use std::sync::Arc;

use async_trait::async_trait;
use es_core::model::EventView;
use es_core::store::implement::BatchSource;
use es_core::store::{Batch, Direction, Query, Visitor};
use es_core::{LogRead, Position, RecordedEvent, StoreError, Timestamp};
use es_log::{Batch as Frame, LogReader, PointReader};
use tokio::task::JoinSet;

use crate::engine::database::{Tier, missing_event};
use crate::executor::has_blocking_threads;
use crate::index::postings::{Cursor, SeekResult, check_matches, predecessor, successor};
use crate::index::{IndexView, of_log};
use crate::options::ReadLimits;
use crate::reader::batch_sizes::{BatchBudget, BatchSizes, FIRST_BATCH};
use crate::reader::shared::{Core, SharedStore};
use crate::record::codec::LogDecoder;
use crate::retention::RetentionFilter;

/// The number of events that a backward read decodes at a time.
const BACKWARD_EVENTS: u64 = 256;

/// A read of the log.
pub(crate) struct FrameSource {
    inner: Arc<SharedStore>,
    /// The scan; `None` while a part is read on a blocking thread.
    scan: Option<Box<FrameScan>>,
    reading: JoinSet<(Box<FrameScan>, Result<FramePart, StoreError>)>,
    /// The frames that are not decoded yet.
    frames: std::vec::IntoIter<Frame>,
    decoder: LogDecoder,
    head: Position,
    /// How many events the read may still return.
    remaining: Option<u64>,
    /// The last scanned position once all frames are decoded.
    scanned: Option<Position>,
    is_ended: bool,
}

/// The query and the progress of a read.
struct FrameScan {
    read: LogRead,
    head: Position,
    /// The first position of the next part.
    next: Position,
    remaining: Option<u64>,
    /// The time at which the read was opened. Ages of events are relative to it.
    now: Timestamp,
    sizes: BatchSizes,
    /// The reader that has returned the frames before `next`.
    reader: Option<LogReader>,
    /// The reader of single events.
    points: Option<PointReader>,
}

/// A part of a read, and the first position of the next part; `None` if this is the last part.
enum FramePart {
    /// Frames with the next events, all of which are visible.
    Frames(Vec<Frame>, Option<Position>),
    /// The records of the next matching events, all of which are visible.
    Records(Vec<(Position, Frame)>, Option<Position>),
    Events(Vec<RecordedEvent>, Option<Position>),
}

impl FrameSource {
    /// Creates a read of the log up to `head`; `None` if its range is empty or its limit is 0.
    pub(crate) fn new(inner: Arc<SharedStore>, read: LogRead, head: Position) -> Option<Self> {
        let next = match read.direction {
            Direction::Forward => read.from.unwrap_or(Position::FIRST),
            Direction::Backward => read.from.map_or(head, |from| from.min(head)),
        };
        if next > head || read.limit == Some(0) {
            return None;
        }
        let (remaining, now, sizes) = (read.limit, inner.clock.now(), BatchSizes::new(inner.read_batch));
        let scan = FrameScan { read, head, next, remaining, now, sizes, reader: None, points: None };
        Some(Self {
            inner,
            scan: Some(Box::new(scan)),
            reading: JoinSet::new(),
            frames: Vec::new().into_iter(),
            decoder: LogDecoder::default(),
            head,
            remaining,
            scanned: None,
            is_ended: false,
        })
    }

    /// Reads the next part. Returns its events if they are decoded; otherwise keeps its frames.
    async fn refill(&mut self) -> Result<Vec<RecordedEvent>, StoreError> {
        if self.inner.is_closed() {
            return Err(StoreError::Closed);
        }
        let (mut scan, part) = self.read_part().await?;
        let next = match &part {
            FramePart::Frames(_, next) | FramePart::Records(_, next) | FramePart::Events(_, next) => *next,
        };
        match next {
            Some(next) => {
                scan.next = next;
                self.scanned = predecessor(scan.read.direction, next);
            }
            None => {
                self.is_ended = true;
                self.scanned = scan.read.scanned_to::<RecordedEvent>(Some(self.head), &[]);
            }
        }
        let events = match part {
            FramePart::Frames(frames, _) => {
                self.frames = frames.into_iter();
                Vec::new()
            }
            FramePart::Records(records, _) => self.decode_matches(&scan.read.query, &records)?,
            FramePart::Events(events, _) => events,
        };
        self.remaining = self.remaining.map(|left| left.saturating_sub(events.len() as u64));
        scan.remaining = self.remaining;
        if self.remaining == Some(0) {
            self.end_at(events.last().map(|event| event.position));
        }
        self.scan = Some(scan);
        // Read ahead, but not before the number of events in the frames is known.
        if !self.is_ended && self.remaining.is_none() && has_blocking_threads() {
            self.start();
        }
        Ok(events)
    }

    /// Reads the next part: on this thread if its frames are in memory or there is no runtime, otherwise on a blocking
    /// thread.
    async fn read_part(&mut self) -> Result<(Box<FrameScan>, FramePart), StoreError> {
        if let Some(mut scan) = self.scan.take() {
            match self.inner.with(|core| Ok(scan.frames_in_memory(core)))? {
                Some(part) => return Ok((scan, part)),
                None if !has_blocking_threads() => {
                    let part = self.inner.with(|core| scan.fetch(core))?;
                    return Ok((scan, part));
                }
                None => self.scan = Some(scan),
            }
            self.start();
        }
        let failed = |error| StoreError::io("run on a blocking thread", error);
        match self.reading.join_next().await {
            Some(read) => {
                let (scan, part) = read.map_err(|error| failed(Box::new(error)))?;
                Ok((scan, part?))
            }
            None => Err(StoreError::Closed),
        }
    }

    fn decode_matches(
        &mut self,
        query: &Query,
        records: &[(Position, Frame)],
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let mut events = Vec::with_capacity(records.len());
        for (position, record) in records {
            let event = self.decoder.only_event(*position, record)?;
            check_matches(query, &event)?;
            events.push(event);
        }
        Ok(events)
    }

    /// Ends the read after its limit.
    fn end_at(&mut self, last: Option<Position>) {
        self.is_ended = true;
        self.frames = Vec::new().into_iter();
        self.scanned = last;
    }

    /// Starts to read the next part on a blocking thread.
    fn start(&mut self) {
        let Some(mut scan) = self.scan.take() else { return };
        let inner = Arc::clone(&self.inner);
        let fetch = move || {
            let part = inner.with(|core| scan.fetch(core));
            (scan, part)
        };
        self.reading.spawn_blocking(fetch);
    }

    /// Visits the events of the read. Returns the last scanned position, or the position of the event at which the
    /// visitor broke.
    pub(crate) async fn visit(mut self, visitor: &mut Visitor<'_>) -> Result<Option<Position>, StoreError> {
        self.decoder = self.inner.decoders.take();
        let visited_to = self.visit_parts(visitor).await?;
        self.inner.decoders.put_back(self.decoder);
        Ok(visited_to)
    }

    async fn visit_parts(&mut self, visitor: &mut Visitor<'_>) -> Result<Option<Position>, StoreError> {
        let mut last = None;
        while !self.is_ended {
            for event in &self.refill().await? {
                if visitor(EventView::from(event)).is_break() {
                    return Ok(Some(event.position));
                }
            }
            for frame in std::mem::take(&mut self.frames) {
                let mut visited_to = None;
                let remaining = &mut self.remaining;
                let mut counted = |event: EventView<'_>| {
                    visited_to = Some(event.position());
                    *remaining = remaining.map(|left| left.saturating_sub(1));
                    match visitor(event) {
                        flow if *remaining != Some(0) => flow,
                        _ => std::ops::ControlFlow::Break(()),
                    }
                };
                if let Some(position) = self.decoder.visit(&frame, self.head, &mut last, &mut counted)? {
                    return Ok(Some(position));
                }
            }
            if let Some(scan) = &mut self.scan {
                scan.remaining = self.remaining;
            }
        }
        Ok(self.scanned)
    }

    /// Decodes the next frame.
    fn next_frame(&mut self) -> Result<Option<Batch>, StoreError> {
        let Some(frame) = self.frames.next() else { return Ok(None) };
        let mut events = Vec::new();
        let limit = self.remaining.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        for record in frame.records() {
            let record = record.map_err(|error| StoreError::damaged("the log", error.to_string()))?;
            if record.position > self.head || events.len() >= limit {
                break;
            }
            events.extend(self.decoder.event(&record, frame.bytes())?.filter(|event| !event.is_removed()));
        }
        self.remaining = self.remaining.map(|left| left.saturating_sub(events.len() as u64));
        if let Some(scan) = &mut self.scan {
            scan.remaining = self.remaining;
        }
        let last = events.last().map(|event| event.position);
        if self.remaining == Some(0) {
            self.end_at(last);
        }
        let scanned = if self.frames.len() == 0 { self.scanned } else { last };
        Ok(Some(Batch { events, scanned }))
    }
}

#[async_trait]
impl BatchSource for FrameSource {
    async fn next_batch(&mut self) -> Result<Option<Batch>, StoreError> {
        if let Some(batch) = self.next_frame()? {
            return Ok(Some(batch));
        }
        if self.is_ended {
            return Ok(None);
        }
        let events = self.refill().await?;
        match self.next_frame()? {
            Some(batch) => Ok(Some(batch)),
            None => Ok(Some(Batch { events, scanned: self.scanned })),
        }
    }
}

impl FrameScan {
    /// Reads the next part.
    fn fetch(&mut self, core: &Core) -> Result<FramePart, StoreError> {
        let limits = self.sizes.next();
        let view = core.view(self.head);
        let operators = &core.publisher.operators;
        let filter = RetentionFilter::new(operators, self.now, self.head);
        let mut cursor = Cursor::new(&view, &self.read.query, self.read.direction, self.head)?;
        match (&cursor, self.read.direction) {
            (Cursor::All { .. }, Direction::Forward) if !filter.may_hide() => self.frames(core, limits),
            (Cursor::All { .. }, _) => self.all(&view, limits, filter),
            _ if !filter.may_hide() => self.records(&view, limits, &mut cursor),
            _ => self.matches(&view, limits, &mut cursor, filter),
        }
    }

    /// Returns the next frames of a read of all events, if they are in memory and no event is hidden.
    fn frames_in_memory(&mut self, core: &Core) -> Option<FramePart> {
        let is_plain = self.read.direction == Direction::Forward && self.read.query.items().is_none();
        if !is_plain || RetentionFilter::new(&core.publisher.operators, self.now, self.head).may_hide() {
            return None;
        }
        let reader = self.reader.get_or_insert_with(|| core.log.read(self.next));
        let (mut frames, mut bytes) = (Vec::new(), 0);
        while bytes < FIRST_BATCH.bytes
            && reader.position() <= self.head
            && let Some(frame) = reader.next_batch_in_memory()
        {
            bytes += frame.bytes().len();
            frames.push(frame);
        }
        let next = Some(reader.position()).filter(|next| *next <= self.head);
        (!frames.is_empty()).then_some(FramePart::Frames(frames, next))
    }

    /// Returns the next frames. The consumer decodes them, so that two threads share the work.
    fn frames(&mut self, core: &Core, limits: ReadLimits) -> Result<FramePart, StoreError> {
        let mut reader = self.reader.take().unwrap_or_else(|| core.log.read(self.next));
        let (mut frames, mut bytes) = (Vec::new(), 0);
        let mut next = Some(self.next);
        while bytes < limits.bytes {
            let Some(frame) = reader.next_batch().map_err(of_log)? else {
                next = None;
                break;
            };
            bytes += frame.bytes().len();
            frames.push(frame);
            next = Some(reader.position()).filter(|next| *next <= self.head);
            if next.is_none() {
                break;
            }
        }
        self.reader = Some(reader);
        Ok(FramePart::Frames(frames, next))
    }

    /// Returns the next visible events of a read of all events.
    fn all(
        &mut self,
        view: &IndexView<'_>,
        limits: ReadLimits,
        mut filter: RetentionFilter<'_>,
    ) -> Result<FramePart, StoreError> {
        let direction = self.read.direction;
        let mut decoder = LogDecoder::default();
        let (mut events, mut budget) = (Vec::new(), BatchBudget::new(limits, self.remaining));
        let mut next = Some(self.next);
        while let Some(from) = next.filter(|_| !budget.is_exhausted()) {
            let found = match direction {
                Direction::Forward => self.decode_range(view, from, self.head, BACKWARD_EVENTS, &mut decoder)?,
                Direction::Backward => {
                    let first = from.get().saturating_sub(BACKWARD_EVENTS - 1).max(1);
                    let first = Position::new(first).unwrap_or(Position::FIRST);
                    let mut found = self.decode_range(view, first, from, BACKWARD_EVENTS, &mut decoder)?;
                    found.reverse();
                    found
                }
            };
            if found.is_empty() {
                return Err(missing_event(from));
            }
            for event in found {
                next = successor(direction, event.position);
                if filter.shows(view, &event, Tier::Any)? {
                    budget.add(event.data.payload.len());
                    events.push(event);
                    if budget.is_exhausted() {
                        break;
                    }
                } else {
                    budget.skip_hidden();
                }
            }
            next = next.filter(|next| *next <= self.head);
        }
        Ok(FramePart::Events(events, next))
    }

    /// Decodes events from `first` to `last`, at most `count`.
    fn decode_range(
        &self,
        view: &IndexView<'_>,
        first: Position,
        last: Position,
        count: u64,
        decoder: &mut LogDecoder,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let mut events = Vec::new();
        let mut reader = view.log.read(first);
        while let Some(frame) = reader.next_batch().map_err(of_log)? {
            for record in frame.records() {
                let record = record.map_err(|error| StoreError::damaged("the log", error.to_string()))?;
                if record.position > last || events.len() as u64 >= count {
                    return Ok(events);
                }
                events.extend(decoder.event(&record, frame.bytes())?);
            }
        }
        Ok(events)
    }

    /// Returns the records of the next matching events, none of which is hidden. The consumer decodes them, so that two
    /// threads share the work.
    fn records(
        &mut self,
        view: &IndexView<'_>,
        limits: ReadLimits,
        cursor: &mut Cursor<'_>,
    ) -> Result<FramePart, StoreError> {
        let mut records = Vec::new();
        let next = self.for_each_match(view, limits, cursor, |position, record| {
            records.push((position, record));
            Ok(true)
        })?;
        Ok(FramePart::Records(records, next))
    }

    /// Returns the next matching events that no rule hides.
    fn matches(
        &mut self,
        view: &IndexView<'_>,
        limits: ReadLimits,
        cursor: &mut Cursor<'_>,
        mut filter: RetentionFilter<'_>,
    ) -> Result<FramePart, StoreError> {
        let (mut events, mut decoder) = (Vec::new(), LogDecoder::default());
        let query = self.read.query.clone();
        let next = self.for_each_match(view, limits, cursor, |position, record| {
            let event = decoder.only_event(position, &record)?;
            check_matches(&query, &event)?;
            let is_shown = filter.shows(view, &event, Tier::Any)?;
            events.extend(is_shown.then_some(event));
            Ok(is_shown)
        })?;
        Ok(FramePart::Events(events, next))
    }

    /// Finds the positions of matching events in the index, and calls `take` with their records until the part is full.
    /// `take` returns whether the event is visible. Returns the first position of the next part.
    fn for_each_match(
        &mut self,
        view: &IndexView<'_>,
        limits: ReadLimits,
        cursor: &mut Cursor<'_>,
        mut take: impl FnMut(Position, Frame) -> Result<bool, StoreError>,
    ) -> Result<Option<Position>, StoreError> {
        let direction = self.read.direction;
        let mut points = self.points.take().unwrap_or_else(|| view.log.point_reader());
        let mut budget = BatchBudget::new(limits, self.remaining);
        let mut next = Some(self.next);
        while let Some(from) = next.filter(|_| !budget.is_exhausted()) {
            match cursor.seek(direction, from)? {
                SeekResult::End => next = None,
                SeekResult::Pause(at) => {
                    next = Some(at);
                    break;
                }
                SeekResult::Match(found) => {
                    next = successor(direction, found);
                    let record = view.record_at(&mut points, found, Tier::Any)?;
                    let bytes = record.bytes().len();
                    if !record.starts_with_tombstone() && take(found, record)? {
                        budget.add(bytes);
                    } else {
                        budget.skip_hidden();
                    }
                }
            }
        }
        self.points = Some(points);
        Ok(next.filter(|next| *next <= self.head))
    }
}
