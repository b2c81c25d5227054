//! [`TraceParent`]: the position of a request in a distributed trace.

use std::fmt;
use std::str::FromStr;

use crate::problem::shortened;

/// A position in a distributed trace: the header `traceparent` (W3C Trace Context, version 00).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// The id of the trace; never 0.
    pub trace_id: u128,
    /// The id of the span of the caller; never 0.
    pub parent_id: u64,
    /// Whether the caller records the trace.
    pub is_sampled: bool,
}

/// A text is not a [`TraceParent`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a traceparent such as 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01, found {found:?}")]
pub struct ParseTraceParentError {
    found: String,
}

impl FromStr for TraceParent {
    type Err = ParseTraceParentError;

    /// Parses version 00, and the fields of a later version that version 00 has.
    fn from_str(text: &str) -> Result<Self, ParseTraceParentError> {
        let parse = || {
            let mut fields = text.split('-');
            let version = hexadecimal(fields.next()?, 2)?;
            let trace_id = hexadecimal(fields.next()?, 32).filter(|id| *id != 0)?;
            let parent_id = u64::try_from(hexadecimal(fields.next()?, 16)?).ok().filter(|id| *id != 0)?;
            let flags = hexadecimal(fields.next()?, 2)?;
            let is_known = version != 0xff && (version > 0 || fields.next().is_none());
            is_known.then_some(Self { trace_id, parent_id, is_sampled: flags & 1 == 1 })
        };
        parse().ok_or_else(|| ParseTraceParentError { found: shortened(text) })
    }
}

/// Parses lower-case digits. A sign, which `from_str_radix` accepts, is no digit.
fn hexadecimal(text: &str, digits: usize) -> Option<u128> {
    let is_valid = text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_valid.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, u8::from(self.is_sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_has_two_ids_that_are_not_zero() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace: TraceParent = text.parse().unwrap();
        assert_eq!(trace.to_string(), text);
        let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more";
        assert_eq!(later.parse(), Ok(trace));
        for invalid in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(invalid.parse::<TraceParent>().is_err(), "{invalid}");
        }
    }
}
