//! Encoding: [`draft`] encodes a record before the commit takes the writer lock, and [`number`] completes it in the
//! writer.

use es_core::model::{CommitPart, ContentType, Keys, Metadata, Stamp};
use es_core::{EventData, RecordedEvent, StreamId, retention};

use super::checked::checksum;
use super::error::RecordError;
use super::layout::{
    CHECKSUM_AT, CONTENT_JSON, CONTENT_MESSAGE_PACK, CONTENT_OTHER, FIXED_LEN, FLAG_CAUSATION, FLAG_CORRELATION,
    OCCURRED_AT, POSITION_AT, RECORD_VERSION, RECORDED_AT, REVISION_AT, TOMBSTONE_NUMBERS_AT, TOMBSTONE_VERSION,
};
use super::primitive::{length_u16, length_u32};
use super::{keys, stamp, tombstone};

/// Appends the draft of a record to `out`: an event without position, revision, times and checksum. [`number`]
/// completes it.
///
/// # Errors
/// [`RecordError`] if the record could not be decoded. `out` then ends with a part of a record and must not be used.
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
    if *event_type == retention::REMOVED {
        if stamp.is_some() {
            return Err(RecordError::StampedTombstone);
        }
        return tombstone::draft(stream, *id, part, out);
    }
    let metadata = encode_metadata(metadata)?;
    let stamp = stamp.as_deref();
    let extensions = stamp::length(stamp) + keys::length(keys);
    let flags = flag(correlation_id.is_some(), FLAG_CORRELATION) | flag(causation_id.is_some(), FLAG_CAUSATION);

    out.reserve(FIXED_LEN + 256 + metadata.len() + payload.len() + extensions);
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
    out.extend_from_slice(&length_u16("length of stream", stream.as_str().len())?);
    out.extend_from_slice(&length_u16("length of event type", event_type.as_str().len())?);
    out.extend_from_slice(&length_u16("number of tags", tags.len())?);
    out.extend_from_slice(&length_u32("length of metadata", metadata.len())?);
    out.extend_from_slice(&length_u32("length of payload", payload.len())?);
    out.extend_from_slice(&length_u32("length of extensions", extensions)?);

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
        out.extend_from_slice(&length_u16("length of a tag", tag.as_str().len())?);
        out.extend_from_slice(tag.as_str().as_bytes());
    }
    out.extend_from_slice(&metadata);
    out.extend_from_slice(payload);
    encode_keys_and_stamp(keys, stamp, out)
}

/// Appends the extensions to `out`: the stamp and the unique keys.
///
/// # Errors
/// [`RecordError`]: a key is too long, or a vector clock has too many origins.
pub(crate) fn encode_keys_and_stamp(keys: &Keys, stamp: Option<&Stamp>, out: &mut Vec<u8>) -> Result<(), RecordError> {
    stamp::encode(stamp, out)?;
    keys::encode(keys, out)
}

/// Completes a [`draft`] with the position, revision and times of the recorded event, and with the checksum.
pub(crate) fn number(draft: &mut [u8], event: &RecordedEvent) {
    let is_removed = draft.first() == Some(&TOMBSTONE_VERSION);
    let (position_at, revision_at, recorded_at) =
        if is_removed { TOMBSTONE_NUMBERS_AT } else { (POSITION_AT, REVISION_AT, RECORDED_AT) };
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

/// Appends the tombstone of a [removed](RecordedEvent::without_content) event to `out`.
///
/// # Errors
/// As [`draft`].
pub(crate) fn encode_tombstone(event: &RecordedEvent, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let start = out.len();
    tombstone::draft(&event.stream, event.data.id, event.part, out)?;
    number(out.get_mut(start..).unwrap_or_default(), event);
    Ok(())
}

/// Appends the record of a recorded event to `out`, with the two steps of a commit.
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

/// Returns the metadata as JSON. A value that cannot be decoded, such as one with too many levels, is an error.
pub(crate) fn encode_metadata(metadata: &Metadata) -> Result<Vec<u8>, RecordError> {
    if metadata.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::to_vec(metadata).map_err(|error| RecordError::Metadata(error.into()))
}
