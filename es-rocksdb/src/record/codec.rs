//! Events as records of the log, and back.

use std::ops::ControlFlow;

use bytes::Bytes;
use es_core::model::{ContentType, EventView, Tag, Tags};
use es_core::store::Visitor;
use es_core::store::implement::ValidCommit;
use es_core::{EventData, EventType, Position, RecordedEvent, StoreError, StreamId};
use es_log::{
    AppendError, Batch, Body, CommitDraft, ContentCode, EventFields, KeyFields, Record, RowFields, TagTexts,
    TombstoneFields,
};

use crate::engine::database::place_of;
use crate::engine::key;
use crate::record::{
    CommitChanges, LastTime, Names, Payloads, RecordError, decode_keys_and_stamp, decode_metadata,
    encode_keys_and_stamp, encode_metadata,
};
use crate::sync::{Mutex, PoisonError};

/// A commit with its metadata encoded, so that less is left to do while the log is locked.
#[derive(Debug)]
pub(crate) struct EncodedCommit {
    pub(crate) commit: ValidCommit,
    metadata: Vec<Vec<u8>>,
}

impl EncodedCommit {
    /// # Errors
    /// [`StoreError`]: an event cannot be stored as a record.
    pub(crate) fn new(commit: ValidCommit) -> Result<Self, StoreError> {
        let events = commit.events().iter().map(|(stream, event)| (stream, &event.data));
        Ok(Self { metadata: encode_all_metadata(events)?, commit })
    }

    /// Adds the records of the decided commit to the log: its events, then its rows and unique keys.
    ///
    /// # Errors
    /// [`AppendError::Record`], and [`StoreError`] if an event cannot be stored as a record.
    pub(crate) fn append(
        &mut self,
        events: &[RecordedEvent],
        changes: &CommitChanges,
        log: &mut CommitDraft<'_>,
    ) -> Result<(), StoreError> {
        if self.commit.has_changed_events() {
            self.metadata = encode_all_metadata(events.iter().map(|event| (&event.stream, &event.data)))?;
        }
        let mut scratch = (Vec::new(), Vec::new());
        for (event, metadata) in events.iter().zip(&self.metadata) {
            append_event(event, metadata, &mut scratch, log).map_err(|error| not_encoded(event, error))?;
        }
        for ((table, key), value) in &changes.rows {
            let row = RowFields { table: table.as_str(), key, value: value.as_deref() };
            log.push(&Body::Row(row)).map_err(|error| StoreError::io("encode a row", error))?;
        }
        for (hash, owner) in &changes.owners {
            let value = owner.as_ref().map(key::owner);
            let key = KeyFields { key: hash.as_bytes(), value: value.as_deref() };
            log.push(&Body::Key(key)).map_err(|error| StoreError::io("encode a unique key", error))?;
        }
        Ok(())
    }
}

fn encode_all_metadata<'a>(
    events: impl Iterator<Item = (&'a StreamId, &'a EventData)>,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let encode = |(stream, data): (&StreamId, &EventData)| {
        encode_metadata(&data.metadata)
            .map_err(|error| StoreError::io(format!("encode event {} for stream {stream:?}", data.id), error))
    };
    events.map(encode).collect()
}

fn not_encoded(event: &RecordedEvent, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::io(format!("encode event {} for stream {:?}", event.data.id, event.stream), error)
}

/// Adds the record of an event. `tags` and `extensions` are buffers.
fn append_event(
    event: &RecordedEvent,
    metadata: &[u8],
    (tags, extensions): &mut (Vec<u8>, Vec<u8>),
    log: &mut CommitDraft<'_>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let RecordedEvent { position: _, stream, revision, recorded_at, occurred_at, part, data } = event;
    let recorded_at = recorded_at.timestamp_micros();
    let body = if event.is_removed() {
        if data.stamp.is_some() {
            return Err(RecordError::StampedTombstone.into());
        }
        let (stream, revision, id, part) = (stream.as_str().as_bytes(), *revision, data.id, *part);
        Body::Tombstone(TombstoneFields { stream, revision, id, recorded_at, part })
    } else {
        let EventData {
            id,
            event_type,
            version,
            content_type,
            payload,
            tags: names,
            metadata: _,
            correlation_id,
            causation_id,
            keys,
            stamp,
        } = data;
        extensions.clear();
        encode_keys_and_stamp(keys, stamp.as_deref(), extensions)?;
        Body::Event(EventFields {
            stream: stream.as_str().as_bytes(),
            revision: *revision,
            id: *id,
            recorded_at,
            occurred_at: occurred_at.timestamp_micros(),
            part: *part,
            event_type: event_type.as_str().as_bytes(),
            version: *version,
            content_type: ContentCode::from(content_type),
            correlation_id: *correlation_id,
            causation_id: *causation_id,
            tags: TagTexts::encode_into(names.iter().map(|tag| tag.as_str().as_bytes()), tags)?,
            metadata,
            payload,
            extensions,
        })
    };
    log.push(&body).map(drop).map_err(|error| AppendError::from(error).into())
}

/// The fields of an event that [`LogDecoder::visit`] does not decode again if the next event has the same.
#[derive(Clone, Copy)]
struct Before<'a> {
    tags: TagTexts<'a>,
    metadata: &'a [u8],
    extensions: &'a [u8],
}

/// Decodes records to events, and reuses names, times and memory of earlier records.
///
/// Its events share names by reference count. Do not decode further while another thread uses the events: both threads
/// would contend for the counts.
#[derive(Debug, Default)]
pub(crate) struct LogDecoder {
    streams: Names<StreamId>,
    types: Names<EventType>,
    tags: Names<Tag>,
    time: LastTime,
    payloads: Payloads,
}

impl LogDecoder {
    /// Returns the event of a record; `None` for the record of a row or a unique key.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the record is not what the encoder writes.
    pub(crate) fn event(&mut self, record: &Record<'_>, within: &Bytes) -> Result<Option<RecordedEvent>, StoreError> {
        let position = record.position;
        let decoded = match &record.body {
            Body::Event(fields) => self.decode(position, fields, within).map(Some),
            Body::Tombstone(fields) => self.tombstone(position, fields).map(Some),
            Body::Row(_) | Body::Key(_) | Body::Opaque(_) => Ok(None),
        };
        decoded.map_err(|error| StoreError::damaged(place_of(position), error.to_string()))
    }

    /// Visits the events of a batch up to `head`, which are not tombstones. Each event is decoded over the event before
    /// it, which is in `last`. Returns the position of the event at which the visitor broke.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if a record is not what the encoder writes.
    pub(crate) fn visit(
        &mut self,
        batch: &Batch,
        head: Position,
        last: &mut Option<RecordedEvent>,
        visitor: &mut Visitor<'_>,
    ) -> Result<Option<Position>, StoreError> {
        let mut before: Option<Before<'_>> = None;
        let visited = batch.visit_events(|position, fields| {
            if position > head {
                return ControlFlow::Break(Ok(None));
            }
            let decoded = match last {
                Some(event) => self.decode_over(position, fields, batch.bytes(), event, before),
                None => self.decode(position, fields, batch.bytes()).map(|event| *last = Some(event)),
            };
            if let Err(error) = decoded {
                return ControlFlow::Break(Err(StoreError::damaged(place_of(position), error.to_string())));
            }
            before = Some(Before { tags: fields.tags, metadata: fields.metadata, extensions: fields.extensions });
            match last {
                Some(event) if visitor(EventView::from(&*event)).is_break() => ControlFlow::Break(Ok(Some(position))),
                _ => ControlFlow::Continue(()),
            }
        });
        visited.map_err(|error| StoreError::damaged("the log", error.to_string()))?.unwrap_or(Ok(None))
    }

    /// Decodes a record into `event`, which holds another event, and keeps the parts that both have in common. `before`
    /// has fields of the other one, if they are known.
    fn decode_over(
        &mut self,
        at: Position,
        fields: &EventFields<'_>,
        within: &Bytes,
        event: &mut RecordedEvent,
        before: Option<Before<'_>>,
    ) -> Result<(), RecordError> {
        let RecordedEvent { position, stream, revision, recorded_at, occurred_at, part, data } = event;
        (*position, *revision, *part) = (at, fields.revision, fields.part);
        (data.id, data.version) = (fields.id, fields.version);
        (data.correlation_id, data.causation_id) = (fields.correlation_id, fields.causation_id);
        *recorded_at = self.time.get("recorded at", fields.recorded_at)?;
        *occurred_at = self.time.get("occurred at", fields.occurred_at)?;
        if stream.as_str().as_bytes() != fields.stream {
            *stream = self.streams.get("stream", fields.stream)?;
        }
        if data.event_type.as_str().as_bytes() != fields.event_type {
            data.event_type = self.types.get("event type", fields.event_type)?;
        }
        data.content_type = content_type(fields.content_type);
        // A view is borrowed for a short time, so that a large payload may share the allocation as well.
        data.payload = within.slice_ref(fields.payload);
        if before.is_none_or(|before| before.tags != fields.tags) {
            data.tags = self.tags(fields.tags)?;
        }
        if before.is_none_or(|before| before.metadata != fields.metadata) {
            data.metadata = decode_metadata(fields.metadata)?;
        }
        if before.is_none_or(|before| before.extensions != fields.extensions) {
            (data.keys, data.stamp) = decode_keys_and_stamp(fields.extensions)?;
        }
        Ok(())
    }

    /// Returns the event of a batch that has one event.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the record is not what the encoder writes.
    pub(crate) fn only_event(&mut self, position: Position, batch: &Batch) -> Result<RecordedEvent, StoreError> {
        for record in batch.records() {
            let record = record.map_err(|error| StoreError::damaged(place_of(position), error.to_string()))?;
            if let Some(event) = self.event(&record, batch.bytes())? {
                return Ok(event);
            }
        }
        Err(StoreError::damaged(place_of(position), "expected an event, found none"))
    }

    fn decode(
        &mut self,
        position: Position,
        fields: &EventFields<'_>,
        within: &Bytes,
    ) -> Result<RecordedEvent, RecordError> {
        let (keys, stamp) = decode_keys_and_stamp(fields.extensions)?;
        let data = EventData {
            id: fields.id,
            event_type: self.types.get("event type", fields.event_type)?,
            version: fields.version,
            content_type: content_type(fields.content_type),
            payload: self.payloads.take(fields.payload, Some(within)),
            tags: self.tags(fields.tags)?,
            metadata: decode_metadata(fields.metadata)?,
            correlation_id: fields.correlation_id,
            causation_id: fields.causation_id,
            keys,
            stamp,
        };
        Ok(RecordedEvent {
            position,
            stream: self.streams.get("stream", fields.stream)?,
            revision: fields.revision,
            recorded_at: self.time.get("recorded at", fields.recorded_at)?,
            occurred_at: self.time.get("occurred at", fields.occurred_at)?,
            part: fields.part,
            data,
        })
    }

    fn tombstone(&mut self, position: Position, fields: &TombstoneFields<'_>) -> Result<RecordedEvent, RecordError> {
        let stream = self.streams.get("stream", fields.stream)?;
        let recorded_at = self.time.get("recorded at", fields.recorded_at)?;
        Ok(RecordedEvent::removed(position, stream, fields.revision, fields.id, recorded_at, fields.part))
    }

    fn tags(&mut self, texts: TagTexts<'_>) -> Result<Tags, RecordError> {
        let mut tags = Tags::new();
        for text in texts.iter() {
            tags.insert(self.tags.get("tag", text)?);
        }
        Ok(tags)
    }
}

/// The decoders of finished visits. They know the names of the events that they decoded, so that a short visit need not
/// build them again.
#[derive(Debug, Default)]
pub(crate) struct IdleDecoders(Mutex<Vec<LogDecoder>>);

impl IdleDecoders {
    /// The largest number of decoders. Each has at most some 100 KiB.
    const MAX: usize = 8;

    pub(crate) fn take(&self) -> LogDecoder {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Keeps a decoder whose events are not used any more.
    pub(crate) fn put_back(&self, decoder: LogDecoder) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < Self::MAX {
            idle.push(decoder);
        }
    }
}

fn content_type(code: ContentCode<'_>) -> ContentType {
    match code {
        ContentCode::Json => ContentType::Json,
        ContentCode::MessagePack => ContentType::MessagePack,
        ContentCode::Other(media_type) => ContentType::Other(media_type.into()),
    }
}
