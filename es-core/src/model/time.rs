//! [`parse_time`]: a time that a person gives.

use chrono::{DateTime, Timelike, Utc};

use crate::model::Timestamp;

/// A text is not a time that a store keeps unchanged. Correct it and try again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTimeError {
    /// The text is not a time in the format of RFC 3339.
    #[error("expected a time in the format of RFC 3339 such as 2026-01-31T12:00:00Z, found {found:?}")]
    Format {
        /// The beginning of the text.
        found: String,
    },
    /// The time has digits after the microseconds, which a store does not keep.
    #[error("expected a time in microseconds, which has at most 6 decimals, found {found:?}")]
    TooPrecise {
        /// The beginning of the text.
        found: String,
    },
    /// The time is in a leap second, which a store does not keep.
    #[error("expected a time with a second from 0 to 59, found the leap second {found:?}")]
    LeapSecond {
        /// The beginning of the text.
        found: String,
    },
}

/// Parses a time in the format of RFC 3339, and converts it to UTC. As in a line of JSON, a space may be in place of
/// the `T`, and the colon of the offset is optional.
///
/// For times that a person gives: on a command line, in a request, in a table. A time that a store would change is
/// refused. Deserializing a [`Timestamp`] is not so strict: a store truncates it to microseconds, and a leap second
/// becomes the beginning of the next second. [Lines of JSON](crate::schema::line) are read in this way, because they
/// may be the export of another program.
///
/// # Errors
/// [`ParseTimeError`] for another format, for digits after the microseconds that are not zero, and for a leap second.
///
/// ```
/// use es_core::model::{ParseTimeError, parse_time};
/// assert_eq!(parse_time("2026-01-31T13:00:00.25+01:00")?.to_rfc3339(), "2026-01-31T12:00:00.250+00:00");
/// assert!(matches!(parse_time("2026-01-31T12:00:00.1234567Z"), Err(ParseTimeError::TooPrecise { .. })));
/// assert!(matches!(parse_time("2016-12-31T23:59:60Z"), Err(ParseTimeError::LeapSecond { .. })));
/// # Ok::<(), ParseTimeError>(())
/// ```
pub fn parse_time(text: &str) -> Result<Timestamp, ParseTimeError> {
    let found = || text.chars().take(100).collect();
    let Ok(time) = text.parse::<DateTime<Utc>>() else { return Err(ParseTimeError::Format { found: found() }) };
    // chrono adds the leap second to the nanoseconds of the second before.
    if time.nanosecond() >= 1_000_000_000 {
        return Err(ParseTimeError::LeapSecond { found: found() });
    }
    // From the text, because chrono ignores digits after the nanoseconds.
    let decimals = text.split_once('.').map_or("", |(_, decimals)| decimals);
    let mut excess = decimals.bytes().take_while(u8::is_ascii_digit).skip(6);
    if excess.any(|digit| digit != b'0') {
        return Err(ParseTimeError::TooPrecise { found: found() });
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::to_stored_precision;

    /// A time with nanoseconds was truncated, and a leap second became the next second, without a message.
    #[test]
    fn a_time_that_a_store_would_change_is_refused() {
        for text in [
            "2026-01-31T12:00:00Z",
            "2026-01-31t12:00:00.123456+02:00",
            "2026-01-31 12:00:00.3+0600",
            "1969-12-31T23:59:59.999999000000Z",
        ] {
            let time = parse_time(text).expect("a time");
            assert_eq!(time, to_stored_precision(time), "{text}");
        }
        let error = |text: &str| parse_time(text).expect_err("an error").to_string();
        for text in ["2026-01-31T12:00:00.1234567Z", "2026-01-31T12:00:00.0000000001Z"] {
            assert!(error(text).starts_with("expected a time in microseconds"), "{text}");
        }
        for text in ["2016-12-31T23:59:60Z", "2016-12-31T23:59:60.5Z", "2017-01-01T01:59:60+02:00"] {
            assert!(error(text).contains("found the leap second"), "{text}");
        }
        for text in ["", "2026-01-31", "2026-01-31T12:00:00", "2026-01-31T12:00:61Z", "2026-02-30T00:00:00Z", "now"] {
            assert!(error(text).starts_with("expected a time in the format of RFC 3339"), "{text}");
        }
    }
}
