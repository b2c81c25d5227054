//! [`Moment`]: a date or a time, as it is given on the command line, in a request or in a file.

use std::str::FromStr;

use chrono::{Days, NaiveDate, NaiveTime, TimeDelta};
use es_core::Timestamp;
use es_core::model::{ParseTimeError, parse_time};
use serde::Deserialize;

use crate::domain::Invalid;

/// A date (`YYYY-MM-DD`, in UTC) or a time (RFC 3339, at most 6 decimals, no leap second).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Moment {
    /// A date.
    Day(NaiveDate),
    /// A time, in whole microseconds.
    At(Timestamp),
}

impl Moment {
    /// Returns the time itself, or the first microsecond of the date.
    #[must_use]
    pub fn start(self) -> Timestamp {
        match self {
            Self::Day(day) => day.and_time(NaiveTime::MIN).and_utc(),
            Self::At(time) => time,
        }
    }

    /// Returns the time itself, or the last microsecond of the date.
    #[must_use]
    pub fn end(self) -> Timestamp {
        match self {
            Self::Day(_) => self.start() + Days::new(1) - TimeDelta::microseconds(1),
            Self::At(time) => time,
        }
    }
}

impl TryFrom<String> for Moment {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl FromStr for Moment {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::new("a date (YYYY-MM-DD) or a time (RFC 3339, 2016-07-04T09:30:00Z)", text);
        // chrono would also accept 2016-7-4 and +12016-07-04.
        if text.len() == "YYYY-MM-DD".len() {
            return NaiveDate::parse_from_str(text, "%Y-%m-%d").map(Self::Day).map_err(|_| invalid());
        }
        // A time that the store would change is refused: more decimals than microseconds, or a leap second.
        parse_time(text).map(Self::At).map_err(|error| match error {
            ParseTimeError::TooPrecise { .. } => Invalid::new("a time with at most 6 decimals", text),
            ParseTimeError::LeapSecond { .. } => Invalid::new("a time that is not in a leap second", text),
            _ => invalid(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Moment {
        text.parse().expect("a moment")
    }

    #[test]
    fn a_day_lasts_from_midnight_to_the_last_microsecond() {
        let day = moment("2024-02-29");
        assert_eq!(day.start().to_rfc3339(), "2024-02-29T00:00:00+00:00");
        assert_eq!(day.end().to_rfc3339(), "2024-02-29T23:59:59.999999+00:00");
    }

    #[test]
    fn a_time_is_converted_to_utc_in_microseconds() {
        let time = moment("2016-07-04T01:30:00.123456+02:00");
        assert_eq!(time.start().to_rfc3339(), "2016-07-03T23:30:00.123456+00:00");
        assert_eq!(time.start(), time.end());
    }

    /// Regression: nanoseconds were truncated, and a leap second became the next second, without a message.
    #[test]
    fn a_time_that_the_store_would_change_is_refused() {
        let error = |text: &str| text.parse::<Moment>().expect_err("an error").to_string();
        assert!(error("2016-07-04T01:30:00.1234567Z").starts_with("expected a time with at most 6 decimals, found"));
        assert!(error("2016-12-31T23:59:60Z").starts_with("expected a time that is not in a leap second, found"));
    }

    #[test]
    fn other_formats_are_rejected() {
        for text in ["", "2016-13-01", "2016-02-30", "2016-7-04", "04/07/2016", "2016-07-04 ", "2016-07-04T09:30:00"] {
            assert!(text.parse::<Moment>().is_err(), "{text:?}");
        }
    }
}
