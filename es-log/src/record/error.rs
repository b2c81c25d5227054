//! [`RecordError`]: why bytes are not a record.

/// Bytes are not a record, or a value cannot be stored as one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A field extends beyond the record.
    #[error("expected {expected} bytes for the {field}, found {found} left")]
    Length {
        /// The field.
        field: &'static str,
        /// The length of the field.
        expected: usize,
        /// The number of bytes that are left.
        found: usize,
    },
    /// The length of the record is out of range.
    #[error("expected a record of 10 bytes to 1 GiB, found a length of {found}")]
    RecordLength {
        /// The length.
        found: usize,
    },
    /// The record was changed, or is in another place than it was written to.
    #[error("expected checksum {expected:08x}, found {found:08x}")]
    Checksum {
        /// The checksum of the bytes, the position and the segment.
        expected: u32,
        /// The checksum in the record.
        found: u32,
    },
    /// The kind of the record is unknown.
    #[error("expected a record kind from 1 to 5, found {found}")]
    Kind {
        /// The kind.
        found: u8,
    },
    /// A flag is unknown.
    #[error("expected known flags, found {found:#04x}")]
    Flags {
        /// All flags of the record.
        found: u8,
    },
    /// A number is out of range, or not in its shortest encoding.
    #[error("expected a number in range in its shortest encoding in the {field}, found another")]
    Number {
        /// The field.
        field: &'static str,
    },
    /// A text is not UTF-8.
    #[error("expected UTF-8 in the {field}, found other bytes")]
    NotUtf8 {
        /// The field.
        field: &'static str,
    },
    /// A flag marks a field that has its default value.
    #[error("expected no {field} with its default value, found one")]
    Redundant {
        /// The field.
        field: &'static str,
    },
    /// The code of the content type is unknown.
    #[error("expected a content type code from 0 to 2, found {found}")]
    ContentCode {
        /// The code.
        found: u8,
    },
    /// Tags are not in ascending order, or one is a duplicate.
    #[error("expected tags in ascending order without duplicates, found {found:?}")]
    TagOrder {
        /// The first tag out of order.
        found: String,
    },
    /// The record has bytes after its last field.
    #[error("expected the end of the record, found {found} more bytes")]
    Trailing {
        /// The number of bytes.
        found: usize,
    },
}
