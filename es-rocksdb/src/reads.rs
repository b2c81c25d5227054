//! The read operations of [`RocksDbStore`](crate::RocksDbStore) and [`ReadOnlyStore`](crate::ReadOnlyStore).

use std::sync::Arc;

use bytes::Bytes;
use es_core::model::{Table, UniqueKey};
use es_core::retention::Retained;
use es_core::store::{Batch, EventStream, Row, RowScan, Visitor};
use es_core::{EventId, LogRead, Position, RecordedEvent, Revision, StoreError, StreamId, StreamRead, Timestamp};

use crate::database::{Database, Fault, Tier, place_of};
use crate::options::ReadLimits;
use crate::reader::{LogSource, StreamSource};
use crate::record::Decoder;
use crate::retention::{HiddenEvents, RetentionFilter, StreamIndex};
use crate::rows::{self, INLINE_ROWS};
use crate::shared::Shared;

impl Shared {
    /// Opens a read of one stream, up to `head`.
    pub(crate) fn read_stream(
        self: &Arc<Self>,
        limits: ReadLimits,
        read: StreamRead,
        head: Option<Position>,
    ) -> EventStream {
        let source = head.map(|head| StreamSource::new(Arc::clone(self), limits, read, head));
        source.map_or_else(|| EventStream::ready(Batch::default()), EventStream::new)
    }

    /// Visits a read of one stream, up to `head`.
    pub(crate) async fn visit_stream(
        self: &Arc<Self>,
        limits: ReadLimits,
        read: StreamRead,
        head: Option<Position>,
        visitor: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        match head {
            Some(head) => StreamSource::new(Arc::clone(self), limits, read, head).visit(visitor).await,
            None => Ok(()),
        }
    }

    /// Visits a read of the log, up to `head`. Hidden events are visited in the form `hidden`, if it is given.
    pub(crate) async fn visit_log(
        self: &Arc<Self>,
        limits: ReadLimits,
        read: LogRead,
        head: Option<Position>,
        hidden: Option<HiddenEvents>,
        visitor: &mut Visitor<'_>,
    ) -> Result<Option<Position>, StoreError> {
        let scanned_without_source = read.scanned_to::<RecordedEvent>(head, &[]);
        match head.and_then(|head| LogSource::new(Arc::clone(self), limits, read, head, hidden)) {
            Some(source) => source.visit(visitor).await,
            None => Ok(scanned_without_source),
        }
    }

    /// Opens a read of the log, up to `head`.
    pub(crate) fn read_log(self: &Arc<Self>, limits: ReadLimits, read: LogRead, head: Option<Position>) -> EventStream {
        self.read_log_with(limits, read, head, None)
    }

    /// Opens a read of the log, up to `head`. Hidden events are returned in the form `hidden`, if it is given.
    pub(crate) fn read_log_with(
        self: &Arc<Self>,
        limits: ReadLimits,
        read: LogRead,
        head: Option<Position>,
        hidden: Option<HiddenEvents>,
    ) -> EventStream {
        let without_source = Batch { events: Vec::new(), scanned: read.scanned_to::<RecordedEvent>(head, &[]) };
        let source = head.and_then(|head| LogSource::new(Arc::clone(self), limits, read, head, hidden));
        source.map_or_else(|| EventStream::ready(without_source), EventStream::new)
    }

    pub(crate) async fn revision(self: &Arc<Self>, stream: &StreamId) -> Result<Option<Revision>, StoreError> {
        let stream = stream.clone();
        self.point(move |database, tier| database.revision(&stream, tier)).await
    }

    pub(crate) async fn retained(
        self: &Arc<Self>,
        stream: &StreamId,
        head: Option<Position>,
    ) -> Result<Retained, StoreError> {
        if !self.operators.is_touched() {
            return Ok(Retained::WHOLE);
        }
        let (stream, retention, now) = (stream.clone(), self.operators.of(stream), self.clock.now());
        self.point(move |database, tier| database.retained(&stream, &retention, now, head, tier)).await
    }

    pub(crate) async fn find(self: &Arc<Self>, id: EventId) -> Result<Option<RecordedEvent>, StoreError> {
        let (shared, now) = (Arc::clone(self), self.clock.now());
        self.point(move |database, tier| find(&shared, now, database, id, tier)).await
    }

    pub(crate) async fn owner(self: &Arc<Self>, key: &UniqueKey) -> Result<Option<StreamId>, StoreError> {
        let hash = self.secret.hash(key);
        let Some(owner) = self.point(move |database, tier| database.owner(&hash, tier)).await? else { return Ok(None) };
        // ORDER: after the claim is read. A deletion that this misses was not acknowledged when the read started.
        let begins = self.operators.of(&owner.stream).begins();
        Ok(owner.holder(begins))
    }

    pub(crate) async fn row(self: &Arc<Self>, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let (table, key) = (table.clone(), Bytes::copy_from_slice(key));
        self.point(move |database, tier| database.row(&table, &key, tier)).await
    }

    pub(crate) async fn rows(self: &Arc<Self>, scan: RowScan) -> Result<Vec<Row>, StoreError> {
        let is_small = scan.limit <= INLINE_ROWS;
        let read = move |database: &Database, tier: Tier| match tier {
            Tier::Cached if !is_small => Err(Fault::NotCached),
            tier => rows::scan(database, &scan, tier),
        };
        self.point(read).await
    }
}

/// Returns the event with an id, if it is visible at the time `now`.
fn find(
    shared: &Shared,
    now: Timestamp,
    database: &Database,
    id: EventId,
    tier: Tier,
) -> Result<Option<RecordedEvent>, Fault> {
    let Some(position) = database.position_of(id, tier)? else { return Ok(None) };
    let event = database.event(position, tier, &mut Decoder::default())?;
    if event.data.id != id {
        let detail = format!("expected the event with id {id}, as in the index, found id {}", event.data.id);
        return Err(StoreError::damaged(place_of(position), detail).into());
    }
    // A look-up by id is not bounded by the published head.
    let head = Position::new(u64::MAX).unwrap_or(position);
    let is_shown = RetentionFilter::new(&shared.operators, now, head).shows(database, &event, tier)?;
    Ok(is_shown.then_some(event))
}
