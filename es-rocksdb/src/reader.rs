//! The read operations of a store.
//!
//! ```text
//!   copy_source (streams), frame_source, whole_log (the log) ──► shared ──► stream_buffers
//! ```

mod batch_sizes;
mod copy_source;
pub(crate) mod description;
mod frame_source;
pub(crate) mod shared;
pub(crate) mod stream_buffers;
pub(crate) mod whole_log;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use es_core::model::UniqueKey;
use es_core::retention::Retained;
use es_core::store::implement::{KeyOwner, ahead_of_clock};
use es_core::store::{Batch, EventStream, Row, RowScan, StoreInfo, Visitor};
use es_core::{EventId, LogRead, Position, RecordedEvent, Revision, StoreError, StreamId, StreamRead, Timestamp};

use crate::engine::database::{Fault, Tier, bad_name, item, place_of};
use crate::engine::rows::{self, INLINE_ROWS};
use crate::index::IndexView;
use crate::reader::copy_source::CopySource;
use crate::reader::description::Described;
use crate::reader::frame_source::FrameSource;
use crate::reader::shared::{Core, SharedStore};
use crate::record::codec::LogDecoder;
use crate::retention::{RetentionFilter, StreamIndex};
use crate::schema::Cf;

/// Opens a read of one stream, up to `head`.
pub(crate) fn read_stream(inner: &Arc<SharedStore>, read: StreamRead, head: Option<Position>) -> EventStream {
    let source = head.map(|head| CopySource::new(Arc::clone(inner), read, head));
    source.map_or_else(|| EventStream::ready(Batch::default()), EventStream::new)
}

/// Visits a read of one stream, up to `head`.
pub(crate) async fn visit_stream(
    inner: &Arc<SharedStore>,
    read: StreamRead,
    head: Option<Position>,
    visitor: &mut Visitor<'_>,
) -> Result<(), StoreError> {
    match head {
        Some(head) => CopySource::new(Arc::clone(inner), read, head).visit(visitor).await,
        None => Ok(()),
    }
}

/// Opens a read of the log, up to `head`.
pub(crate) fn read_log(inner: &Arc<SharedStore>, read: LogRead, head: Option<Position>) -> EventStream {
    let without_source = Batch { events: Vec::new(), scanned: read.scanned_to::<RecordedEvent>(head, &[]) };
    let source = head.and_then(|head| FrameSource::new(Arc::clone(inner), read, head));
    source.map_or_else(|| EventStream::ready(without_source), EventStream::new)
}

/// Visits a read of the log, up to `head`.
pub(crate) async fn visit_log(
    inner: &Arc<SharedStore>,
    read: LogRead,
    head: Option<Position>,
    visitor: &mut Visitor<'_>,
) -> Result<Option<Position>, StoreError> {
    let scanned_without_source = read.scanned_to::<RecordedEvent>(head, &[]);
    match head.and_then(|head| FrameSource::new(Arc::clone(inner), read, head)) {
        Some(source) => source.visit(visitor).await,
        None => Ok(scanned_without_source),
    }
}

/// Returns the revision of the last event of a stream.
pub(crate) fn revision(view: &IndexView<'_>, stream: &StreamId, tier: Tier) -> Result<Option<Revision>, Fault> {
    StreamIndex::revision(view, stream, tier)
}

/// Returns the event with an id, if it is visible at the time `now`.
pub(crate) fn find(
    core: &Core,
    id: EventId,
    head: Position,
    now: Timestamp,
    tier: Tier,
) -> Result<Option<RecordedEvent>, Fault> {
    let view = core.view(head);
    let Some(position) = view.position_of(id, tier)?.filter(|position| *position <= head) else { return Ok(None) };
    let event = view.event(position, tier, &mut LogDecoder::default())?;
    if event.data.id != id {
        let detail = format!("expected the event with id {id}, as in the index, found id {}", event.data.id);
        return Err(StoreError::damaged(place_of(position), detail).into());
    }
    let is_shown = RetentionFilter::new(&core.publisher.operators, now, head).shows(&view, &event, tier)?;
    Ok(is_shown.then_some(event))
}

/// Returns the claim of a unique key.
pub(crate) fn owner(core: &Core, key: &UniqueKey, tier: Tier) -> Result<Option<KeyOwner>, Fault> {
    core.publisher.database.owner(&core.secret.hash(key), tier)
}

/// Returns the rows of a scan.
pub(crate) fn rows(core: &Core, scan: &RowScan, tier: Tier) -> Result<Vec<Row>, Fault> {
    match tier {
        Tier::Cached if scan.limit > INLINE_ROWS => Err(Fault::NotCached),
        tier => rows::scan(&core.publisher.database, scan, tier),
    }
}

/// Returns which events of a stream are retained.
pub(crate) fn retained(
    core: &Core,
    stream: &StreamId,
    head: Option<Position>,
    now: Timestamp,
    tier: Tier,
) -> Result<Retained, Fault> {
    let operators = &core.publisher.operators;
    let Some(head) = head.filter(|_| operators.is_touched()) else { return Ok(Retained::WHOLE) };
    core.view(head).retained(stream, &operators.of(stream), now, Some(head), tier)
}

/// Returns streams in the byte order of their names, each with the revision of its last event.
pub(crate) fn streams(
    view: &IndexView<'_>,
    prefix: &str,
    after: Option<&StreamId>,
    limit: usize,
) -> Result<Vec<(StreamId, Revision)>, Fault> {
    let is_listed = |stream: &StreamId| stream.as_str().starts_with(prefix) && after.is_none_or(|after| stream > after);
    let mut found = BTreeMap::new();
    for run in view.runs() {
        let entries = run.entries();
        for (stream, of_stream) in entries.streams.iter().filter(|(stream, _)| is_listed(stream)) {
            if let Some((revision, _)) = of_stream.last_up_to(view.head) {
                found.insert(stream.clone(), revision);
            }
        }
    }
    let mut heads = view.database.iterate(Cf::Heads, prefix.as_bytes().to_vec(), Tier::Any)?;
    heads.seek(after.map_or(prefix, StreamId::as_str).max(prefix).as_bytes());
    let mut from_tables = 0;
    while from_tables < limit {
        let Some((name, _)) = item(&heads, Cf::Heads)? else { break };
        let stream = std::str::from_utf8(name).ok().and_then(|name| StreamId::new(name).ok());
        let stream = stream.ok_or_else(|| bad_name(Cf::Heads, name))?;
        if is_listed(&stream) {
            from_tables += 1;
            if !found.contains_key(&stream)
                && let Some((revision, _)) = view.last_of(&stream, view.head, Tier::Any)?
            {
                found.insert(stream, revision);
            }
        }
        heads.next();
    }
    Ok(found.into_iter().take(limit).collect())
}

/// Describes the store.
pub(crate) async fn info(inner: &Arc<SharedStore>, described: Described) -> Result<StoreInfo, StoreError> {
    let last_recorded_at = match described.head {
        Some(head) => {
            let last = move |core: &Core, tier| core.view(head).event(head, tier, &mut LogDecoder::default());
            Some(inner.read(last).await?.recorded_at)
        }
        None => None,
    };
    described.with_files(last_recorded_at, ahead_of_clock(last_recorded_at, inner.clock.now())).await
}

/// Returns by how much the last recorded time is ahead of the clock, if that is more than a minute.
pub(crate) fn ahead_of_log(inner: &SharedStore) -> Option<Duration> {
    // A closed store is not ahead.
    let end = inner.with(|core| Ok(core.publisher.decisions()?.end)).ok()?;
    ahead_of_clock(end.recorded_at, inner.clock.now())
}
