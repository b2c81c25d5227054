//! The record: how an event stands on disk. `docs/storage-format.md` draws it byte by byte.
//!
//! The checksum covers every other byte, and these include position, stream and revision: a record that was moved
//! under another key is found out by whoever reads it there.

// NOTE: by their paths, because tests/decoding takes in this file from elsewhere.
#[path = "record/keys.rs"]
pub(crate) mod keys;
#[path = "record/names.rs"]
mod names;
#[path = "record/removed.rs"]
pub(crate) mod removed;

use bytes::{Bytes, BytesMut};
use chrono::DateTime;
use es_core::model::Keys;
use es_core::model::{CommitPart, ContentType, CorrelationId, Metadata, NameError, Tag, Tags};
use es_core::{EventData, EventId, EventType, Position, RecordedEvent, Revision, StreamId, Timestamp, retention};
use uuid::Uuid;

use names::{Name, Names};
use removed::{REMOVED_LEN, REMOVED_VERSION};

/// The version of the record format, its first byte.
pub(crate) const RECORD_VERSION: u8 = 1;
/// Where the checksum stands; it covers what is before and what is behind it.
pub(crate) const CHECKSUM_AT: usize = 1;
/// Where that begins which is behind the checksum.
pub(crate) const CHECKED_FROM: usize = CHECKSUM_AT + 4;
/// Flag: the record has a correlation id.
pub(crate) const FLAG_CORRELATION: u8 = 0b01;
/// Flag: the record has a causation id.
pub(crate) const FLAG_CAUSATION: u8 = 0b10;
/// Content type codes; any other media type stands as a text under [`CONTENT_OTHER`].
pub(crate) const CONTENT_OTHER: u8 = 0;
pub(crate) const CONTENT_JSON: u8 = 1;
pub(crate) const CONTENT_MESSAGE_PACK: u8 = 2;
/// The length of the head of an extension: its tag and its length.
pub(crate) const EXTENSION_HEAD_LEN: usize = 2 + 4;

/// The fixed part of a record: name and length of each field, in order.
pub(crate) const FIXED: [(&str, usize); 18] = [
    ("record version", 1),
    ("crc32c", 4),
    ("flags", 1),
    ("position", 8),
    ("revision", 8),
    ("event id", 16),
    ("recorded at", 8),
    ("occurred at", 8),
    ("schema version", 4),
    ("index in commit", 4),
    ("size of commit", 4),
    ("content type", 1),
    ("length of stream", 2),
    ("length of event type", 2),
    ("number of tags", 2),
    ("length of metadata", 4),
    ("length of payload", 4),
    ("length of extensions", 4),
];

/// The length of the fixed part.
pub(crate) const FIXED_LEN: usize = {
    let (mut sum, mut field) = (0, 0);
    while field < FIXED.len() {
        sum += FIXED[field].1;
        field += 1;
    }
    sum
};
const _: () = assert!(FIXED_LEN == 85);
const _: () = assert!(CHECKED_FROM == FIXED[0].1 + FIXED[1].1);

/// The variable part of a record: name and length of each field, in order.
#[cfg(test)]
pub(crate) const VARIABLE: [(&str, &str); 8] = [
    ("correlation id", "16, if flag `0x01`"),
    ("causation id", "16, if flag `0x02`"),
    ("media type", "1 + n, if the content type is 0: length `u8`, text"),
    ("stream", "as said"),
    ("event type", "as said"),
    ("tags", "per tag 2 + n: length `u16`, text; ascending, none twice"),
    ("metadata", "as said: JSON object, empty for none"),
    ("payload", "as said"),
];

/// The bytes are no record of this version, or the event cannot be one. Whoever reads reports a damaged store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("expected a record of at least {expected} bytes, found {found}")]
    TooShort { expected: usize, found: usize },
    #[error("expected record version {RECORD_VERSION} or {REMOVED_VERSION}, found {found}")]
    Version { found: u8 },
    #[error("expected checksum {expected:08x}, found {found:08x}")]
    Checksum { expected: u32, found: u32 },
    #[error("expected {expected} bytes for the {field}, found {found} left")]
    Length { field: &'static str, expected: usize, found: usize },
    #[error("expected the end of the record, found {found} more bytes")]
    Trailing { found: usize },
    #[error("expected flags below 4, found {found}")]
    Flags { found: u8 },
    #[error("expected a position from 1, found 0")]
    PositionZero,
    #[error("expected a {field} below {max}, found that", max = u64::MAX)]
    NoNext { field: &'static str },
    #[error("expected a known content type code, found {found}")]
    ContentCode { found: u8 },
    #[error("expected UTF-8 in the {field}, found other bytes")]
    NotUtf8 { field: &'static str },
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("expected tags in ascending order, found {found:?} out of order")]
    TagOrder { found: String },
    #[error("expected a time in the {field}, found {found} microseconds")]
    Time { field: &'static str, found: i64 },
    #[error("expected metadata that can be read back, found: {0}")]
    Metadata(serde_json::Error),
    #[error("expected a claim (1) or a release (2) of a unique key, found code {found}")]
    KeyCode { found: u8 },
    #[error("expected the unique keys of an event once, found them twice")]
    KeysTwice,
    #[error("expected at most {max} in the {field}, found {found}")]
    TooLarge { field: &'static str, max: u64, found: usize },
    #[error("expected an event without a stamp, found one; this format does not keep stamps")]
    Stamped,
}

/// The places of the fields in [`FIXED`].
const FLAGS: usize = 2;
const POSITION: usize = 3;
const REVISION: usize = 4;
const EVENT_ID: usize = 5;
const RECORDED: usize = 6;
const OCCURRED: usize = 7;
const SCHEMA_VERSION: usize = 8;
const PART_INDEX: usize = 9;
const PART_SIZE: usize = 10;
const CONTENT: usize = 11;
const STREAM_LEN: usize = 12;
const TYPE_LEN: usize = 13;
const TAG_COUNT: usize = 14;
const METADATA_LEN: usize = 15;
const PAYLOAD_LEN: usize = 16;
const EXTENSIONS_LEN: usize = 17;

/// Where the fields stand that only the writer knows, in the order of [`FIXED`].
const POSITION_AT: usize = start_of(POSITION);
const REVISION_AT: usize = start_of(REVISION);
const RECORDED_AT: usize = start_of(RECORDED);
const OCCURRED_AT: usize = start_of(OCCURRED);

/// Where a field of the fixed part begins.
const fn start_of(field: usize) -> usize {
    let (mut start, mut before) = (0, 0);
    while before < field {
        start += FIXED[before].1;
        before += 1;
    }
    start
}

/// Writes the record of an event that is not numbered yet behind what `out` holds already. It is no record before
/// [`number`] has done the rest.
///
/// # Errors
/// [`RecordError`] for what could not be read back: `out` then has a part of a record; do not use it.
pub(crate) fn draft(
    stream: &StreamId,
    event: &EventData,
    part: CommitPart,
    out: &mut Vec<u8>,
) -> Result<(), RecordError> {
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
    } = event;
    if stamp.is_some() {
        return Err(RecordError::Stamped);
    }
    if *event_type == retention::REMOVED {
        return removed::draft(stream, *id, part, out);
    }
    let metadata = encode_metadata(metadata)?;
    let flags = flag(correlation_id.is_some(), FLAG_CORRELATION) | flag(causation_id.is_some(), FLAG_CAUSATION);

    out.reserve(FIXED_LEN + 256 + metadata.len() + payload.len());
    out.push(RECORD_VERSION);
    out.extend_from_slice(&[0; 4]);
    out.push(flags);
    out.extend_from_slice(&[0; 8 + 8]);
    out.extend_from_slice(id.as_uuid().as_bytes());
    out.extend_from_slice(&[0; 8 + 8]);
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(&part.index.to_be_bytes());
    out.extend_from_slice(&part.size.to_be_bytes());
    out.push(content_code(content_type));
    out.extend_from_slice(&short("length of stream", stream.as_str().len())?);
    out.extend_from_slice(&short("length of event type", event_type.as_str().len())?);
    out.extend_from_slice(&short("number of tags", tags.len())?);
    out.extend_from_slice(&long("length of metadata", metadata.len())?);
    out.extend_from_slice(&long("length of payload", payload.len())?);
    out.extend_from_slice(&long("length of extensions", keys::length(keys))?);

    if let Some(id) = *correlation_id {
        out.extend_from_slice(id.as_uuid().as_bytes());
    }
    if let Some(id) = *causation_id {
        out.extend_from_slice(id.as_uuid().as_bytes());
    }
    if let ContentType::Other(media_type) = content_type {
        let max = u64::from(u8::MAX);
        let length = u8::try_from(media_type.len()).map_err(|_| RecordError::TooLarge {
            field: "media type",
            max,
            found: media_type.len(),
        })?;
        out.push(length);
        out.extend_from_slice(media_type.as_bytes());
    }
    out.extend_from_slice(stream.as_str().as_bytes());
    out.extend_from_slice(event_type.as_str().as_bytes());
    for tag in tags {
        out.extend_from_slice(&short("length of a tag", tag.as_str().len())?);
        out.extend_from_slice(tag.as_str().as_bytes());
    }
    out.extend_from_slice(&metadata);
    out.extend_from_slice(payload);
    keys::encode(keys, out)
}

/// Makes the record of a recorded event of the [`draft`] of it: its numbers, its times, and the checksum over all.
pub(crate) fn number(draft: &mut [u8], event: &RecordedEvent) {
    let is_removed = draft.first() == Some(&REMOVED_VERSION);
    let (position_at, revision_at, recorded_at) =
        if is_removed { removed::NUMBERED_AT } else { (POSITION_AT, REVISION_AT, RECORDED_AT) };
    put(draft, position_at, &event.position.get().to_be_bytes());
    put(draft, revision_at, &event.revision.get().to_be_bytes());
    put(draft, recorded_at, &event.recorded_at.timestamp_micros().to_be_bytes());
    if !is_removed {
        put(draft, OCCURRED_AT, &event.occurred_at.timestamp_micros().to_be_bytes());
    }
    let checksum = checksum(draft);
    put(draft, CHECKSUM_AT, &checksum.to_be_bytes());
}

fn put(record: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = record.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Writes the record of what stands in the place of a [removed](RecordedEvent::without_content) event behind what `out` holds.
///
/// # Errors
/// [`RecordError`] for what could not be read back, as [`draft`].
pub(crate) fn encode_removed(event: &RecordedEvent, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let start = out.len();
    removed::draft(&event.stream, event.data.id, event.part, out)?;
    number(out.get_mut(start..).unwrap_or_default(), event);
    Ok(())
}

/// Writes the record of a recorded event, as the two steps of a commit do.
#[cfg(test)]
pub(crate) fn encode(event: &RecordedEvent, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let start = out.len();
    draft(&event.stream, &event.data, event.part, out)?;
    number(&mut out[start..], event);
    Ok(())
}

fn flag(is_set: bool, flag: u8) -> u8 {
    if is_set { flag } else { 0 }
}

fn content_code(content_type: &ContentType) -> u8 {
    match content_type {
        ContentType::Json => CONTENT_JSON,
        ContentType::MessagePack => CONTENT_MESSAGE_PACK,
        ContentType::Other(_) => CONTENT_OTHER,
    }
}

fn short(field: &'static str, length: usize) -> Result<[u8; 2], RecordError> {
    let too_large = |_| RecordError::TooLarge { field, max: u64::from(u16::MAX), found: length };
    u16::try_from(length).map(u16::to_be_bytes).map_err(too_large)
}

fn long(field: &'static str, length: usize) -> Result<[u8; 4], RecordError> {
    let too_large = |_| RecordError::TooLarge { field, max: u64::from(u32::MAX), found: length };
    u32::try_from(length).map(u32::to_be_bytes).map_err(too_large)
}

/// The metadata as JSON. It is read back here at once, because JSON that nests too deeply can be written but not read.
fn encode_metadata(metadata: &Metadata) -> Result<Vec<u8>, RecordError> {
    if metadata.is_empty() {
        return Ok(Vec::new());
    }
    let json = serde_json::to_vec(metadata).map_err(RecordError::Metadata)?;
    serde_json::from_slice::<Metadata>(&json).map_err(RecordError::Metadata)?;
    Ok(json)
}

/// CRC32C over the version byte and everything behind the checksum.
fn checksum(record: &[u8]) -> u32 {
    let before = crc32c::crc32c(record.get(..CHECKSUM_AT).unwrap_or_default());
    crc32c::crc32c_append(before, record.get(CHECKED_FROM..).unwrap_or_default())
}

/// Reads records one after the other, and keeps what makes the next one cheaper. Its events share names: let it not go on with
/// that while another thread has them, or both wait for each other at the counts of owners.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// The stream of the last record: often that of the next one, too.
    stream: Option<StreamId>,
    streams: Names<StreamId>,
    types: Names<EventType>,
    tags: Names<Tag>,
    /// The last time, as a count and as what it is: the events of a commit have the same, and a date takes long to work out.
    time: Option<(i64, Timestamp)>,
    payloads: Payloads,
}

/// Where payloads are copied to: many share one allocation.
#[derive(Debug, Default)]
struct Payloads {
    room: BytesMut,
    next: usize,
}

/// The size of the first allocation that payloads share, and of the largest. One payload that somebody keeps keeps so much
/// alive.
pub(crate) const SHARED_BYTES: (usize, usize) = (1024, 16 * 1024);

impl Payloads {
    /// A payload that stands in `within`, which is shared, or only in memory that is lent.
    fn take(&mut self, payload: &[u8], within: Option<&Bytes>) -> Bytes {
        if payload.len() > SHARED_BYTES.0 {
            return Bytes::copy_from_slice(payload);
        }
        if let Some(shared) = within {
            return shared.slice_ref(payload);
        }
        if self.room.capacity() < payload.len() {
            self.next = (self.next * 2).clamp(SHARED_BYTES.0, SHARED_BYTES.1);
            self.room = BytesMut::with_capacity(self.next);
        }
        self.room.extend_from_slice(payload);
        self.room.split().freeze()
    }
}

impl Decoder {
    /// One for the records of a stream.
    pub(crate) fn of_stream(stream: StreamId) -> Self {
        Self { stream: Some(stream), ..Self::default() }
    }

    /// The event of a record. RocksDB lends its bytes only as long as a read lasts, so that the payload is copied once.
    ///
    /// # Errors
    /// [`RecordError`] for anything that [`draft`] and [`number`] have not written as it is; but for extensions, which a later
    /// version may have written, and for another text of the same metadata, because a number may be written otherwise by a
    /// later version of its library.
    pub(crate) fn decode(&mut self, record: &[u8]) -> Result<RecordedEvent, RecordError> {
        self.decode_checked(Checked::new(record)?, None)
    }

    /// The event of a record that was checked before. Where its bytes stand `within` shared ones, its payload shares them.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub(crate) fn decode_checked(
        &mut self,
        record: Checked<'_>,
        within: Option<&Bytes>,
    ) -> Result<RecordedEvent, RecordError> {
        if record.is_removed() {
            return removed::decode(record.0, self);
        }
        let fields = Fields::read(record)?;
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
            keys: fields.keys()?,
            stamp: None,
        };
        Ok(RecordedEvent {
            position: fields.position,
            stream: self.stream(fields.stream)?,
            revision: fields.revision,
            recorded_at: self.time("recorded at", fields.recorded_at)?,
            occurred_at: self.time("occurred at", fields.occurred_at)?,
            part: fields.part,
            data,
        })
    }

    /// Decodes a record into `event`, which holds the event of another record, and keeps what both have in common: that costs less
    /// than a new event. `before` has the fields of the other record, if they are known. Returns the fields of this record; `None`
    /// for a tombstone.
    ///
    /// # Errors
    /// As [`decode`](Self::decode). `event` may then be a mix of both events.
    pub(crate) fn decode_over<'r>(
        &mut self,
        record: Checked<'r>,
        within: Option<&Bytes>,
        event: &mut RecordedEvent,
        before: Option<&Fields<'_>>,
    ) -> Result<Option<Fields<'r>>, RecordError> {
        if record.is_removed() {
            *event = removed::decode(record.0, self)?;
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
        (*id, *version, *stamp) = (fields.id, fields.version, None);
        (*correlation_id, *causation_id) = (fields.correlation_id, fields.causation_id);
        *recorded_at = self.time("recorded at", fields.recorded_at)?;
        *occurred_at = self.time("occurred at", fields.occurred_at)?;
        if stream.as_str().as_bytes() != fields.stream {
            *stream = self.stream(fields.stream)?;
        }
        if event_type.as_str().as_bytes() != fields.event_type {
            *event_type = self.types.get("event type", fields.event_type)?;
        }
        *content_type = fields.content_type()?;
        // A view is borrowed, so that also a large payload does not keep its piece for long.
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
            *keys = fields.keys()?;
        }
        Ok(Some(fields))
    }

    /// Decodes a record into `buffer`, over the event that it holds, and lends the event.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub(crate) fn decode_into<'e>(
        &mut self,
        record: &[u8],
        buffer: &'e mut Option<RecordedEvent>,
    ) -> Result<&'e RecordedEvent, RecordError> {
        let record = Checked::new(record)?;
        match buffer {
            Some(event) => self.decode_over(record, None, event, None).map(|_| &*event),
            None => Ok(buffer.insert(self.decode_checked(record, None)?)),
        }
    }

    fn tags(&mut self, fields: &Fields<'_>) -> Result<Tags, RecordError> {
        Rest { record: fields.tags, at: 0 }.tags(fields.tag_count, &mut self.tags)
    }

    fn stream(&mut self, text: &[u8]) -> Result<StreamId, RecordError> {
        match &self.stream {
            Some(last) if last.as_str().as_bytes() == text => Ok(last.clone()),
            _ => Ok(self.stream.insert(self.streams.get("stream", text)?).clone()),
        }
    }

    fn time(&mut self, field: &'static str, micros: i64) -> Result<Timestamp, RecordError> {
        match self.time {
            Some((last, time)) if last == micros => Ok(time),
            _ => {
                let time = DateTime::from_timestamp_micros(micros).ok_or(RecordError::Time { field, found: micros })?;
                self.time = Some((micros, time));
                Ok(time)
            }
        }
    }
}

/// The fields of a record as its bytes have them. Names, content type, metadata and extensions are not decoded.
pub(crate) struct Fields<'a> {
    position: Position,
    revision: Revision,
    id: EventId,
    recorded_at: i64,
    occurred_at: i64,
    version: u32,
    part: CommitPart,
    content_code: u8,
    media_type: &'a [u8],
    correlation_id: Option<CorrelationId>,
    causation_id: Option<EventId>,
    stream: &'a [u8],
    event_type: &'a [u8],
    tag_count: u16,
    tags: &'a [u8],
    metadata: &'a [u8],
    payload: &'a [u8],
    extensions: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Reads the record of an event that was not removed.
    fn read(record: Checked<'a>) -> Result<Self, RecordError> {
        let Some(fixed) = record.0.first_chunk::<FIXED_LEN>() else {
            return Err(RecordError::TooShort { expected: FIXED_LEN, found: record.0.len() });
        };
        let [flags] = field::<FLAGS, 1>(fixed);
        if flags & !(FLAG_CORRELATION | FLAG_CAUSATION) != 0 {
            return Err(RecordError::Flags { found: flags });
        }
        let [content_code] = field::<CONTENT, 1>(fixed);
        let [stream_len, type_len, tag_count] =
            [field::<STREAM_LEN, 2>(fixed), field::<TYPE_LEN, 2>(fixed), field::<TAG_COUNT, 2>(fixed)]
                .map(u16::from_be_bytes);
        let metadata_len = length(field::<METADATA_LEN, 4>(fixed))?;
        let payload_len = length(field::<PAYLOAD_LEN, 4>(fixed))?;
        let extensions_len = length(field::<EXTENSIONS_LEN, 4>(fixed))?;

        let mut rest = Rest { record: record.0, at: FIXED_LEN };
        let correlation_id =
            (flags & FLAG_CORRELATION != 0).then(|| rest.uuid("correlation id")).transpose()?.map(CorrelationId::from);
        let causation_id =
            (flags & FLAG_CAUSATION != 0).then(|| rest.uuid("causation id")).transpose()?.map(EventId::from);
        let media_type = rest.media_type(content_code)?;
        let stream = rest.take("stream", usize::from(stream_len))?;
        let event_type = rest.take("event type", usize::from(type_len))?;
        let tags = rest.take_tags(tag_count)?;
        let metadata = rest.take("metadata", metadata_len)?;
        let payload = rest.take("payload", payload_len)?;
        let extensions = rest.take("extensions", extensions_len)?;
        rest.end()?;
        Ok(Self {
            position: position(u64::from_be_bytes(field::<POSITION, 8>(fixed)))?,
            revision: revision(u64::from_be_bytes(field::<REVISION, 8>(fixed)))?,
            id: EventId::from_uuid(Uuid::from_bytes(field::<EVENT_ID, 16>(fixed))),
            recorded_at: i64::from_be_bytes(field::<RECORDED, 8>(fixed)),
            occurred_at: i64::from_be_bytes(field::<OCCURRED, 8>(fixed)),
            version: u32::from_be_bytes(field::<SCHEMA_VERSION, 4>(fixed)),
            part: CommitPart {
                index: u32::from_be_bytes(field::<PART_INDEX, 4>(fixed)),
                size: u32::from_be_bytes(field::<PART_SIZE, 4>(fixed)),
            },
            content_code,
            media_type,
            correlation_id,
            causation_id,
            stream,
            event_type,
            tag_count,
            tags,
            metadata,
            payload,
            extensions,
        })
    }

    fn content_type(&self) -> Result<ContentType, RecordError> {
        match self.content_code {
            CONTENT_JSON => Ok(ContentType::Json),
            CONTENT_MESSAGE_PACK => Ok(ContentType::MessagePack),
            _ => std::str::from_utf8(self.media_type)
                .map(|text| ContentType::Other(text.into()))
                .map_err(|_| RecordError::NotUtf8 { field: "media type" }),
        }
    }

    fn metadata(&self) -> Result<Metadata, RecordError> {
        match self.metadata {
            [] => Ok(Metadata::new()),
            json => serde_json::from_slice(json).map_err(RecordError::Metadata),
        }
    }

    fn keys(&self) -> Result<Keys, RecordError> {
        Rest { record: self.extensions, at: 0 }.extensions()
    }
}

/// A record of which that was checked which every record has, before anything else in it is believed: its least length, its
/// version, its checksum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checked<'a>(&'a [u8]);

impl<'a> Checked<'a> {
    /// Checks a record.
    ///
    /// # Errors
    /// [`RecordError`]: these bytes are none, or are not as they were written.
    pub(crate) fn new(record: &'a [u8]) -> Result<Self, RecordError> {
        let least = if record.first() == Some(&REMOVED_VERSION) { REMOVED_LEN } else { FIXED_LEN };
        let (Some(&version), true) = (record.first(), record.len() >= least) else {
            return Err(RecordError::TooShort { expected: least, found: record.len() });
        };
        if version != RECORD_VERSION && version != REMOVED_VERSION {
            return Err(RecordError::Version { found: version });
        }
        let expected = Rest { record, at: CHECKSUM_AT }.u32("crc32c")?;
        let found = checksum(record);
        if expected != found {
            return Err(RecordError::Checksum { expected, found });
        }
        Ok(Self(record))
    }

    /// The same record, elsewhere in memory: `copy` has its bytes.
    pub(crate) const fn copied(copy: &'a [u8]) -> Self {
        Self(copy)
    }

    /// Its bytes.
    pub(crate) const fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Returns the position of the event.
    ///
    /// # Errors
    /// [`RecordError::PositionZero`], [`RecordError::NoNext`]: no event can have the position.
    pub(crate) fn position(self) -> Result<Position, RecordError> {
        let at = if self.is_removed() { removed::NUMBERED_AT.0 } else { POSITION_AT };
        position(Rest { record: self.0, at }.u64("position")?)
    }

    /// Whether it stands in the place of an event that was removed.
    pub(crate) fn is_removed(self) -> bool {
        self.0.first() == Some(&REMOVED_VERSION)
    }
}

/// A field of the fixed part, by its place in [`FIXED`]. That it is as long as said there is checked where this is compiled.
fn field<const FIELD: usize, const LEN: usize>(fixed: &[u8; FIXED_LEN]) -> [u8; LEN] {
    const { assert!(FIXED[FIELD].1 == LEN) };
    let start = const { start_of(FIELD) };
    let mut bytes = [0; LEN];
    bytes.copy_from_slice(&fixed[start..start + LEN]);
    bytes
}

/// A position that an event can have.
fn position(number: u64) -> Result<Position, RecordError> {
    match number {
        u64::MAX => Err(RecordError::NoNext { field: "position" }),
        number => Position::new(number).ok_or(RecordError::PositionZero),
    }
}

/// A revision that an event can have.
fn revision(number: u64) -> Result<Revision, RecordError> {
    match number {
        u64::MAX => Err(RecordError::NoNext { field: "revision" }),
        number => Ok(Revision::new(number)),
    }
}

fn length(bytes: [u8; 4]) -> Result<usize, RecordError> {
    let length = u32::from_be_bytes(bytes);
    usize::try_from(length).map_err(|_| RecordError::Length { field: "record", expected: usize::MAX, found: 0 })
}

/// What is left of a record while it is read. Every length is bounded by it.
struct Rest<'a> {
    record: &'a [u8],
    at: usize,
}

impl<'a> Rest<'a> {
    fn take(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], RecordError> {
        let left = self.record.get(self.at..).unwrap_or_default();
        let Some(taken) = left.get(..length) else {
            return Err(RecordError::Length { field, expected: length, found: left.len() });
        };
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], RecordError> {
        let taken = self.take(field, N)?;
        taken.try_into().map_err(|_| RecordError::Length { field, expected: N, found: taken.len() })
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, RecordError> {
        self.array(field).map(u8::from_be_bytes)
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, RecordError> {
        self.array(field).map(u16::from_be_bytes)
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, RecordError> {
        self.array(field).map(u32::from_be_bytes)
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, RecordError> {
        self.array(field).map(u64::from_be_bytes)
    }

    fn length(&mut self, field: &'static str) -> Result<usize, RecordError> {
        length(self.array(field)?)
    }

    fn uuid(&mut self, field: &'static str) -> Result<Uuid, RecordError> {
        self.array(field).map(Uuid::from_bytes)
    }

    fn i64(&mut self, field: &'static str) -> Result<i64, RecordError> {
        self.array(field).map(i64::from_be_bytes)
    }

    fn text(&mut self, field: &'static str, length: usize) -> Result<&'a str, RecordError> {
        std::str::from_utf8(self.take(field, length)?).map_err(|_| RecordError::NotUtf8 { field })
    }

    fn name<N: Name>(&mut self, field: &'static str, length: usize, names: &mut Names<N>) -> Result<N, RecordError> {
        names.get(field, self.take(field, length)?)
    }

    /// Takes the text of a content type, which is empty for those that have a code of their own.
    fn media_type(&mut self, code: u8) -> Result<&'a [u8], RecordError> {
        match code {
            CONTENT_JSON | CONTENT_MESSAGE_PACK => Ok(&[]),
            CONTENT_OTHER => {
                let length = self.u8("media type")?;
                self.take("media type", usize::from(length))
            }
            found => Err(RecordError::ContentCode { found }),
        }
    }

    /// Takes the bytes of so many tags.
    fn take_tags(&mut self, count: u16) -> Result<&'a [u8], RecordError> {
        let start = self.at;
        for _ in 0..count {
            let length = self.u16("length of a tag")?;
            self.take("tag", usize::from(length))?;
        }
        Ok(self.record.get(start..self.at).unwrap_or_default())
    }

    fn tags(&mut self, count: u16, names: &mut Names<Tag>) -> Result<Tags, RecordError> {
        let mut tags = Tags::new();
        for _ in 0..count {
            let length = self.u16("length of a tag")?;
            let tag = self.name("tag", usize::from(length), names)?;
            if tags.last().is_some_and(|last| *last >= tag) {
                return Err(RecordError::TagOrder { found: tag.as_str().to_owned() });
            }
            tags.insert(tag);
        }
        Ok(tags)
    }

    /// Reads the unique keys from the extensions. Skips the extensions that this version does not know, by their lengths.
    fn extensions(&mut self) -> Result<Keys, RecordError> {
        let mut keys = None;
        while self.at < self.record.len() {
            let tag = self.u16("tag of an extension")?;
            let length = self.length("length of an extension")?;
            let value = self.take("extension", length)?;
            if tag == keys::TAG && keys.replace(keys::decode(value)?).is_some() {
                return Err(RecordError::KeysTwice);
            }
        }
        Ok(keys.unwrap_or_default())
    }

    fn end(&self) -> Result<(), RecordError> {
        match self.record.len() - self.at {
            0 => Ok(()),
            found => Err(RecordError::Trailing { found }),
        }
    }
}

#[cfg(test)]
// NOTE: by its path, because tests/decoding takes in this file from elsewhere.
#[path = "record/tests.rs"]
mod tests;
