//! [`EventFields`]: the fields of an event record.

use es_core::model::{CommitPart, ContentType, CorrelationId};
use es_core::{EventId, Revision};
use uuid::Uuid;

use super::codec::{Cursor, put_varint};
use super::{RecordError, put_time, revision, time};

pub(crate) const FLAG_OCCURRED: u8 = 0x01;
pub(crate) const FLAG_PART: u8 = 0x02;
pub(crate) const FLAG_VERSION: u8 = 0x04;
pub(crate) const FLAG_CORRELATION: u8 = 0x08;
pub(crate) const FLAG_CAUSATION: u8 = 0x10;
pub(crate) const FLAG_CONTENT: u8 = 0x20;
pub(crate) const FLAG_METADATA: u8 = 0x40;
pub(crate) const FLAG_EXTENSIONS: u8 = 0x80;

pub(crate) const CONTENT_OTHER: u8 = 0;
pub(crate) const CONTENT_JSON: u8 = 1;
pub(crate) const CONTENT_MESSAGE_PACK: u8 = 2;

/// The part of an event that is a commit of its own.
const WHOLE: CommitPart = CommitPart { index: 0, size: 1 };

/// The fields of an event, borrowed from a record or from the event that is to be written.
///
/// The log does not interpret names, metadata and extensions. The store checks that names are UTF-8, and their other
/// rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventFields<'a> {
    /// The name of the stream.
    pub stream: &'a [u8],
    /// The revision in the stream.
    pub revision: Revision,
    /// The event id.
    pub id: EventId,
    /// The time at which the event was recorded, in microseconds since 1970 in UTC.
    pub recorded_at: i64,
    /// The time at which the event happened, in microseconds since 1970 in UTC.
    pub occurred_at: i64,
    /// The index of the event in its commit.
    pub part: CommitPart,
    /// The wire name of the event type.
    pub event_type: &'a [u8],
    /// The schema version of the payload.
    pub version: u32,
    /// The encoding of the payload.
    pub content_type: ContentCode<'a>,
    /// The correlation id.
    pub correlation_id: Option<CorrelationId>,
    /// The id of the event that caused this one.
    pub causation_id: Option<EventId>,
    /// The tags.
    pub tags: TagTexts<'a>,
    /// The metadata as JSON; empty for none.
    pub metadata: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
    /// The extensions, such as the replication stamp; empty for none.
    pub extensions: &'a [u8],
}

/// A content type as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentCode<'a> {
    /// `application/json`.
    Json,
    /// `application/msgpack`.
    MessagePack,
    /// Another media type.
    Other(&'a str),
}

impl<'a> From<&'a ContentType> for ContentCode<'a> {
    fn from(content_type: &'a ContentType) -> Self {
        match content_type {
            ContentType::Json => Self::Json,
            ContentType::MessagePack => Self::MessagePack,
            ContentType::Other(media_type) => Self::Other(media_type),
        }
    }
}

/// Tags as they are stored: per tag its length as a varint, and its text, in ascending order without duplicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TagTexts<'a> {
    count: usize,
    encoded: &'a [u8],
}

impl<'a> TagTexts<'a> {
    /// Encodes tags into `buffer`, which is cleared before.
    ///
    /// # Errors
    /// [`RecordError::TagOrder`] if the tags are not in ascending order.
    pub fn encode_into<'t>(
        tags: impl IntoIterator<Item = &'t [u8]>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Self, RecordError> {
        buffer.clear();
        let (mut count, mut last) = (0, None);
        for tag in tags {
            if last.replace(tag).is_some_and(|last| last >= tag) {
                return Err(tag_order(tag));
            }
            put_varint(buffer, tag.len() as u64);
            buffer.extend_from_slice(tag);
            count += 1;
        }
        Ok(Self { count, encoded: buffer })
    }

    /// Returns the number of tags.
    #[must_use]
    pub const fn len(self) -> usize {
        self.count
    }

    /// Returns whether there is no tag.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.count == 0
    }

    /// Returns the tags in ascending order.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let mut cursor = Cursor::new(self.encoded);
        // The encoding was verified when it was decoded.
        (0..self.count).map_while(move |_| next_tag(&mut cursor).ok())
    }

    /// Takes `count` tags and verifies them.
    #[inline]
    fn decode(cursor: &mut Cursor<'a>, count: usize) -> Result<Self, RecordError> {
        let all = cursor.rest();
        let mut last = None;
        for _ in 0..count {
            let tag = next_tag(cursor)?;
            if last.replace(tag).is_some_and(|last| last >= tag) {
                return Err(tag_order(tag));
            }
        }
        let length = all.len() - cursor.rest().len();
        Ok(Self { count, encoded: all.get(..length).unwrap_or_default() })
    }
}

#[inline]
fn next_tag<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], RecordError> {
    let length = cursor.length("length of a tag")?;
    cursor.take("tag", length)
}

fn tag_order(tag: &[u8]) -> RecordError {
    RecordError::TagOrder { found: String::from_utf8_lossy(tag).into_owned() }
}

impl<'a> EventFields<'a> {
    /// No event: to decode one over it.
    pub(crate) const EMPTY: Self = Self {
        stream: b"",
        revision: Revision::FIRST,
        id: EventId::from_uuid(Uuid::nil()),
        recorded_at: 0,
        occurred_at: 0,
        part: WHOLE,
        event_type: b"",
        version: 1,
        content_type: ContentCode::Json,
        correlation_id: None,
        causation_id: None,
        tags: TagTexts { count: 0, encoded: b"" },
        metadata: b"",
        payload: b"",
        extensions: b"",
    };

    /// Returns the flags: one for each field that does not have its default value.
    #[inline]
    pub(super) fn flags(&self) -> u8 {
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        flag(self.occurred_at != self.recorded_at, FLAG_OCCURRED)
            | flag(self.part != WHOLE, FLAG_PART)
            | flag(self.version != 1, FLAG_VERSION)
            | flag(self.correlation_id.is_some(), FLAG_CORRELATION)
            | flag(self.causation_id.is_some(), FLAG_CAUSATION)
            | flag(self.content_type != ContentCode::Json, FLAG_CONTENT)
            | flag(!self.metadata.is_empty(), FLAG_METADATA)
            | flag(!self.extensions.is_empty(), FLAG_EXTENSIONS)
    }

    pub(super) fn encode(&self, base_time: i64, out: &mut Vec<u8>) -> Result<(), RecordError> {
        if self.revision.get() == u64::MAX {
            return Err(RecordError::Number { field: "revision" });
        }
        out.reserve(128 + self.metadata.len() + self.payload.len() + self.extensions.len());
        put_varint(out, self.revision.get());
        put_time(out, "recorded at", self.recorded_at, base_time)?;
        out.extend_from_slice(self.id.as_uuid().as_bytes());
        if self.occurred_at != self.recorded_at {
            put_time(out, "occurred at", self.occurred_at, self.recorded_at)?;
        }
        if self.part != WHOLE {
            put_varint(out, self.part.index.into());
            put_varint(out, self.part.size.into());
        }
        if self.version != 1 {
            put_varint(out, self.version.into());
        }
        if let Some(id) = self.correlation_id {
            out.extend_from_slice(id.as_uuid().as_bytes());
        }
        if let Some(id) = self.causation_id {
            out.extend_from_slice(id.as_uuid().as_bytes());
        }
        match self.content_type {
            ContentCode::Json => {}
            ContentCode::MessagePack => out.push(CONTENT_MESSAGE_PACK),
            ContentCode::Other(text) => {
                out.push(CONTENT_OTHER);
                put_varint(out, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
        }
        put_varint(out, self.stream.len() as u64);
        put_varint(out, self.event_type.len() as u64);
        put_varint(out, self.tags.count as u64);
        if !self.metadata.is_empty() {
            put_varint(out, self.metadata.len() as u64);
        }
        if !self.extensions.is_empty() {
            put_varint(out, self.extensions.len() as u64);
        }
        for part in [self.stream, self.event_type, self.tags.encoded, self.metadata, self.payload, self.extensions] {
            out.extend_from_slice(part);
        }
        Ok(())
    }

    /// Decodes an event over another one, because moving its fields would take as long as decoding them. After an
    /// error, `self` has fields of both.
    #[inline]
    pub(super) fn decode_over(&mut self, mut cursor: Cursor<'a>, flags: u8, base_time: i64) -> Result<(), RecordError> {
        let has = |flag| flags & flag != 0;
        self.revision = revision(&mut cursor)?;
        self.recorded_at = time(&mut cursor, "recorded at", base_time)?;
        self.id = EventId::from_uuid(Uuid::from_bytes(cursor.array("event id")?));
        self.occurred_at =
            if has(FLAG_OCCURRED) { time(&mut cursor, "occurred at", self.recorded_at)? } else { self.recorded_at };
        self.part = if has(FLAG_PART) {
            CommitPart { index: cursor.u32("index in the commit")?, size: cursor.u32("size of the commit")? }
        } else {
            WHOLE
        };
        self.version = if has(FLAG_VERSION) { cursor.u32("schema version")? } else { 1 };
        let correlation_id = has(FLAG_CORRELATION).then(|| cursor.array("correlation id")).transpose()?;
        self.correlation_id = correlation_id.map(|id| CorrelationId::from_uuid(Uuid::from_bytes(id)));
        let causation_id = has(FLAG_CAUSATION).then(|| cursor.array("causation id")).transpose()?;
        self.causation_id = causation_id.map(|id| EventId::from_uuid(Uuid::from_bytes(id)));
        self.content_type = if has(FLAG_CONTENT) { content_type(&mut cursor)? } else { ContentCode::Json };
        let (stream, event_type) = (cursor.length("length of stream")?, cursor.length("length of type")?);
        let tag_count = cursor.length("number of tags")?;
        let metadata = if has(FLAG_METADATA) { cursor.length("length of metadata")? } else { 0 };
        let extensions = if has(FLAG_EXTENSIONS) { cursor.length("length of extensions")? } else { 0 };
        self.stream = cursor.take("stream", stream)?;
        self.event_type = cursor.take("type", event_type)?;
        self.tags = TagTexts::decode(&mut cursor, tag_count)?;
        self.metadata = cursor.take("metadata", metadata)?;
        let rest = cursor.rest();
        let Some(payload) = rest.len().checked_sub(extensions) else {
            return Err(RecordError::Length { field: "extensions", expected: extensions, found: rest.len() });
        };
        (self.payload, self.extensions) = rest.split_at(payload);
        // A field with its default value has no flag, so that an event has one encoding.
        if self.flags() == flags { Ok(()) } else { Err(RecordError::Redundant { field: "flagged field" }) }
    }
}

fn content_type<'a>(cursor: &mut Cursor<'a>) -> Result<ContentCode<'a>, RecordError> {
    match cursor.byte("content type")? {
        CONTENT_OTHER => {
            let length = cursor.length("length of the media type")?;
            cursor.text("media type", length).map(ContentCode::Other)
        }
        CONTENT_MESSAGE_PACK => Ok(ContentCode::MessagePack),
        CONTENT_JSON => Err(RecordError::Redundant { field: "content type" }),
        found => Err(RecordError::ContentCode { found }),
    }
}
