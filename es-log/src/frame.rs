//! Frames: the unit of a sync. Each has the checksum of the frame before it.
//!
//! ```text
//!   header (64 bytes) | record | record | ...
//!        crc32c of the header and of the checksums of the records
//! ```

use std::ops::ControlFlow;

use bytes::Bytes;
use es_core::Position;
use es_core::model::LogId;

use crate::layout::{FRAME_HEADER_LEN, FRAME_MAGIC, FixedReader};
use crate::record::{self, EventFields, Record, RecordError};

/// The longest frame, in bytes.
pub(crate) const MAX_FRAME_LEN: usize = 1 << 30;

/// The purpose of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// Commits: events, tombstones, changes of rows and keys.
    Commits,
    /// No record. Written when the log is idle, or by a new leader.
    Blank,
    /// A membership of a cluster: opaque records.
    Membership,
}

impl EntryKind {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Commits => 1,
            Self::Blank => 2,
            Self::Membership => 3,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Commits),
            2 => Some(Self::Blank),
            3 => Some(Self::Membership),
            _ => None,
        }
    }
}

/// Bytes are not a frame of this place in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes do not start with the magic of a frame.
    #[error("expected the start of a frame, found other bytes")]
    Magic,
    /// The bytes end before the frame does.
    #[error("expected a frame of {expected} bytes, found {found}")]
    Length {
        /// The length in the header.
        expected: usize,
        /// The number of bytes.
        found: usize,
    },
    /// A field of the header is out of range.
    #[error("expected a valid {field} in the header of a frame, found {found}")]
    Field {
        /// The field.
        field: &'static str,
        /// The value.
        found: u64,
    },
    /// The header, the order or the number of the records was changed.
    #[error("expected frame checksum {expected:08x}, found {found:08x}")]
    Checksum {
        /// The checksum of the header and the records.
        expected: u32,
        /// The checksum in the header.
        found: u32,
    },
    /// A record is not valid.
    #[error("record {index} of the frame")]
    Record {
        /// The index of the record in the frame.
        index: u32,
        /// The reason.
        source: RecordError,
    },
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// The checksum of the frame, which the next frame repeats.
    pub checksum: u32,
    /// The length with the header, in bytes.
    pub length: usize,
    /// The number of commits.
    pub commits: u32,
    /// The number of records.
    pub records: u32,
    /// The number of the frame, from 1; the index of a Raft entry.
    pub number: u64,
    /// The position of the first event, or of the next one if the frame has none.
    pub first_position: Position,
    /// The term of a Raft entry; 0 without consensus.
    pub term: u64,
    /// How many times the log was opened, this time included, when the frame was written.
    pub opens: u64,
    /// The link of the frame before; 0 for the first one.
    pub previous: u32,
    /// The purpose.
    pub kind: EntryKind,
    /// The checksum that the frame had when it was written, if it was rewritten since.
    pub original: Option<u32>,
}

/// The flag of a frame that was rewritten.
const FLAG_REWRITTEN: u8 = 0x01;

impl FrameHeader {
    /// Returns what the next frame has as [`previous`](Self::previous): the checksum that this frame had when it was
    /// written. So a frame can be rewritten alone.
    #[must_use]
    pub fn link(&self) -> u32 {
        self.original.unwrap_or(self.checksum)
    }

    /// Decodes a header. Its checksum is not verified: that needs the records.
    ///
    /// # Errors
    /// [`FrameError::Magic`], [`FrameError::Field`], and [`FrameError::Length`] for less than a header.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let Some(bytes) = bytes.first_chunk::<FRAME_HEADER_LEN>() else {
            return Err(FrameError::Length { expected: FRAME_HEADER_LEN, found: bytes.len() });
        };
        let mut fields = FixedReader(bytes);
        if fields.take() != FRAME_MAGIC {
            return Err(FrameError::Magic);
        }
        let (checksum, length, commits, records) = (fields.u32(), fields.u32(), fields.u32(), fields.u32());
        let (number, first_position, term, opens) = (fields.u64(), fields.u64(), fields.u64(), fields.u64());
        let (previous, [kind, flags]) = (fields.u32(), fields.take());
        let (original, reserved) = (fields.u32(), fields.take::<2>());
        let invalid = |field, found| FrameError::Field { field, found };
        let size = length as usize;
        if !(FRAME_HEADER_LEN..MAX_FRAME_LEN).contains(&size) {
            return Err(invalid("length", length.into()));
        }
        if number == 0 {
            return Err(invalid("number", number));
        }
        let Some(first_position) = Position::new(first_position).filter(|_| first_position != u64::MAX) else {
            return Err(invalid("first position", first_position));
        };
        let kind = EntryKind::of(kind).ok_or_else(|| invalid("entry kind", kind.into()))?;
        let original = match flags {
            0 if original == 0 => None,
            FLAG_REWRITTEN => Some(original),
            _ => return Err(invalid("flags", flags.into())),
        };
        if reserved != [0; 2] {
            return Err(invalid("reserved bytes", u16::from_be_bytes(reserved).into()));
        }
        let has_records = records > 0;
        if has_records == (kind == EntryKind::Blank) || (commits > 0) != (kind == EntryKind::Commits) {
            return Err(invalid("number of records", records.into()));
        }
        Ok(Self {
            checksum,
            length: size,
            commits,
            records,
            number,
            first_position,
            term,
            opens,
            previous,
            kind,
            original,
        })
    }

    /// Encodes the header.
    fn encode(&self) -> [u8; FRAME_HEADER_LEN] {
        let mut bytes = Vec::with_capacity(FRAME_HEADER_LEN);
        bytes.extend_from_slice(&FRAME_MAGIC);
        bytes.extend_from_slice(&self.checksum.to_be_bytes());
        // Frames are shorter than `MAX_FRAME_LEN`.
        bytes.extend_from_slice(&u32::try_from(self.length).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(&self.commits.to_be_bytes());
        bytes.extend_from_slice(&self.records.to_be_bytes());
        for number in [self.number, self.first_position.get(), self.term, self.opens] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.previous.to_be_bytes());
        bytes.push(self.kind.code());
        bytes.push(if self.original.is_some() { FLAG_REWRITTEN } else { 0 });
        bytes.extend_from_slice(&self.original.unwrap_or_default().to_be_bytes());
        bytes.resize(FRAME_HEADER_LEN, 0);
        bytes.try_into().unwrap_or([0; FRAME_HEADER_LEN])
    }
}

/// The segment that a frame belongs to. It is part of the checksums, so that bytes of another log or segment are
/// rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The id of the log.
    pub log_id: LogId,
    /// The number of the segment.
    pub segment: u32,
    /// The time to which the times of records are relative, in microseconds since 1970 in UTC.
    pub base_time: i64,
}

impl Place {
    /// Returns the checksum of a header and of the checksums of the records.
    fn checksum(&self, header: &[u8; FRAME_HEADER_LEN], records: &[u8]) -> u32 {
        let seed = crc32c::crc32c(self.log_id.as_uuid().as_bytes());
        let seed = crc32c::crc32c_append(seed, &self.segment.to_be_bytes());
        let seed = crc32c::crc32c_append(seed, &FRAME_MAGIC);
        let after_checksum = header.get(8..).unwrap_or_default();
        crc32c::crc32c_append(crc32c::crc32c_append(seed, after_checksum), records)
    }
}

/// Completes a frame: its records, which start after the space for the header, get their checksums, and then the header
/// is written. Appends the offset of each event in the frame to `offsets`. Returns the complete header.
///
/// # Errors
/// [`FrameError::Record`] if the records are not what [`Body::encode`](record::Body::encode) wrote.
pub(crate) fn complete(
    bytes: &mut [u8],
    header: FrameHeader,
    place: &Place,
    offsets: &mut Vec<u32>,
) -> Result<FrameHeader, FrameError> {
    let mut position = header.first_position.get();
    let mut checksums = Vec::with_capacity(4 * header.records as usize);
    let mut at = FRAME_HEADER_LEN;
    for index in 0..header.records {
        let failed = |source| FrameError::Record { index, source };
        let rest = bytes.get_mut(at..).unwrap_or_default();
        let length = record::split_first(rest).map_err(failed)?.0.len();
        let record = rest.get_mut(..length).unwrap_or_default();
        let checksum = record::checksum(record, position, place.segment).to_be_bytes();
        if let Some(field) = record.get_mut(4..8) {
            field.copy_from_slice(&checksum);
        }
        checksums.extend_from_slice(&checksum);
        if record::has_position(record) == Some(true) {
            offsets.push(u32::try_from(at).unwrap_or(u32::MAX));
            position += 1;
        }
        at += length;
    }
    let mut header = FrameHeader { length: bytes.len(), ..header };
    header.checksum = place.checksum(&header.encode(), &checksums);
    if let Some(field) = bytes.first_chunk_mut() {
        *field = header.encode();
    }
    Ok(header)
}

/// A verified frame, with its bytes.
#[derive(Debug, Clone)]
pub struct Frame {
    bytes: Bytes,
    header: FrameHeader,
    place: Place,
    events: u32,
}

impl Frame {
    /// Verifies the frame at the start of the bytes: the header, and the checksum of each record. The fields of the
    /// records are decoded later.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn verify(bytes: &Bytes, place: Place) -> Result<Self, FrameError> {
        let header = FrameHeader::decode(bytes)?;
        let Some(frame) = bytes.get(..header.length) else {
            return Err(FrameError::Length { expected: header.length, found: bytes.len() });
        };
        let events = verify(frame, &header, &place)?;
        Ok(Self { bytes: bytes.slice(..header.length), header, place, events })
    }

    /// Completes a frame. `bytes` has space for the header and then records that
    /// [`Body::encode`](record::Body::encode) wrote, as many as the header says; they get their checksums. The
    /// checksum and the length in `header` are ignored.
    ///
    /// # Errors
    /// [`FrameError::Record`] if a record is cut; otherwise as [`verify`](Self::verify).
    pub fn complete(mut bytes: Vec<u8>, header: FrameHeader, place: Place) -> Result<Self, FrameError> {
        complete(&mut bytes, header, &place, &mut Vec::new())?;
        Self::verify(&Bytes::from(bytes), place)
    }

    /// Returns a frame that [`complete`] has written.
    pub(crate) fn completed(bytes: Bytes, header: FrameHeader, place: Place, events: u32) -> Self {
        Self { bytes, header, place, events }
    }

    /// Returns the header.
    #[must_use]
    pub const fn header(&self) -> &FrameHeader {
        &self.header
    }

    /// Returns all bytes of the frame.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(crate) const fn place(&self) -> Place {
        self.place
    }

    /// Returns the number of events and tombstones.
    #[must_use]
    pub const fn events(&self) -> u32 {
        self.events
    }

    /// Returns the position of the next event after the frame, as a number.
    pub(crate) fn next_position(&self) -> u64 {
        self.header.first_position.get().saturating_add(self.events.into())
    }

    /// Returns the records of the frame.
    #[must_use]
    pub fn batch(&self) -> Batch {
        let bytes = self.bytes.slice(FRAME_HEADER_LEN..);
        Batch { bytes, first_position: self.header.first_position.get(), from: 0, place: self.place }
    }
}

/// Verifies a frame of exactly `bytes`. Returns its number of events.
fn verify(bytes: &[u8], header: &FrameHeader, place: &Place) -> Result<u32, FrameError> {
    let Some((head, mut rest)) = bytes.split_first_chunk::<FRAME_HEADER_LEN>() else {
        return Err(FrameError::Magic);
    };
    // The number of records is not verified yet, so that no memory is reserved for it.
    let mut checksums = Vec::with_capacity(4 * (rest.len() / 64).min(header.records as usize));
    let (mut position, mut events) = (header.first_position.get(), 0u32);
    for index in 0..header.records {
        let failed = |source| FrameError::Record { index, source };
        let (record, after) = record::split_first(rest).map_err(failed)?;
        record::check(record, position, place.segment).map_err(failed)?;
        let kind = record.get(8).copied().unwrap_or_default();
        let has_position = record::has_position(record).ok_or(RecordError::Kind { found: kind }).map_err(failed)?;
        if has_position {
            position = position.saturating_add(1);
            events += 1;
        }
        let is_opaque = kind == record::KIND_OPAQUE;
        if is_opaque != (header.kind == EntryKind::Membership) {
            return Err(failed(RecordError::Kind { found: kind }));
        }
        checksums.extend_from_slice(&record::stored_checksum(record));
        rest = after;
    }
    if !rest.is_empty() {
        return Err(FrameError::Length { expected: bytes.len() - rest.len(), found: bytes.len() });
    }
    if position == u64::MAX {
        return Err(FrameError::Field { field: "first position", found: header.first_position.get() });
    }
    let expected = place.checksum(head, &checksums);
    if expected != header.checksum {
        return Err(FrameError::Checksum { expected, found: header.checksum });
    }
    Ok(events)
}

/// Records of one frame in the order of the log, with verified checksums.
#[derive(Debug, Clone)]
pub struct Batch {
    bytes: Bytes,
    first_position: u64,
    /// Events before this position are skipped, and the records before the event at it.
    from: u64,
    place: Place,
}

impl Batch {
    /// Returns records whose checksums have been verified. `first_position` is the position of the first event.
    pub(crate) fn verified(bytes: Bytes, first_position: u64, place: Place) -> Self {
        Self { bytes, first_position, from: 0, place }
    }

    /// Skips the records before this position.
    pub(crate) fn starting_at(mut self, position: u64) -> Self {
        self.from = position;
        self
    }

    /// Returns the records. Each is decoded when it is returned, and borrows the bytes of the batch.
    pub fn records(&self) -> impl Iterator<Item = Result<Record<'_>, RecordError>> {
        let (position, from, base_time) = (self.first_position, self.from, self.place.base_time);
        let mut records = Records { rest: &self.bytes, position, from, base_time };
        records.skip_first();
        records
    }

    /// Calls `each` with the position and the fields of each event that is not a tombstone, until it breaks. Returns
    /// what it broke with. Each event is decoded over the one before it, which is faster than
    /// [`records`](Self::records).
    ///
    /// # Errors
    /// [`RecordError`] if the bytes are not what the encoder writes.
    #[inline]
    pub fn visit_events<'a, B>(
        &'a self,
        mut each: impl FnMut(Position, &EventFields<'a>) -> ControlFlow<B>,
    ) -> Result<Option<B>, RecordError> {
        let (position, from, base_time) = (self.first_position, self.from, self.place.base_time);
        let mut records = Records { rest: &self.bytes, position, from, base_time };
        records.skip_first();
        let mut fields = EventFields::EMPTY;
        while let Some((position, bytes)) = records.next_bytes()? {
            if record::decode_event_over(&mut fields, bytes, base_time)?
                && let ControlFlow::Break(broken) = each(position, &fields)
            {
                return Ok(Some(broken));
            }
        }
        Ok(None)
    }

    /// Returns the bytes of each event and tombstone with its position, without decoding them.
    pub fn event_bytes(&self) -> impl Iterator<Item = (Position, &[u8])> {
        let (mut rest, mut next) = (&*self.bytes, self.first_position);
        let next_record = move || {
            // The checksums were verified, so that the lengths are right.
            let (record, after) = record::split_first(rest).ok()?;
            rest = after;
            let position = Position::new(next).filter(|_| record::has_position(record) == Some(true));
            next += u64::from(position.is_some());
            Some((position, record))
        };
        let from = self.from;
        std::iter::from_fn(next_record)
            .filter_map(|(position, record)| position.map(|position| (position, record)))
            .filter(move |(position, _)| position.get() >= from)
    }

    /// Returns the batch with a copy of its bytes, so that it does not keep those of its frame in memory.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { bytes: Bytes::copy_from_slice(&self.bytes), ..*self }
    }

    /// Returns whether the first record is a tombstone.
    #[must_use]
    pub fn starts_with_tombstone(&self) -> bool {
        self.bytes.get(8) == Some(&record::KIND_TOMBSTONE)
    }

    /// Returns the record that was copied from the log: the event or tombstone at this position, whose segment was at
    /// `place`.
    ///
    /// # Errors
    /// [`RecordError`] if the bytes are not this record.
    pub fn of_copy(bytes: Bytes, position: Position, place: Place) -> Result<Self, RecordError> {
        let (record, rest) = record::split_first(&bytes)?;
        if !rest.is_empty() {
            return Err(RecordError::Trailing { found: rest.len() });
        }
        record::check(record, position.get(), place.segment)?;
        Ok(Self::verified(bytes, position.get(), place))
    }

    /// Returns where the records are.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.place
    }

    /// Returns the bytes that the records borrow. A slice of them is an owned payload without a copy.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

struct Records<'a> {
    rest: &'a [u8],
    position: u64,
    /// Records before this position are skipped.
    from: u64,
    base_time: i64,
}

impl<'a> Records<'a> {
    /// Skips the records before `from` without decoding them.
    fn skip_first(&mut self) {
        while self.position < self.from
            && let Ok((record, rest)) = record::split_first(self.rest)
        {
            self.position = self.position.saturating_add(u64::from(record::has_position(record) == Some(true)));
            self.rest = rest;
        }
    }

    /// Returns the bytes of the next record, and the position of its event or of the next event.
    #[inline]
    fn next_bytes(&mut self) -> Result<Option<(Position, &'a [u8])>, RecordError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (bytes, rest) = record::split_first(self.rest)?;
        let position = Position::new(self.position).ok_or(RecordError::Number { field: "position" })?;
        self.position = self.position.saturating_add(u64::from(record::has_position(bytes) == Some(true)));
        self.rest = rest;
        Ok(Some((position, bytes)))
    }

    fn next_record(&mut self) -> Result<Option<Record<'a>>, RecordError> {
        let Some((position, bytes)) = self.next_bytes()? else { return Ok(None) };
        Ok(Some(Record { position, body: record::decode(bytes, self.base_time)?, bytes }))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_record();
        if next.is_err() {
            self.rest = &[];
        }
        next.transpose()
    }
}
