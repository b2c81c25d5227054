//! Records: events, tombstones, changes of rows and keys, and opaque bytes.
//!
//! Decoding borrows from the bytes, allocates nothing and never panics. A value has one encoding: a decoded record is
//! encoded as the same bytes.

mod codec;
mod error;
mod event;

use es_core::model::CommitPart;
use es_core::{EventId, Position, Revision};
use uuid::Uuid;

pub use error::RecordError;
pub use event::{ContentCode, EventFields, TagTexts};

use crate::layout::RECORD_HEAD_LEN;
use codec::{Cursor, put_signed, put_varint};

pub(crate) const KIND_EVENT: u8 = 1;
pub(crate) const KIND_TOMBSTONE: u8 = 2;
pub(crate) const KIND_ROW: u8 = 3;
pub(crate) const KIND_KEY: u8 = 4;
pub(crate) const KIND_OPAQUE: u8 = 5;

/// The flag of a row or a key that is deleted.
const FLAG_DELETED: u8 = 0x01;
/// The length of a record is below this number, so that it differs from the magic of a frame.
pub(crate) const MAX_RECORD_LEN: usize = 1 << 30;

/// The content of a record, borrowed from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// An event.
    Event(EventFields<'a>),
    /// The tombstone of a removed event.
    Tombstone(TombstoneFields<'a>),
    /// A change of a row.
    Row(RowFields<'a>),
    /// A change of a unique key.
    Key(KeyFields<'a>),
    /// Bytes that the log does not interpret, such as the content of a membership entry.
    Opaque(&'a [u8]),
}

impl Body<'_> {
    /// Appends the record without its checksum to `out`, which is unchanged after an error. Times are stored relative
    /// to `base_time`, in microseconds.
    ///
    /// # Errors
    /// [`RecordError`] if the record could not be read back.
    pub fn encode(&self, base_time: i64, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let start = out.len();
        encode_unchecked(self, base_time, out).inspect_err(|_| out.truncate(start))
    }

    /// Returns whether the record has a position: events and tombstones.
    #[must_use]
    pub const fn has_position(&self) -> bool {
        matches!(self, Self::Event(_) | Self::Tombstone(_))
    }
}

/// The fields of a tombstone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TombstoneFields<'a> {
    /// The name of the stream of the removed event.
    pub stream: &'a [u8],
    /// The revision of the removed event.
    pub revision: Revision,
    /// The id of the removed event.
    pub id: EventId,
    /// The time at which the removed event was recorded, in microseconds since 1970 in UTC.
    pub recorded_at: i64,
    /// The index of the removed event in its commit.
    pub part: CommitPart,
}

/// The new value of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowFields<'a> {
    /// The name of the table.
    pub table: &'a str,
    /// The key of the row.
    pub key: &'a [u8],
    /// The value; `None` deletes the row.
    pub value: Option<&'a [u8]>,
}

/// The new value of a unique key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyFields<'a> {
    /// The hash of the key.
    pub key: &'a [u8],
    /// The claim; `None` deletes the key.
    pub value: Option<&'a [u8]>,
}

/// A record of a log, borrowed from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The position of the event or tombstone; for other records that of the next event.
    pub position: Position,
    /// The content.
    pub body: Body<'a>,
    /// All bytes of the record.
    pub bytes: &'a [u8],
}

/// Returns the bytes of the first record and the rest.
///
/// # Errors
/// [`RecordError::Length`] if the bytes end before the record does.
#[inline]
pub(crate) fn split_first(bytes: &[u8]) -> Result<(&[u8], &[u8]), RecordError> {
    let mut cursor = Cursor::new(bytes);
    let length = u32::from_be_bytes(cursor.array("length of the record")?) as usize;
    if !(RECORD_HEAD_LEN..MAX_RECORD_LEN).contains(&length) {
        return Err(RecordError::RecordLength { found: length });
    }
    bytes.split_at_checked(length).ok_or(RecordError::Length { field: "record", expected: length, found: bytes.len() })
}

/// Returns whether a record of this kind has a position; `None` if the kind is unknown.
pub(crate) fn has_position(record: &[u8]) -> Option<bool> {
    match record.get(8)? {
        &KIND_EVENT | &KIND_TOMBSTONE => Some(true),
        &KIND_ROW | &KIND_KEY | &KIND_OPAQUE => Some(false),
        _ => None,
    }
}

/// Returns the checksum of a record. The position and the segment are part of it, so that a record in another place
/// has a wrong checksum.
pub(crate) fn checksum(record: &[u8], position: u64, segment: u32) -> u32 {
    let mut seed = [0; 12];
    let (first, second) = seed.split_at_mut(8);
    first.copy_from_slice(&position.to_be_bytes());
    second.copy_from_slice(&segment.to_be_bytes());
    let seeded = crc32c::crc32c(&seed);
    let (length, rest) = record.split_at_checked(4).unwrap_or((record, &[]));
    crc32c::crc32c_append(crc32c::crc32c_append(seeded, length), rest.get(4..).unwrap_or_default())
}

/// Returns the checksum that a record has.
pub(crate) fn stored_checksum(record: &[u8]) -> [u8; 4] {
    record.get(4..8).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default()
}

/// Checks a record against its checksum.
///
/// # Errors
/// [`RecordError::Checksum`].
pub(crate) fn check(record: &[u8], position: u64, segment: u32) -> Result<(), RecordError> {
    let (expected, found) = (checksum(record, position, segment), u32::from_be_bytes(stored_checksum(record)));
    if expected == found { Ok(()) } else { Err(RecordError::Checksum { expected, found }) }
}

fn encode_unchecked(body: &Body<'_>, base_time: i64, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    match body {
        Body::Event(event) => {
            out.extend_from_slice(&[KIND_EVENT, event.flags()]);
            event.encode(base_time, out)?;
        }
        Body::Tombstone(tombstone) => {
            out.extend_from_slice(&[KIND_TOMBSTONE, 0]);
            tombstone.encode(base_time, out)?;
        }
        Body::Row(row) => {
            out.extend_from_slice(&[KIND_ROW, deleted_flag(row.value)]);
            put_varint(out, row.table.len() as u64);
            put_varint(out, row.key.len() as u64);
            out.extend_from_slice(row.table.as_bytes());
            out.extend_from_slice(row.key);
            out.extend_from_slice(row.value.unwrap_or_default());
        }
        Body::Key(key) => {
            out.extend_from_slice(&[KIND_KEY, deleted_flag(key.value)]);
            put_varint(out, key.key.len() as u64);
            out.extend_from_slice(key.key);
            out.extend_from_slice(key.value.unwrap_or_default());
        }
        Body::Opaque(bytes) => {
            out.extend_from_slice(&[KIND_OPAQUE, 0]);
            out.extend_from_slice(bytes);
        }
    }
    let length = out.len() - start;
    let stored = u32::try_from(length).ok().filter(|_| length < MAX_RECORD_LEN);
    let stored = stored.ok_or(RecordError::RecordLength { found: length })?;
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&stored.to_be_bytes());
    }
    Ok(())
}

const fn deleted_flag(value: Option<&[u8]>) -> u8 {
    if value.is_none() { FLAG_DELETED } else { 0 }
}

/// Decodes the content of a record whose checksum has been verified.
///
/// # Errors
/// [`RecordError`]: the bytes are not what the encoder writes.
pub(crate) fn decode(record: &[u8], base_time: i64) -> Result<Body<'_>, RecordError> {
    let mut cursor = Cursor::new(record);
    let (kind, flags) = kind_and_flags(&mut cursor)?;
    match kind {
        KIND_EVENT => {
            let mut fields = EventFields::EMPTY;
            fields.decode_over(cursor, flags, base_time)?;
            Ok(Body::Event(fields))
        }
        KIND_TOMBSTONE => TombstoneFields::decode(cursor, base_time).map(Body::Tombstone),
        KIND_ROW => {
            let (table, key) = (cursor.length("length of table")?, cursor.length("length of key")?);
            let table = cursor.text("table", table)?;
            let key = cursor.take("key", key)?;
            Ok(Body::Row(RowFields { table, key, value: value(flags, cursor)? }))
        }
        KIND_KEY => {
            let key = cursor.length("length of key")?;
            let key = cursor.take("key", key)?;
            Ok(Body::Key(KeyFields { key, value: value(flags, cursor)? }))
        }
        _ => Ok(Body::Opaque(cursor.rest())),
    }
}

/// Decodes a record over `fields` if it is an event; otherwise returns `false`. Its checksum has been verified.
///
/// # Errors
/// [`RecordError`]: the bytes are not what the encoder writes.
#[inline]
pub(crate) fn decode_event_over<'a>(
    fields: &mut EventFields<'a>,
    record: &'a [u8],
    base_time: i64,
) -> Result<bool, RecordError> {
    let mut cursor = Cursor::new(record);
    let (kind, flags) = kind_and_flags(&mut cursor)?;
    if kind == KIND_EVENT {
        fields.decode_over(cursor, flags, base_time)?;
    }
    Ok(kind == KIND_EVENT)
}

/// Takes the head of a record. Returns its kind and its flags, both of which are known.
#[inline]
fn kind_and_flags(cursor: &mut Cursor<'_>) -> Result<(u8, u8), RecordError> {
    cursor.array::<8>("head of the record")?;
    let (kind, flags) = (cursor.byte("kind")?, cursor.byte("flags")?);
    let known = match kind {
        KIND_EVENT => u8::MAX,
        KIND_ROW | KIND_KEY => FLAG_DELETED,
        KIND_TOMBSTONE | KIND_OPAQUE => 0,
        found => return Err(RecordError::Kind { found }),
    };
    if flags & !known == 0 { Ok((kind, flags)) } else { Err(RecordError::Flags { found: flags }) }
}

fn value(flags: u8, cursor: Cursor<'_>) -> Result<Option<&[u8]>, RecordError> {
    match (flags & FLAG_DELETED != 0, cursor.rest()) {
        (false, value) => Ok(Some(value)),
        (true, []) => Ok(None),
        (true, rest) => Err(RecordError::Trailing { found: rest.len() }),
    }
}

impl<'a> TombstoneFields<'a> {
    fn encode(&self, base_time: i64, out: &mut Vec<u8>) -> Result<(), RecordError> {
        put_varint(out, self.revision.get());
        put_time(out, "recorded at", self.recorded_at, base_time)?;
        out.extend_from_slice(self.id.as_uuid().as_bytes());
        put_varint(out, self.part.index.into());
        put_varint(out, self.part.size.into());
        out.extend_from_slice(self.stream);
        Ok(())
    }

    fn decode(mut cursor: Cursor<'a>, base_time: i64) -> Result<Self, RecordError> {
        let revision = revision(&mut cursor)?;
        let recorded_at = time(&mut cursor, "recorded at", base_time)?;
        let id = EventId::from_uuid(Uuid::from_bytes(cursor.array("event id")?));
        let part = CommitPart { index: cursor.u32("index in the commit")?, size: cursor.u32("size of the commit")? };
        let stream = cursor.rest();
        Ok(Self { stream, revision, id, recorded_at, part })
    }
}

#[inline]
fn revision(cursor: &mut Cursor<'_>) -> Result<Revision, RecordError> {
    match cursor.varint("revision")? {
        u64::MAX => Err(RecordError::Number { field: "revision" }),
        number => Ok(Revision::new(number)),
    }
}

/// Appends the distance of a time from another one.
fn put_time(out: &mut Vec<u8>, field: &'static str, time: i64, base: i64) -> Result<(), RecordError> {
    put_signed(out, time.checked_sub(base).ok_or(RecordError::Number { field })?);
    Ok(())
}

#[inline]
fn time(cursor: &mut Cursor<'_>, field: &'static str, base: i64) -> Result<i64, RecordError> {
    cursor.signed(field)?.checked_add(base).ok_or(RecordError::Number { field })
}
