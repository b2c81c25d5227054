//! The tombstone: the record of a removed event, with its position, stream, revision, id and time, without its content.

use es_core::model::CommitPart;
use es_core::{EventId, Position, Revision, StreamId};

use super::checked::Checked;
use super::error::RecordError;
use super::layout::{CHECKED_FROM, TOMBSTONE_LEN, TOMBSTONE_VERSION};
use super::primitive::{FieldReader, length_u16, position, revision};

/// Appends the draft of a tombstone to `out`.
pub(super) fn draft(stream: &StreamId, id: EventId, part: CommitPart, out: &mut Vec<u8>) -> Result<(), RecordError> {
    out.reserve(TOMBSTONE_LEN + stream.as_str().len());
    out.push(TOMBSTONE_VERSION);
    out.extend_from_slice(&[0; 4 + 8 + 8]);
    out.extend_from_slice(id.as_uuid().as_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&part.index.to_be_bytes());
    out.extend_from_slice(&part.size.to_be_bytes());
    out.extend_from_slice(&length_u16("length of stream", stream.as_str().len())?);
    out.extend_from_slice(stream.as_str().as_bytes());
    Ok(())
}

/// The fields of a tombstone. The stream is a slice of the record, not decoded yet.
pub(super) struct TombstoneFields<'a> {
    pub(super) position: Position,
    pub(super) revision: Revision,
    pub(super) id: EventId,
    /// Microseconds since the Unix epoch.
    pub(super) recorded_at: i64,
    pub(super) part: CommitPart,
    pub(super) stream: &'a [u8],
}

impl<'a> TombstoneFields<'a> {
    /// Reads the fields of a tombstone.
    ///
    /// # Errors
    /// [`RecordError`]: the length of the stream does not fit the record, or a number is out of range.
    pub(super) fn read(record: Checked<'a>) -> Result<Self, RecordError> {
        let mut reader = FieldReader { record: record.bytes(), at: CHECKED_FROM };
        let position = position(reader.u64("position")?)?;
        let revision = revision(reader.u64("revision")?)?;
        let id = EventId::from_uuid(reader.uuid("event id")?);
        let recorded_at = reader.i64("recorded at")?;
        let part = CommitPart { index: reader.u32("index in commit")?, size: reader.u32("size of commit")? };
        let length = reader.u16("length of stream")?;
        let stream = reader.take("stream", usize::from(length))?;
        reader.end()?;
        Ok(Self { position, revision, id, recorded_at, part, stream })
    }
}
