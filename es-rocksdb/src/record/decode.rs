//! [`Decoder`]: decodes records to events.

use bytes::{Bytes, BytesMut};
use chrono::DateTime;
use es_core::model::{Tag, Tags};
use es_core::{EventData, EventType, RecordedEvent, StreamId, Timestamp};

use super::checked::Checked;
use super::error::RecordError;
use super::fields::Fields;
use super::names::Names;
use super::primitive::FieldReader;
use super::tombstone::TombstoneFields;

/// Decodes records, and reuses names, times and memory of earlier records.
///
/// Its events share names by reference count. Do not decode further while another thread uses the events: both threads
/// would contend for the counts.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// The stream of the last record, which is often that of the next one.
    stream: Option<StreamId>,
    streams: Names<StreamId>,
    types: Names<EventType>,
    tags: Names<Tag>,
    time: LastTime,
    payloads: Payloads,
}

/// The last time, in microseconds and decoded. The events of a commit have the same time, and decoding a date is slow.
#[derive(Debug, Default)]
pub(crate) struct LastTime(Option<(i64, Timestamp)>);

impl LastTime {
    /// Decodes a time. `field` is the field of the record, for errors.
    ///
    /// # Errors
    /// [`RecordError::Time`] if it is out of range.
    pub(crate) fn get(&mut self, field: &'static str, micros: i64) -> Result<Timestamp, RecordError> {
        match self.0 {
            Some((last, time)) if last == micros => Ok(time),
            _ => {
                let time = DateTime::from_timestamp_micros(micros).ok_or(RecordError::Time { field, found: micros })?;
                self.0 = Some((micros, time));
                Ok(time)
            }
        }
    }
}

/// Copies payloads. Small payloads share an allocation.
#[derive(Debug, Default)]
pub(crate) struct Payloads {
    buffer: BytesMut,
    /// The size of the next allocation.
    next_size: usize,
}

/// The sizes of the first and of the largest allocation that payloads share, in bytes. A payload keeps its whole
/// allocation alive.
pub(crate) const SHARED_BYTES: (usize, usize) = (1024, 16 * 1024);

impl Payloads {
    /// Returns an owned payload: a slice of `within` if the payload is stored there, otherwise a copy.
    pub(crate) fn take(&mut self, payload: &[u8], within: Option<&Bytes>) -> Bytes {
        if payload.len() > SHARED_BYTES.0 {
            return Bytes::copy_from_slice(payload);
        }
        if let Some(shared) = within {
            return shared.slice_ref(payload);
        }
        if self.buffer.capacity() < payload.len() {
            self.next_size = (self.next_size * 2).clamp(SHARED_BYTES.0, SHARED_BYTES.1);
            self.buffer = BytesMut::with_capacity(self.next_size);
        }
        self.buffer.extend_from_slice(payload);
        self.buffer.split().freeze()
    }
}

impl Decoder {
    /// Creates a decoder for the records of a stream.
    pub(crate) fn of_stream(stream: StreamId) -> Self {
        Self { stream: Some(stream), ..Self::default() }
    }

    /// Returns the event of a record. Copies the payload, because RocksDB lends the bytes of a record only for the
    /// duration of a read.
    ///
    /// # Errors
    /// [`RecordError`]: the bytes differ from what the encoder writes for the event. Unknown extensions and another
    /// JSON text of the same metadata are accepted, because a later version may write them.
    pub(crate) fn decode(&mut self, record: &[u8]) -> Result<RecordedEvent, RecordError> {
        self.decode_checked(Checked::new(record)?, None)
    }

    /// Returns the event of a checked record. If the record is stored in `within`, its payload shares that allocation.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub(crate) fn decode_checked(
        &mut self,
        record: Checked<'_>,
        within: Option<&Bytes>,
    ) -> Result<RecordedEvent, RecordError> {
        if record.is_removed() {
            return self.tombstone(record);
        }
        let fields = Fields::read(record)?;
        let (keys, stamp) = fields.keys_and_stamp()?;
        let data = EventData {
            id: fields.id,
            event_type: self.types.get("event type", fields.event_type)?,
            version: fields.version,
            content_type: fields.content_type()?,
            payload: self.payloads.take(fields.payload, within),
            tags: self.tags(&fields)?,
            metadata: fields.metadata()?,
            correlation_id: fields.correlation_id,
            causation_id: fields.causation_id,
            keys,
            stamp,
        };
        Ok(RecordedEvent {
            position: fields.position,
            stream: self.stream(fields.stream)?,
            revision: fields.revision,
            recorded_at: self.time.get("recorded at", fields.recorded_at)?,
            occurred_at: self.time.get("occurred at", fields.occurred_at)?,
            part: fields.part,
            data,
        })
    }

    /// Decodes a record into `event`, which holds the event of another record, and keeps the parts that both have in
    /// common: that is cheaper than a new event. `before` has the fields of the other record, if they are known.
    /// Returns the fields of this record; `None` for a tombstone.
    ///
    /// # Errors
    /// As [`decode`](Self::decode). `event` may then be a mix of both events.
    fn decode_over<'r>(
        &mut self,
        record: Checked<'r>,
        within: Option<&Bytes>,
        event: &mut RecordedEvent,
        before: Option<&Fields<'_>>,
    ) -> Result<Option<Fields<'r>>, RecordError> {
        if record.is_removed() {
            *event = self.tombstone(record)?;
            return Ok(None);
        }
        let fields = Fields::read(record)?;
        let RecordedEvent { position, stream, revision, recorded_at, occurred_at, part, data } = event;
        let EventData {
            id,
            event_type,
            version,
            content_type,
            payload,
            tags,
            metadata,
            correlation_id,
            causation_id,
            keys,
            stamp,
        } = data;
        (*position, *revision, *part) = (fields.position, fields.revision, fields.part);
        (*id, *version) = (fields.id, fields.version);
        (*correlation_id, *causation_id) = (fields.correlation_id, fields.causation_id);
        *recorded_at = self.time.get("recorded at", fields.recorded_at)?;
        *occurred_at = self.time.get("occurred at", fields.occurred_at)?;
        if stream.as_str().as_bytes() != fields.stream {
            *stream = self.stream(fields.stream)?;
        }
        if event_type.as_str().as_bytes() != fields.event_type {
            *event_type = self.types.get("event type", fields.event_type)?;
        }
        *content_type = fields.content_type()?;
        // A view is borrowed for a short time, so that a large payload may share the allocation as well.
        *payload =
            within.map_or_else(|| Bytes::copy_from_slice(fields.payload), |shared| shared.slice_ref(fields.payload));
        // The events of a commit often have the same tags and the same metadata.
        if before.is_none_or(|before| before.tags != fields.tags) {
            *tags = self.tags(&fields)?;
        }
        if before.is_none_or(|before| before.metadata != fields.metadata) {
            *metadata = fields.metadata()?;
        }
        if before.is_none_or(|before| before.extensions != fields.extensions) {
            (*keys, *stamp) = fields.keys_and_stamp()?;
        }
        Ok(Some(fields))
    }

    /// Decodes a record into `buffer`, over the event that it holds. `before` has the fields of that event, if they are
    /// known. Returns the event and the fields of its record, if they were read.
    ///
    /// # Errors
    /// As [`decode`](Self::decode). `buffer` may then hold a mix of both events.
    pub(crate) fn decode_into<'e, 'r>(
        &mut self,
        record: Checked<'r>,
        within: Option<&Bytes>,
        buffer: &'e mut Option<RecordedEvent>,
        before: Option<&Fields<'_>>,
    ) -> Result<(&'e RecordedEvent, Option<Fields<'r>>), RecordError> {
        match buffer {
            Some(event) => self.decode_over(record, within, event, before).map(|fields| (&*event, fields)),
            None => Ok((buffer.insert(self.decode_checked(record, within)?), None)),
        }
    }

    fn tombstone(&mut self, record: Checked<'_>) -> Result<RecordedEvent, RecordError> {
        let TombstoneFields { position, revision, id, recorded_at, part, stream } = TombstoneFields::read(record)?;
        let recorded_at = self.time.get("recorded at", recorded_at)?;
        Ok(RecordedEvent::removed(position, self.stream(stream)?, revision, id, recorded_at, part))
    }

    fn tags(&mut self, fields: &Fields<'_>) -> Result<Tags, RecordError> {
        let mut reader = FieldReader { record: fields.tags, at: 0 };
        let mut tags = Tags::new();
        for _ in 0..fields.tag_count {
            let length = reader.u16("length of a tag")?;
            let tag = self.tags.get("tag", reader.take("tag", usize::from(length))?)?;
            if tags.last().is_some_and(|last| *last >= tag) {
                return Err(RecordError::TagOrder { found: tag.as_str().to_owned() });
            }
            tags.insert(tag);
        }
        Ok(tags)
    }

    fn stream(&mut self, text: &[u8]) -> Result<StreamId, RecordError> {
        match &self.stream {
            Some(last) if last.as_str().as_bytes() == text => Ok(last.clone()),
            _ => Ok(self.stream.insert(self.streams.get("stream", text)?).clone()),
        }
    }
}
