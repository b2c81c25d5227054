//! Reads of one stream: its copies in the tables, then its events in memory and in the log.

use std::sync::Arc;

use async_trait::async_trait;
use es_core::model::EventView;
use es_core::store::implement::BatchSource;
use es_core::store::{Batch, Direction, Visitor};
use es_core::{Position, RecordedEvent, Revision, StoreError, StreamRead, Timestamp};
use tokio::task::JoinSet;

use crate::database::{Fault, Tier, bad_key, item, place_in};
use crate::key;
use crate::retention::StreamIndex;
use crate::schema::Cf;
use crate::segmented::codec::LogDecoder;
use crate::segmented::index::IndexView;
use crate::segmented::shared_store::{Core, SharedStore};

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
    events: Vec<RecordedEvent>,
    /// The revision at which the next part starts; `None` if this is the last part.
    next: Option<Revision>,
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
        Self { inner, scan, reading: JoinSet::new(), decoder: LogDecoder::default(), is_ended }
    }

    /// Returns the next events; `None` after the last part.
    async fn next_part(&mut self) -> Result<Option<Vec<RecordedEvent>>, StoreError> {
        if self.is_ended {
            return Ok(None);
        }
        if self.inner.is_closed() {
            return Err(StoreError::Closed);
        }
        let CopyPart { events, next } = self.read_part().await?;
        self.scan.remaining = self.scan.remaining.map(|events_left| events_left.saturating_sub(events.len() as u64));
        self.scan.next = next;
        self.is_ended = next.is_none() || self.scan.remaining == Some(0);
        Ok(Some(events))
    }

    async fn read_part(&mut self) -> Result<CopyPart, StoreError> {
        if self.reading.is_empty() {
            let Self { inner, scan, decoder, .. } = self;
            let cached = inner.with(|core| match scan.fetch(core, INLINE_EVENTS, Tier::Cached, decoder) {
                Ok(part) => Ok(Some(part)),
                Err(Fault::NotCached) => Ok(None),
                Err(Fault::Store(error)) => Err(error),
            });
            if let Some(part) = cached? {
                return Ok(part);
            }
            let (inner, scan) = (Arc::clone(inner), scan.clone());
            let fetch = move || {
                inner.with(|core| Ok(scan.fetch(core, scan.max_events, Tier::Any, &mut LogDecoder::default())?))
            };
            if tokio::runtime::Handle::try_current().is_err() {
                return fetch();
            }
            self.reading.spawn_blocking(fetch);
        }
        let read = self.reading.join_next().await;
        let failed = |error: &'static str| StoreError::io("run on a blocking thread", error);
        read.ok_or_else(|| failed("no task"))?.map_err(|error| StoreError::io("run on a blocking thread", error))?
    }

    /// Visits the events of the read.
    pub(crate) async fn visit(mut self, visitor: &mut Visitor<'_>) -> Result<(), StoreError> {
        while let Some(events) = self.next_part().await? {
            if events.iter().any(|event| visitor(EventView::from(event)).is_break()) {
                break;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl BatchSource for CopySource {
    async fn next_batch(&mut self) -> Result<Option<Batch>, StoreError> {
        Ok(self.next_part().await?.map(|events| Batch { events, scanned: None }))
    }
}

/// A part that is being filled.
struct Filling<'a> {
    events: Vec<RecordedEvent>,
    max_events: usize,
    bytes: usize,
    max_bytes: usize,
    scan: &'a CopyScan,
    /// The revision of the next event.
    next: Revision,
}

impl Filling<'_> {
    fn is_full(&self) -> bool {
        self.events.len() >= self.max_events || self.bytes >= self.max_bytes
    }

    /// Adds the next event of a forward read. Returns `false` if it is after the head.
    fn push(&mut self, event: RecordedEvent, view: &IndexView<'_>) -> Result<bool, StoreError> {
        let stream = &self.scan.read.stream;
        if event.position > self.scan.head {
            return Ok(false);
        }
        // A scavenge may have removed the events before this one since the read began.
        if event.revision != self.next && view.first_left(stream, Tier::Any)? < event.revision {
            let detail = format!("expected an event, found the next at revision {}", event.revision);
            return Err(StoreError::damaged(place_in(stream, self.next), detail));
        }
        self.next = event.revision.next();
        if !event.is_removed() {
            self.bytes += event.data.payload.len().max(1);
            self.events.push(event);
        }
        Ok(true)
    }

    fn into_part(self, is_last: bool) -> CopyPart {
        CopyPart { events: self.events, next: (!is_last).then_some(self.next) }
    }
}

impl CopyScan {
    /// Reads the next part.
    ///
    /// # Errors
    /// [`Fault::NotCached`] if `tier` is [`Tier::Cached`] and the first event needs the disk.
    fn fetch(&self, core: &Core, max_events: usize, tier: Tier, decoder: &mut LogDecoder) -> Result<CopyPart, Fault> {
        let view = core.view(self.head);
        let stream = &self.read.stream;
        let retention = core.publisher.operators.of(stream);
        let first = view.first_visible(stream, &retention, self.now, self.head, tier)?;
        let remaining = self.remaining.map_or(usize::MAX, |events| usize::try_from(events).unwrap_or(usize::MAX));
        let max_events = max_events.min(self.max_events).min(remaining);
        match self.read.direction {
            Direction::Forward => {
                let (next, max_bytes) = (self.next.unwrap_or(Revision::FIRST).max(first), self.max_bytes);
                let part = Filling { events: Vec::new(), max_events, bytes: 0, max_bytes, scan: self, next };
                self.fetch_forward(&view, part, tier, decoder)
            }
            Direction::Backward => self.fetch_backward(&view, first, max_events, tier, decoder),
        }
    }

    fn fetch_forward(
        &self,
        view: &IndexView<'_>,
        mut part: Filling<'_>,
        tier: Tier,
        decoder: &mut LogDecoder,
    ) -> Result<CopyPart, Fault> {
        let first_in_memory = view.first_in_memory(&self.read.stream);
        if first_in_memory.is_none_or(|first| part.next < first) {
            match self.fetch_copies(view, first_in_memory, &mut part, tier, decoder) {
                Err(Fault::NotCached) if !part.events.is_empty() => return Ok(part.into_part(false)),
                Ok(true) if part.is_full() => return Ok(part.into_part(false)),
                Ok(true) => {}
                Ok(false) => return Ok(part.into_part(true)),
                Err(fault) => return Err(fault),
            }
        }
        while !part.is_full() {
            let Some((_, positions)) = view.positions_in_memory(&self.read.stream, part.next, POSITIONS) else {
                return Ok(part.into_part(true));
            };
            for position in positions {
                if position > self.head {
                    return Ok(part.into_part(true));
                }
                match view.event(position, tier, decoder) {
                    Err(Fault::NotCached) if !part.events.is_empty() => return Ok(part.into_part(false)),
                    event => part.push(event?, view)?,
                };
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
        decoder: &mut LogDecoder,
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
            if !part.push(view.copied_event(stream, revision, value, decoder)?, view)? {
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
        decoder: &mut LogDecoder,
    ) -> Result<CopyPart, Fault> {
        let stream = &self.read.stream;
        let last = view.last_up_to(stream, self.head, tier)?;
        let mut next = match (self.next, last) {
            (Some(next), Some(last)) => Some(next.min(last)),
            (None, last) => last,
            (_, None) => None,
        };
        let (mut events, mut bytes) = (Vec::new(), 0);
        while let Some(revision) = next.filter(|next| *next >= first) {
            if events.len() >= max_events || bytes >= self.max_bytes {
                return Ok(CopyPart { events, next });
            }
            let event = match view.event_in(stream, revision, tier, decoder) {
                Err(Fault::NotCached) if !events.is_empty() => return Ok(CopyPart { events, next }),
                event => event?,
            };
            let Some(event) = event else {
                // A scavenge may have removed it since the read began.
                if view.first_left(stream, Tier::Any)? > revision {
                    break;
                }
                return Err(StoreError::damaged(place_in(stream, revision), "expected an event, found none").into());
            };
            if !event.is_removed() {
                bytes += event.data.payload.len().max(1);
                events.push(event);
            }
            next = revision.get().checked_sub(1).map(Revision::new);
        }
        Ok(CopyPart { events, next: None })
    }
}
