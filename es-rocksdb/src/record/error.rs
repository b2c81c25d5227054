//! [`RecordError`]: why bytes are not a record.

use es_core::model::{ErrorChain, MetadataError, NameError};

use super::layout::{RECORD_VERSION, TOMBSTONE_VERSION};

/// Bytes that are not a record of this version, or an event that cannot be stored as one. A read reports it as a
/// damaged store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("expected a record of at least {expected} bytes, found {found}")]
    TooShort { expected: usize, found: usize },
    #[error("expected record version {RECORD_VERSION} or {TOMBSTONE_VERSION}, found {found}")]
    Version { found: u8 },
    #[error("expected checksum {expected:08x}, found {found:08x}")]
    Checksum { expected: u32, found: u32 },
    #[error("expected {expected} bytes for the {field}, found {found}")]
    Length { field: &'static str, expected: usize, found: usize },
    #[error("expected the end of the record, found {found} more bytes")]
    Trailing { found: usize },
    #[error("expected flags below 4, found {found}")]
    Flags { found: u8 },
    #[error("expected a position from 1, found 0")]
    PositionZero,
    #[error("expected a {field} below {max}, found {max}", max = u64::MAX)]
    NoNext { field: &'static str },
    #[error("expected a known content type code, found {found}")]
    ContentCode { found: u8 },
    #[error("expected UTF-8 in the {field}, found other bytes")]
    NotUtf8 { field: &'static str },
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("expected tags in ascending order, found {found:?} out of order")]
    TagOrder { found: String },
    #[error("expected a time in the {field}, found {found} microseconds")]
    Time { field: &'static str, found: i64 },
    #[error("expected metadata that can be read back, found: {}", ErrorChain(.0))]
    Metadata(MetadataError),
    #[error("expected a claim (1) or a release (2) of a unique key, found code {found}")]
    KeyCode { found: u8 },
    #[error("expected one extension with unique keys, found two")]
    KeysTwice,
    #[error("expected at most {max} in the {field}, found {found}")]
    TooLarge { field: &'static str, max: u64, found: usize },
    #[error("expected an event without a stamp, found a stamp; this format does not store stamps")]
    Stamped,
}
