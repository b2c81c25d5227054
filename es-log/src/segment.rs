//! Segment files: header, names, sizes, and the footer of a sealed segment.
//!
//! ```text
//!   header | frame | frame | ... | zeros | block | block | ... | trailer
//!                                          footer, if sealed
//! ```
//!
//! A compressed segment has the same parts in another order, see [`compressed`](crate::compressed).

use std::num::TryFromIntError;

use es_core::model::LogId;
use uuid::Uuid;

use crate::frame::Place;
use crate::layout::{
    BLOCK_EVENTS, BLOCK_LEN, COMPRESSED_VERSION, FORMAT_VERSION, FixedReader, SEGMENT_HEADER_LEN, SEGMENT_MAGIC,
    TRAILER_LEN, TRAILER_MAGIC, push_checksum, strip_checksum,
};
use crate::scan::Chain;

/// The ending of the name of a segment.
const SEGMENT_ENDING: &str = ".seg";
/// The ending of the name of a segment that is being filled with zeros and is not part of the log yet.
const SPARE_ENDING: &str = ".new";

/// Returns the file name of a segment.
pub(crate) fn file_name(number: u32) -> String {
    format!("{number:08}{SEGMENT_ENDING}")
}

/// Returns the file name of a spare segment.
pub(crate) fn spare_name(number: u32) -> String {
    format!("{number:08}{SPARE_ENDING}")
}

/// Returns the number of the segment with this file name.
pub(crate) fn number_of(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(SEGMENT_ENDING)?;
    let number = digits.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

/// Returns whether this is the name of a spare segment.
pub(crate) fn is_spare(name: &str) -> bool {
    name.ends_with(SPARE_ENDING)
}

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) place: Place,
    /// The position of the first event of the segment.
    pub(crate) first_position: u64,
    /// The number of the first frame of the segment.
    pub(crate) first_frame: u64,
    /// The size of the file; of the plain one if the segment is compressed.
    pub(crate) size: u32,
    pub(crate) is_compressed: bool,
}

/// Why bytes are not the header of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    Format { found: u32 },
    Damaged,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_LEN);
        bytes.extend_from_slice(&SEGMENT_MAGIC);
        let version = if self.is_compressed { COMPRESSED_VERSION } else { FORMAT_VERSION };
        bytes.extend_from_slice(&version.to_be_bytes());
        bytes.extend_from_slice(&self.place.segment.to_be_bytes());
        bytes.extend_from_slice(self.place.log_id.as_uuid().as_bytes());
        bytes.extend_from_slice(&self.first_position.to_be_bytes());
        bytes.extend_from_slice(&self.first_frame.to_be_bytes());
        bytes.extend_from_slice(&self.place.base_time.to_be_bytes());
        bytes.extend_from_slice(&self.size.to_be_bytes());
        push_checksum(&mut bytes);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let header = bytes.get(..SEGMENT_HEADER_LEN).ok_or(HeaderError::Damaged)?;
        let mut fields = FixedReader(strip_checksum(header).ok_or(HeaderError::Damaged)?);
        if fields.take() != SEGMENT_MAGIC {
            return Err(HeaderError::Damaged);
        }
        let is_compressed = match fields.u32() {
            FORMAT_VERSION => false,
            COMPRESSED_VERSION => true,
            found => return Err(HeaderError::Format { found }),
        };
        let segment = fields.u32();
        let log_id = LogId::from_uuid(Uuid::from_bytes(fields.take()));
        let (first_position, first_frame, base_time) = (fields.u64(), fields.u64(), fields.i64());
        let place = Place { log_id, segment, base_time };
        Ok(Self { place, first_position, first_frame, size: fields.u32(), is_compressed })
    }
}

/// The end of a sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) first_position: u64,
    /// The position of the last event; below the first if there is none.
    pub(crate) last_position: u64,
    /// The times of the first and the last event; 0 if there is none.
    pub(crate) times: (i64, i64),
    pub(crate) frames: u32,
    pub(crate) events: u32,
    /// Where the frames end.
    pub(crate) end: u32,
    /// Where the blocks of offsets start.
    pub(crate) blocks: u32,
    /// The link of the last frame.
    pub(crate) last_checksum: u32,
}

/// Completes the content of a plain segment: appends its footer, and writes its header over the first bytes. The size
/// and the places in `header` and `trailer` are ignored. Returns both as they were written.
///
/// # Errors
/// [`TryFromIntError`] if the segment would have 4 GiB or more.
pub(crate) fn complete(
    bytes: &mut Vec<u8>,
    offsets: &[u32],
    header: SegmentHeader,
    trailer: Trailer,
) -> Result<(SegmentHeader, Trailer), TryFromIntError> {
    let end = u32::try_from(bytes.len())?;
    let size = u32::try_from(bytes.len() + footer_len(offsets.len()))?;
    let header = SegmentHeader { size, is_compressed: false, ..header };
    let trailer = Trailer { end, blocks: end, ..trailer };
    bytes.extend_from_slice(&encode_blocks(offsets));
    bytes.extend_from_slice(&trailer.encode());
    if let Some(place) = bytes.get_mut(..SEGMENT_HEADER_LEN) {
        place.copy_from_slice(&header.encode());
    }
    Ok((header, trailer))
}

impl Trailer {
    /// Returns the size of the plain segment, which ends with this trailer.
    pub(crate) fn size(&self) -> u64 {
        u64::from(self.blocks) + footer_len(self.events as usize) as u64
    }

    /// Returns what follows the segment.
    pub(crate) fn chain(&self, header: &SegmentHeader) -> Chain {
        Chain {
            frame: header.first_frame + u64::from(self.frames),
            position: self.first_position + u64::from(self.events),
            previous: Some(self.last_checksum),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TRAILER_LEN);
        bytes.extend_from_slice(&TRAILER_MAGIC);
        bytes.extend_from_slice(&self.first_position.to_be_bytes());
        bytes.extend_from_slice(&self.last_position.to_be_bytes());
        bytes.extend_from_slice(&self.times.0.to_be_bytes());
        bytes.extend_from_slice(&self.times.1.to_be_bytes());
        for number in [self.frames, self.events, self.end, self.blocks, self.last_checksum] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        push_checksum(&mut bytes);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = FixedReader(strip_checksum(bytes.get(..TRAILER_LEN)?)?);
        if fields.take() != TRAILER_MAGIC {
            return None;
        }
        let (first_position, last_position) = (fields.u64(), fields.u64());
        let times = (fields.i64(), fields.i64());
        let (frames, events, end) = (fields.u32(), fields.u32(), fields.u32());
        let (blocks, last_checksum) = (fields.u32(), fields.u32());
        Some(Self { first_position, last_position, times, frames, events, end, blocks, last_checksum })
    }
}

/// Returns the length of the footer of a segment with this number of events.
pub(crate) fn footer_len(events: usize) -> usize {
    let (full, rest) = (events / BLOCK_EVENTS, events % BLOCK_EVENTS);
    full * BLOCK_LEN + if rest == 0 { 0 } else { 4 * rest + 4 } + TRAILER_LEN
}

/// Returns the blocks of the offsets of all events.
pub(crate) fn encode_blocks(offsets: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(footer_len(offsets.len()));
    for block in offsets.chunks(BLOCK_EVENTS) {
        let mut encoded: Vec<u8> = block.iter().flat_map(|offset| offset.to_be_bytes()).collect();
        push_checksum(&mut encoded);
        bytes.extend_from_slice(&encoded);
    }
    bytes
}

/// Returns the range of a block in the blocks of a segment with this number of events, in bytes.
pub(crate) fn block_range(index: usize, events: usize) -> std::ops::Range<usize> {
    let start = index * BLOCK_LEN;
    let rest = events.saturating_sub(index * BLOCK_EVENTS).min(BLOCK_EVENTS);
    start..start + 4 * rest + 4
}

/// Decodes a block of offsets; `None` if its checksum is wrong.
pub(crate) fn decode_block(bytes: &[u8]) -> Option<Vec<u32>> {
    let offsets = strip_checksum(bytes)?.chunks_exact(4);
    Some(offsets.map(|bytes| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))).collect())
}

/// Returns the size of a segment: the first size, doubled up to the largest one.
pub(crate) fn size_of(number: u32, (first, largest): (u32, u32)) -> u32 {
    let doubled = first.checked_shl(number.saturating_sub(1)).filter(|size| size >> number.saturating_sub(1) == first);
    doubled.unwrap_or(largest).min(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_double_up_to_the_largest() {
        let sizes: Vec<u32> = (1..7).map(|number| size_of(number, (8 << 20, 64 << 20)) >> 20).collect();
        assert_eq!(sizes, [8, 16, 32, 64, 64, 64]);
        assert_eq!(size_of(1_000_000, (8, 64)), 64);
    }

    #[test]
    fn names_have_the_number_of_the_segment() {
        assert_eq!(number_of(&file_name(12)), Some(12));
        assert_eq!(file_name(12), "00000012.seg");
        for other in ["12.seg", "00000012.new", "+0000012.seg", "LOCK"] {
            assert_eq!(number_of(other), None, "{other}");
        }
        assert!(is_spare(&spare_name(1)));
    }

    #[test]
    fn a_changed_byte_of_header_trailer_or_block_is_detected() {
        let place = Place { log_id: LogId::from_uuid(Uuid::from_bytes([7; 16])), segment: 3, base_time: -5 };
        let header = SegmentHeader { place, first_position: 1, first_frame: 2, size: 4096, is_compressed: true };
        let trailer = Trailer {
            first_position: 1,
            last_position: 9,
            times: (-1, 1),
            frames: 2,
            events: 9,
            end: 300,
            blocks: 400,
            last_checksum: 5,
        };
        let (bytes, end, blocks) = (header.encode(), trailer.encode(), encode_blocks(&[1, 2, 3]));
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        assert_eq!(Trailer::decode(&end), Some(trailer));
        assert_eq!(decode_block(&blocks), Some(vec![1, 2, 3]));
        for bit in 0..64 * 8 {
            let flipped = |bytes: &[u8]| {
                let mut bytes = bytes.to_vec();
                if let Some(byte) = bytes.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
                bytes
            };
            assert!(SegmentHeader::decode(&flipped(&bytes)).is_err());
            assert_eq!(Trailer::decode(&flipped(&end)), None);
            if bit / 8 < blocks.len() {
                assert_eq!(decode_block(&flipped(&blocks)), None);
            }
        }
    }

    #[test]
    fn each_block_is_found_in_the_footer() {
        for events in [0, 1, 1023, 1024, 1025, 5000] {
            let offsets: Vec<u32> = (0..events).collect();
            let blocks = encode_blocks(&offsets);
            let events = events as usize;
            assert_eq!(blocks.len() + TRAILER_LEN, footer_len(events));
            for (index, expected) in offsets.chunks(BLOCK_EVENTS).enumerate() {
                assert_eq!(decode_block(&blocks[block_range(index, events)]).unwrap(), expected);
            }
        }
    }
}
