//! The errors of the encoding.

use es_core::EventId;

/// Bytes are not a frame, or not a message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("expected a frame of the replication protocol, found other data")]
    Magic,
    #[error("expected version {expected} of the replication protocol, found version {found}")]
    Version { expected: u16, found: u16 },
    #[error("expected a known kind of frame, found {0}")]
    Kind(u8),
    #[error("expected known flags, found {0:#04x}")]
    Flags(u8),
    #[error("expected a frame of at most {max} bytes, found one of {found} bytes")]
    TooLong { max: u32, found: u64 },
    #[error("expected a payload of {expected} bytes, found {found} bytes")]
    Truncated { expected: u32, found: usize },
    #[error("the checksum of the frame does not match its content")]
    Checksum,
    #[error("the compressed payload is damaged")]
    Compression,
    #[error("the payload is not a message")]
    Payload(#[from] prost::DecodeError),
    #[error("expected {expected} as {field}, found {found}")]
    Field { field: &'static str, expected: &'static str, found: String },
}

impl DecodeError {
    /// The maximum length of a value in a message, in characters.
    const MAX_FOUND: usize = 80;

    pub(super) fn field(field: &'static str, expected: &'static str, found: impl std::fmt::Display) -> Self {
        let found = found.to_string().chars().take(Self::MAX_FOUND).collect();
        Self::Field { field, expected, found }
    }
}

/// A message cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EncodeError {
    #[error("a page with one commit needs a frame of more than {max} bytes; raise the limit on both nodes")]
    TooLong { max: u32 },
    #[error("event {0} changes a unique key, which is not replicated")]
    UniqueKey(EventId),
    #[error("event {0} has no stamp, without which it is not replicated")]
    NoStamp(EventId),
    #[error("a commit of the page has no events")]
    EmptyCommit,
    #[error("the token of an answer cannot be encoded")]
    Token,
}
