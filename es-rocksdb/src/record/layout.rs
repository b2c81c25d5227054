//! The layout of a record: constants, and the name and length of each field.

/// The version of the record format, its first byte.
pub(crate) const RECORD_VERSION: u8 = 1;
/// The offset of the checksum. The checksum covers all other bytes.
pub(crate) const CHECKSUM_AT: usize = 1;
/// The offset of the first byte after the checksum.
pub(crate) const CHECKED_FROM: usize = CHECKSUM_AT + 4;
/// Flag: the record has a correlation id.
pub(crate) const FLAG_CORRELATION: u8 = 0b01;
/// Flag: the record has a causation id.
pub(crate) const FLAG_CAUSATION: u8 = 0b10;
/// The code of a content type without a code of its own. The record then has its media type as text.
pub(crate) const CONTENT_OTHER: u8 = 0;
/// The code of JSON.
pub(crate) const CONTENT_JSON: u8 = 1;
/// The code of MessagePack.
pub(crate) const CONTENT_MESSAGE_PACK: u8 = 2;
/// The length of the head of an extension: its tag and its length.
pub(crate) const EXTENSION_HEAD_LEN: usize = 2 + 4;
/// The tag of the extension with the dot and the hybrid time of a stamp. An event with a stamp has it.
pub(crate) const STAMP_TAG: u16 = 1;
/// The tag of the extension with the vector clock of a stamp. Missing if the stamp has no clock.
pub(crate) const SEEN_TAG: u16 = 2;
/// The tag of the extension with the command of a stamp. Missing if the stamp has no command.
pub(crate) const COMMAND_TAG: u16 = 3;
/// The tag of the extension with the unique keys. The tag 4 is reserved for replication.
pub(crate) const KEYS_TAG: u16 = 5;

/// The fixed part of a record: name and length of each field, in order.
pub(crate) const FIXED: [(&str, usize); 18] = [
    ("record version", 1),
    ("crc32c", 4),
    ("flags", 1),
    ("position", 8),
    ("revision", 8),
    ("event id", 16),
    ("recorded at", 8),
    ("occurred at", 8),
    ("schema version", 4),
    ("index in commit", 4),
    ("size of commit", 4),
    ("content type", 1),
    ("length of stream", 2),
    ("length of event type", 2),
    ("number of tags", 2),
    ("length of metadata", 4),
    ("length of payload", 4),
    ("length of extensions", 4),
];

/// The length of the fixed part.
pub(crate) const FIXED_LEN: usize = {
    let (mut sum, mut field) = (0, 0);
    while field < FIXED.len() {
        sum += FIXED[field].1;
        field += 1;
    }
    sum
};
const _: () = assert!(FIXED_LEN == 85);
const _: () = assert!(CHECKED_FROM == FIXED[0].1 + FIXED[1].1);

/// The variable part of a record: name and length of each field, in order.
#[cfg(test)]
pub(crate) const VARIABLE: [(&str, &str); 8] = [
    ("correlation id", "16, if flag `0x01`"),
    ("causation id", "16, if flag `0x02`"),
    ("media type", "1 + n, if the content type is 0: length `u8`, text"),
    ("stream", "given"),
    ("event type", "given"),
    ("tags", "per tag 2 + n: length `u16`, text; ascending, without duplicates"),
    ("metadata", "given: JSON object, empty for none"),
    ("payload", "given"),
];

/// The indexes of the fields in [`FIXED`].
pub(super) const FLAGS: usize = 2;
pub(super) const POSITION: usize = 3;
pub(super) const REVISION: usize = 4;
pub(super) const EVENT_ID: usize = 5;
pub(super) const RECORDED: usize = 6;
pub(super) const OCCURRED: usize = 7;
pub(super) const SCHEMA_VERSION: usize = 8;
pub(super) const PART_INDEX: usize = 9;
pub(super) const PART_SIZE: usize = 10;
pub(super) const CONTENT: usize = 11;
pub(super) const STREAM_LEN: usize = 12;
pub(super) const TYPE_LEN: usize = 13;
pub(super) const TAG_COUNT: usize = 14;
pub(super) const METADATA_LEN: usize = 15;
pub(super) const PAYLOAD_LEN: usize = 16;
pub(super) const EXTENSIONS_LEN: usize = 17;

/// The offsets of the fields that the writer fills, in the order of [`FIXED`].
pub(super) const POSITION_AT: usize = start_of(POSITION);
pub(super) const REVISION_AT: usize = start_of(REVISION);
pub(super) const RECORDED_AT: usize = start_of(RECORDED);
pub(super) const OCCURRED_AT: usize = start_of(OCCURRED);

/// Returns the offset of a field of the fixed part.
const fn start_of(field: usize) -> usize {
    let (mut start, mut before) = (0, 0);
    while before < field {
        start += FIXED[before].1;
        before += 1;
    }
    start
}

/// Returns a field of the fixed part by its index in [`FIXED`]. The compiler checks its length.
pub(super) fn field<const FIELD: usize, const LEN: usize>(fixed: &[u8; FIXED_LEN]) -> [u8; LEN] {
    const { assert!(FIXED[FIELD].1 == LEN) };
    let start = const { start_of(FIELD) };
    let mut bytes = [0; LEN];
    bytes.copy_from_slice(&fixed[start..start + LEN]);
    bytes
}

/// The version of a tombstone, its first byte.
pub(crate) const TOMBSTONE_VERSION: u8 = 2;

/// The fixed part of a tombstone: name and length of each field, in order. The name of the stream follows.
pub(crate) const TOMBSTONE_FIELDS: [(&str, usize); 9] = [
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

/// The length of the fixed part of a tombstone.
pub(crate) const TOMBSTONE_LEN: usize = start_in_tombstone(TOMBSTONE_FIELDS.len());
const _: () = assert!(TOMBSTONE_LEN == 55);

/// The offsets of position, revision and recorded time in a tombstone, which the writer fills.
pub(super) const TOMBSTONE_NUMBERS_AT: (usize, usize, usize) =
    (start_in_tombstone(2), start_in_tombstone(3), start_in_tombstone(5));

/// Returns the offset of a field of a tombstone.
const fn start_in_tombstone(field: usize) -> usize {
    let (mut start, mut before) = (0, 0);
    while before < field {
        start += TOMBSTONE_FIELDS[before].1;
        before += 1;
    }
    start
}
