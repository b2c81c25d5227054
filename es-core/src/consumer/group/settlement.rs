//! [`Settlement`]: the answer of a consumer to a delivery.

/// The maximum length of a stored reason, in bytes.
const MAX_REASON_BYTES: usize = 1_000;

/// The answer of a consumer to a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Settlement {
    Ack,
    Retry(String),
    Park(String),
    Skip(String),
}

impl Settlement {
    /// Returns the settlement with a shortened reason.
    pub(crate) fn shortened(self) -> Self {
        match self {
            Self::Ack => Self::Ack,
            Self::Retry(reason) => Self::Retry(shorten(reason)),
            Self::Park(reason) => Self::Park(shorten(reason)),
            Self::Skip(reason) => Self::Skip(shorten(reason)),
        }
    }
}

/// Shortens a reason to [`MAX_REASON_BYTES`] at a character boundary.
pub(crate) fn shorten(mut reason: String) -> String {
    if reason.len() > MAX_REASON_BYTES {
        reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
        reason.push('…');
    }
    reason
}
