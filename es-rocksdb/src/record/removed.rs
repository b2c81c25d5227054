//! The record of what stands in the place of a removed event: where it was, its id and its time, and nothing of its content.

use es_core::model::CommitPart;
use es_core::{EventId, RecordedEvent, StreamId};

use super::{CHECKED_FROM, Decoder, RecordError, Rest, short};

/// The version of such a record, its first byte.
pub(crate) const REMOVED_VERSION: u8 = 2;

/// The fixed part: name and length of each field, in order. The name of the stream follows.
pub(crate) const REMOVED: [(&str, usize); 9] = [
    ("record version", 1),
    ("crc32c", 4),
    ("position", 8),
    ("revision", 8),
    ("event id", 16),
    ("recorded at", 8),
    ("index in commit", 4),
    ("size of commit", 4),
    ("length of stream", 2),
];

/// The length of the fixed part.
pub(crate) const REMOVED_LEN: usize = start_of(REMOVED.len());
const _: () = assert!(REMOVED_LEN == 55);

/// Where position, revision and time of recording stand, which only the writer knows.
pub(super) const NUMBERED_AT: (usize, usize, usize) = (start_of(2), start_of(3), start_of(5));

/// Where a field begins.
const fn start_of(field: usize) -> usize {
    let (mut start, mut before) = (0, 0);
    while before < field {
        start += REMOVED[before].1;
        before += 1;
    }
    start
}

/// Writes such a record, which is not numbered yet, behind what `out` holds already.
pub(super) fn draft(stream: &StreamId, id: EventId, part: CommitPart, out: &mut Vec<u8>) -> Result<(), RecordError> {
    out.reserve(REMOVED_LEN + stream.as_str().len());
    out.push(REMOVED_VERSION);
    out.extend_from_slice(&[0; 4 + 8 + 8]);
    out.extend_from_slice(id.as_uuid().as_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&part.index.to_be_bytes());
    out.extend_from_slice(&part.size.to_be_bytes());
    out.extend_from_slice(&short("length of stream", stream.as_str().len())?);
    out.extend_from_slice(stream.as_str().as_bytes());
    Ok(())
}

/// Reads a record whose checksum was verified.
pub(super) fn decode(record: &[u8], decoder: &mut Decoder) -> Result<RecordedEvent, RecordError> {
    let mut rest = Rest { record, at: CHECKED_FROM };
    let position = super::position(rest.u64("position")?)?;
    let revision = super::revision(rest.u64("revision")?)?;
    let id = EventId::from_uuid(rest.uuid("event id")?);
    let recorded_at = decoder.time("recorded at", rest.i64("recorded at")?)?;
    let part = CommitPart { index: rest.u32("index in commit")?, size: rest.u32("size of commit")? };
    let length = rest.u16("length of stream")?;
    let stream = decoder.stream(rest.take("stream", usize::from(length))?)?;
    rest.end()?;
    Ok(RecordedEvent::removed(position, stream, revision, id, recorded_at, part))
}
