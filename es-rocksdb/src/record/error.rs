//! [`RecordError`]: why bytes are not fields of a record.

use es_core::model::{ErrorChain, MetadataError, NameError, OriginId};
use es_core::store::MAX_ORIGINS;

/// Bytes that are not fields of a record, or an event that cannot be stored as a record. A read reports it as a
/// damaged store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("expected {expected} bytes for the {field}, found {found}")]
    Length { field: &'static str, expected: usize, found: usize },
    #[error("expected a {field} below {max}, found {max}", max = u64::MAX)]
    NoNext { field: &'static str },
    #[error("expected UTF-8 in the {field}, found other bytes")]
    NotUtf8 { field: &'static str },
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("expected a time in the {field}, found {found} microseconds")]
    Time { field: &'static str, found: i64 },
    #[error("expected metadata that can be read back, found: {}", ErrorChain(.0))]
    Metadata(MetadataError),
    #[error("expected a claim (1) or a release (2) of a unique key, found code {found}")]
    KeyCode { found: u8 },
    #[error("expected extensions in ascending order of their tags without duplicates, found tag {found} after {last}")]
    ExtensionOrder { found: u16, last: u16 },
    #[error("expected the end of the extension with tag {tag}, found {found} more bytes")]
    ExtensionTrailing { tag: u16, found: usize },
    #[error("expected an extension with tag 1 before the one with tag {tag}, found none")]
    ExtensionWithoutStamp { tag: u16 },
    #[error("expected a sequence number from 1, found 0")]
    SequenceZero,
    #[error("expected at most {MAX_ORIGINS} origins in the vector clock, found {found}")]
    TooManyOrigins { found: u64 },
    #[error("expected origins in ascending order without duplicates, found {found} after {last}")]
    OriginOrder { found: OriginId, last: OriginId },
    #[error("expected a varint of at most 64 bits in its shortest form in the {field}, found another encoding")]
    Varint { field: &'static str },
    #[error("expected at most {max} in the {field}, found {found}")]
    TooLarge { field: &'static str, max: u64, found: usize },
    #[error("expected a tombstone without a stamp, found a stamp")]
    StampedTombstone,
}
