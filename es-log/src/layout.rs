//! The constants of the format. `docs/storage-format.md` is compared with them.

/// The version of the format of a plain segment, in its header.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// The version of the format of a compressed segment. A program that knows only plain ones refuses it.
pub(crate) const COMPRESSED_VERSION: u32 = 2;

/// The name and the length of each field of a structure, in order.
pub(crate) type FieldTable = [(&'static str, usize)];

/// Returns the sum of the lengths of the fields.
const fn length(fields: &FieldTable) -> usize {
    let mut sum = 0;
    let mut index = 0;
    while index < fields.len() {
        sum += fields[index].1;
        index += 1;
    }
    sum
}

pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"es-seg-1";
pub(crate) const SEGMENT_FIELDS: &FieldTable = &[
    ("magic", 8),
    ("format version", 4),
    ("number of the segment", 4),
    ("log id", 16),
    ("first position", 8),
    ("number of the first frame", 8),
    ("base time", 8),
    ("size of the file", 4),
    ("crc32c of the preceding bytes", 4),
];
pub(crate) const SEGMENT_HEADER_LEN: usize = length(SEGMENT_FIELDS);

/// The first bit is set. The length of a record never has it, so that the two can be distinguished.
pub(crate) const FRAME_MAGIC: [u8; 4] = [0xe5, b'f', b'r', b'1'];
pub(crate) const FRAME_FIELDS: &FieldTable = &[
    ("magic", 4),
    ("crc32c", 4),
    ("length of the frame, with this header", 4),
    ("number of commits", 4),
    ("number of records", 4),
    ("number of the frame", 8),
    ("position of the first event, or of the next one", 8),
    ("term, 0 without consensus", 8),
    ("open count", 8),
    ("original crc32c of the previous frame, 0 for the first", 4),
    ("entry kind", 1),
    ("flags, `0x01` if the frame was rewritten", 1),
    ("original crc32c, if rewritten", 4),
    ("reserved, 0", 2),
];
pub(crate) const FRAME_HEADER_LEN: usize = length(FRAME_FIELDS);

/// The fields that each record begins with.
pub(crate) const RECORD_FIELDS: &FieldTable =
    &[("length of the record, with these fields", 4), ("crc32c", 4), ("kind", 1), ("flags", 1)];
pub(crate) const RECORD_HEAD_LEN: usize = length(RECORD_FIELDS);

/// The fields of an event after the head, in order, and when they are present: for the document.
#[cfg(test)]
pub(crate) const EVENT_FIELDS: [(&str, &str); 16] = [
    ("revision", "varint"),
    ("recorded at, minus the base time of the segment", "signed varint"),
    ("event id", "16 bytes"),
    ("occurred at, minus recorded at", "signed varint, if flag `0x01`"),
    ("index and size of the commit part", "2 varints, if flag `0x02`; otherwise 0 and 1"),
    ("schema version", "varint, if flag `0x04`; otherwise 1"),
    ("correlation id", "16 bytes, if flag `0x08`"),
    ("causation id", "16 bytes, if flag `0x10`"),
    ("content type", "code, 1 byte; for code 0 length and text; if flag `0x20`; otherwise JSON"),
    ("length of stream, length of type, number of tags", "3 varints"),
    ("length of metadata", "varint, if flag `0x40`"),
    ("length of extensions", "varint, if flag `0x80`"),
    ("stream, type", "texts"),
    ("tags", "per tag length and text"),
    ("metadata", "given"),
    ("payload, extensions", "the rest; extensions are last"),
];

/// The number of events per block of offsets in a footer.
pub(crate) const BLOCK_EVENTS: usize = 1024;
/// The length of a full block: an offset of four bytes per event, and a crc32c.
pub(crate) const BLOCK_LEN: usize = 4 * BLOCK_EVENTS + 4;
pub(crate) const TRAILER_MAGIC: [u8; 8] = *b"es-end-1";
pub(crate) const TRAILER_FIELDS: &FieldTable = &[
    ("magic", 8),
    ("first position", 8),
    ("last position", 8),
    ("first time", 8),
    ("last time", 8),
    ("number of frames", 4),
    ("number of events", 4),
    ("end of the frames", 4),
    ("start of the blocks", 4),
    ("original crc32c of the last frame", 4),
    ("crc32c of the preceding bytes", 4),
];
pub(crate) const TRAILER_LEN: usize = length(TRAILER_FIELDS);

/// The number of bytes of the content of a compressed segment that are compressed together; the last chunk has fewer.
pub(crate) const CHUNK_LEN: usize = 16 * 1024;
/// The fields of a chunk in the table of a compressed segment.
pub(crate) const ENTRY_FIELDS: &FieldTable =
    &[("end of the stored chunk, from the start of the first one", 4), ("crc32c", 4)];
pub(crate) const ENTRY_LEN: usize = length(ENTRY_FIELDS);

/// The name of the file with the high-water mark, in the directory of a log.
pub const MARK_FILE: &str = "ACKNOWLEDGED";
pub(crate) const MARK_MAGIC: [u8; 8] = *b"es-ack-2";
pub(crate) const MARK_FIELDS: &FieldTable = &[
    ("magic", 8),
    ("number of the last acknowledged frame, 0 for none", 8),
    ("head, 0 for none", 8),
    ("open count", 8),
    ("crc32c of the preceding bytes", 4),
];
pub(crate) const MARK_LEN: usize = length(MARK_FIELDS);
/// The distance of the slots: each is in another sector.
pub(crate) const MARK_STEP: u64 = 4096;
/// The number of slots.
pub(crate) const MARK_SLOTS: u64 = 3;
pub(crate) const MARK_FILE_LEN: u64 = (MARK_SLOTS - 1) * MARK_STEP + MARK_LEN as u64;

/// The file that an open log locks.
pub(crate) const LOCK_FILE: &str = "LOCK";

const _: () = assert!(SEGMENT_HEADER_LEN == 64 && FRAME_HEADER_LEN == 64 && TRAILER_LEN == 64);
const _: () = assert!(RECORD_HEAD_LEN == 10 && MARK_LEN == 36);

/// Reads the fields of a structure of fixed length, whose bytes are there.
pub(crate) struct FixedReader<'a>(pub(crate) &'a [u8]);

impl FixedReader<'_> {
    /// Takes the next `N` bytes; zeros after the end.
    pub(crate) fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.0 = rest;
                *taken
            }
            None => {
                self.0 = &[];
                [0; N]
            }
        }
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }

    pub(crate) fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.take())
    }
}

/// Appends the crc32c of the bytes.
pub(crate) fn push_checksum(bytes: &mut Vec<u8>) {
    let checksum = crc32c::crc32c(bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
}

/// Returns the bytes without the crc32c at their end; `None` if it differs.
pub(crate) fn strip_checksum(bytes: &[u8]) -> Option<&[u8]> {
    let (body, checksum) = bytes.split_last_chunk::<4>()?;
    (u32::from_be_bytes(*checksum) == crc32c::crc32c(body)).then_some(body)
}
