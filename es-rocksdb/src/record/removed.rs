//! The record of what stands in the place of a removed event: where it was, its id and its time, and nothing of its content.

use es_core::{CommitPart, EventId, Position, RecordedEvent, Revision, StreamId};

use super::{CHECKED_FROM, CHECKSUM_AT, RecordError, Rest, checksum, short};

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
pub(crate) const REMOVED_LEN: usize = {
    let (mut sum, mut field) = (0, 0);
    while field < REMOVED.len() {
        sum += REMOVED[field].1;
        field += 1;
    }
    sum
};
const _: () = assert!(REMOVED_LEN == 55);

/// Writes the record behind what `out` holds already.
pub(super) fn encode(event: &RecordedEvent, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let start = out.len();
    out.reserve(REMOVED_LEN + event.stream.as_str().len());
    out.push(REMOVED_VERSION);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&event.position.get().to_be_bytes());
    out.extend_from_slice(&event.revision.get().to_be_bytes());
    out.extend_from_slice(event.id.as_uuid().as_bytes());
    out.extend_from_slice(&event.recorded_at.timestamp_micros().to_be_bytes());
    out.extend_from_slice(&event.part.index.to_be_bytes());
    out.extend_from_slice(&event.part.size.to_be_bytes());
    out.extend_from_slice(&short("length of stream", event.stream.as_str().len())?);
    out.extend_from_slice(event.stream.as_str().as_bytes());
    let checksum = checksum(out.get(start..).unwrap_or_default());
    if let Some(place) = out.get_mut(start + CHECKSUM_AT..start + CHECKED_FROM) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
    Ok(())
}

/// Reads a record whose checksum was verified.
pub(super) fn decode(
    record: &[u8],
    stream: impl FnOnce(&str) -> Result<StreamId, RecordError>,
) -> Result<RecordedEvent, RecordError> {
    let mut rest = Rest { record, at: CHECKED_FROM };
    let position = Position::new(rest.u64("position")?).ok_or(RecordError::PositionZero)?;
    let revision = Revision::new(rest.u64("revision")?);
    let id = EventId::from_uuid(rest.uuid("event id")?);
    let recorded_at = rest.time("recorded at")?;
    let part = CommitPart { index: rest.u32("index in commit")?, size: rest.u32("size of commit")? };
    let length = rest.u16("length of stream")?;
    let stream = stream(rest.text("stream", usize::from(length))?)?;
    rest.end()?;
    Ok(RecordedEvent::removed(position, stream, revision, id, recorded_at, part))
}
