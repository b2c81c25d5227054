//! [`Fields`]: the fields of a record as slices.

use es_core::model::{CommitPart, ContentType, CorrelationId, Keys, Metadata, Stamp};
use es_core::{EventId, Position, Revision};
use uuid::Uuid;

use super::checked::Checked;
use super::error::RecordError;
use super::extensions::Extensions;
use super::layout::{
    CONTENT, CONTENT_JSON, CONTENT_MESSAGE_PACK, CONTENT_OTHER, EVENT_ID, EXTENSIONS_LEN, FIXED_LEN, FLAG_CAUSATION,
    FLAG_CORRELATION, FLAGS, METADATA_LEN, OCCURRED, PART_INDEX, PART_SIZE, PAYLOAD_LEN, POSITION, RECORDED, REVISION,
    SCHEMA_VERSION, STREAM_LEN, TAG_COUNT, TYPE_LEN, field,
};
use super::primitive::{FieldReader, length, position, revision};
use super::{keys, stamp};

/// The fields of a record. Names, tags, media type, metadata and extensions are slices of the record, not decoded yet.
pub(crate) struct Fields<'a> {
    pub(super) position: Position,
    pub(super) revision: Revision,
    pub(super) id: EventId,
    pub(super) recorded_at: i64,
    pub(super) occurred_at: i64,
    pub(super) version: u32,
    pub(super) part: CommitPart,
    content_code: u8,
    media_type: &'a [u8],
    pub(super) correlation_id: Option<CorrelationId>,
    pub(super) causation_id: Option<EventId>,
    pub(super) stream: &'a [u8],
    pub(super) event_type: &'a [u8],
    pub(super) tag_count: u16,
    pub(super) tags: &'a [u8],
    pub(super) metadata: &'a [u8],
    pub(super) payload: &'a [u8],
    pub(super) extensions: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Reads the fields of a record that is not a tombstone.
    ///
    /// # Errors
    /// [`RecordError`]: the lengths do not fit the record, or a number is out of range.
    pub(super) fn read(record: Checked<'a>) -> Result<Self, RecordError> {
        let Some(fixed) = record.bytes().first_chunk::<FIXED_LEN>() else {
            return Err(RecordError::TooShort { expected: FIXED_LEN, found: record.bytes().len() });
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

        let mut reader = FieldReader { record: record.bytes(), at: FIXED_LEN };
        let correlation_id = (flags & FLAG_CORRELATION != 0)
            .then(|| reader.uuid("correlation id"))
            .transpose()?
            .map(CorrelationId::from);
        let causation_id =
            (flags & FLAG_CAUSATION != 0).then(|| reader.uuid("causation id")).transpose()?.map(EventId::from);
        let media_type = take_media_type(&mut reader, content_code)?;
        let stream = reader.take("stream", usize::from(stream_len))?;
        let event_type = reader.take("event type", usize::from(type_len))?;
        let tags = take_tags(&mut reader, tag_count)?;
        let metadata = reader.take("metadata", metadata_len)?;
        let payload = reader.take("payload", payload_len)?;
        let extensions = reader.take("extensions", extensions_len)?;
        reader.end()?;
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

    pub(super) fn content_type(&self) -> Result<ContentType, RecordError> {
        match self.content_code {
            CONTENT_JSON => Ok(ContentType::Json),
            CONTENT_MESSAGE_PACK => Ok(ContentType::MessagePack),
            _ => std::str::from_utf8(self.media_type)
                .map(|text| ContentType::Other(text.into()))
                .map_err(|_| RecordError::NotUtf8 { field: "media type" }),
        }
    }

    pub(super) fn metadata(&self) -> Result<Metadata, RecordError> {
        decode_metadata(self.metadata)
    }

    pub(super) fn keys_and_stamp(&self) -> Result<(Keys, Option<Box<Stamp>>), RecordError> {
        decode_keys_and_stamp(self.extensions)
    }
}

/// Decodes metadata: JSON, or no bytes for none.
///
/// # Errors
/// [`RecordError::NotUtf8`], [`RecordError::Metadata`].
pub(crate) fn decode_metadata(json: &[u8]) -> Result<Metadata, RecordError> {
    if json.is_empty() {
        return Ok(Metadata::new());
    }
    let json = std::str::from_utf8(json).map_err(|_| RecordError::NotUtf8 { field: "metadata" })?;
    json.parse().map_err(RecordError::Metadata)
}

/// Decodes the unique keys and the stamp from the extensions.
///
/// # Errors
/// [`RecordError`]: the bytes are not extensions.
pub(crate) fn decode_keys_and_stamp(extensions: &[u8]) -> Result<(Keys, Option<Box<Stamp>>), RecordError> {
    if extensions.is_empty() {
        return Ok((Keys::default(), None));
    }
    let extensions = Extensions::read(extensions)?;
    let keys = extensions.keys.map(keys::decode).transpose()?.unwrap_or_default();
    Ok((keys, stamp::decode(&extensions)?.map(Box::new)))
}

/// Reads the media type; empty for a content type with its own code.
fn take_media_type<'a>(reader: &mut FieldReader<'a>, code: u8) -> Result<&'a [u8], RecordError> {
    match code {
        CONTENT_JSON | CONTENT_MESSAGE_PACK => Ok(&[]),
        CONTENT_OTHER => {
            let length = reader.u8("media type")?;
            reader.take("media type", usize::from(length))
        }
        found => Err(RecordError::ContentCode { found }),
    }
}

/// Returns the bytes of `count` tags.
fn take_tags<'a>(reader: &mut FieldReader<'a>, count: u16) -> Result<&'a [u8], RecordError> {
    let start = reader.at;
    for _ in 0..count {
        let length = reader.u16("length of a tag")?;
        reader.take("tag", usize::from(length))?;
    }
    Ok(reader.record.get(start..reader.at).unwrap_or_default())
}
