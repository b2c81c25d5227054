//! Reads of the log with hidden events: no position is skipped.

use std::sync::Arc;

use async_trait::async_trait;
use es_core::store::implement::BatchSource;
use es_core::store::{Batch, Direction};
use es_core::{LogRead, Position, RecordedEvent, StoreError, Timestamp};
use es_log::{LogReader, ReadableLog};

use crate::engine::database::{Tier, missing_event};
use crate::executor::off_executor;
use crate::index::of_log;
use crate::index::postings::{predecessor, successor};
use crate::options::ReadLimits;
use crate::reader::shared::{Core, SharedStore};
use crate::record::codec::LogDecoder;
use crate::retention::{HiddenEvents, RetentionFilter};

/// The number of events that a backward read decodes at a time.
const BACKWARD_EVENTS: u64 = 256;

/// A read of the log that returns hidden events, too.
pub(crate) struct WholeLogSource {
    inner: Arc<SharedStore>,
    /// The scan; `None` while a part is read, and after an error.
    scan: Option<WholeLogScan>,
}

struct WholeLogScan {
    read: LogRead,
    hidden: HiddenEvents,
    head: Position,
    /// The first position of the next part; `None` after the last one.
    next: Option<Position>,
    remaining: Option<u64>,
    /// The time at which the read was opened. Ages of events are relative to it.
    now: Timestamp,
    reader: Option<LogReader>,
}

impl WholeLogSource {
    /// Creates a read of the log up to `head`; `None` if its range is empty or its limit is 0.
    pub(crate) fn new(inner: Arc<SharedStore>, read: LogRead, hidden: HiddenEvents, head: Position) -> Option<Self> {
        let next = match read.direction {
            Direction::Forward => read.from.unwrap_or(Position::FIRST),
            Direction::Backward => read.from.map_or(head, |from| from.min(head)),
        };
        if next > head || read.limit == Some(0) {
            return None;
        }
        let (remaining, now) = (read.limit, inner.clock.now());
        let scan = WholeLogScan { read, hidden, head, next: Some(next), remaining, now, reader: None };
        Some(Self { inner, scan: Some(scan) })
    }
}

#[async_trait]
impl BatchSource for WholeLogSource {
    async fn next_batch(&mut self) -> Result<Option<Batch>, StoreError> {
        let Some(mut scan) = self.scan.take() else { return Ok(None) };
        let Some(next) = scan.next.filter(|_| scan.remaining != Some(0)) else { return Ok(None) };
        let inner = Arc::clone(&self.inner);
        let fetched = off_executor(move || {
            let events = inner.with(|core| scan.fetch(core, next, inner.read_batch));
            (scan, events)
        });
        let (mut scan, events) = fetched.await?;
        let events = events?;
        scan.remaining = scan.remaining.map(|left| left.saturating_sub(events.len() as u64));
        let scanned = match scan.next {
            _ if scan.remaining == Some(0) => events.last().map(|event| event.position),
            Some(next) => predecessor(scan.read.direction, next),
            None => scan.read.scanned_to::<RecordedEvent>(Some(scan.head), &[]),
        };
        self.scan = Some(scan);
        Ok(Some(Batch { events, scanned }))
    }
}

impl WholeLogScan {
    /// Returns the events of the next part, which starts at `next`.
    fn fetch(&mut self, core: &Core, next: Position, limits: ReadLimits) -> Result<Vec<RecordedEvent>, StoreError> {
        let view = core.view(self.head);
        let mut filter = RetentionFilter::new(&core.publisher.operators, self.now, self.head);
        let remaining = self.remaining.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let max_events = limits.events.min(remaining);
        let mut events = Vec::new();
        for event in self.decode(&core.log, next, limits)? {
            if events.len() >= max_events {
                break;
            }
            self.next = successor(self.read.direction, event.position).filter(|next| *next <= self.head);
            if self.read.query.items().is_some() && (event.is_removed() || !self.read.query.matches_event(&event)) {
                continue;
            }
            let is_shown = match self.hidden {
                HiddenEvents::WithContent => true,
                HiddenEvents::AsTombstones => filter.shows(&view, &event, Tier::Any)?,
            };
            events.push(if is_shown { event } else { event.without_content() });
        }
        // Events that were decoded and not returned are read again.
        if self.reader.as_ref().map(LogReader::position) != self.next {
            self.reader = None;
        }
        Ok(events)
    }

    /// Decodes all events of the next part, in the direction of the read.
    fn decode(
        &mut self,
        log: &ReadableLog,
        next: Position,
        limits: ReadLimits,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let (mut events, mut bytes, mut decoder) = (Vec::new(), 0, LogDecoder::default());
        let (first, last) = match self.read.direction {
            Direction::Forward => (next, self.head),
            Direction::Backward => {
                let first = next.get().saturating_sub(BACKWARD_EVENTS - 1);
                (Position::new(first).unwrap_or(Position::FIRST), next)
            }
        };
        let is_forward = self.read.direction == Direction::Forward;
        let mut reader = self.reader.take().filter(|_| is_forward).unwrap_or_else(|| log.read(first));
        while !is_forward || (events.len() < limits.events && bytes < limits.bytes) {
            let Some(frame) = reader.next_batch().map_err(of_log)? else { break };
            bytes += frame.bytes().len();
            for record in frame.records() {
                let record = record.map_err(|error| StoreError::damaged("the log", error.to_string()))?;
                if record.position > last {
                    break;
                }
                events.extend(decoder.event(&record, frame.bytes())?);
            }
            if reader.position() > last {
                break;
            }
        }
        if events.is_empty() {
            return Err(missing_event(next));
        }
        if is_forward {
            self.reader = Some(reader);
        } else {
            events.reverse();
        }
        Ok(events)
    }
}
