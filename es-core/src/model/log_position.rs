//! [`LogPosition`]: a position outside of the process, with the id of its log; and the errors for numbers and times
//! that a log does not have.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::{LogId, Position, Timestamp};

/// A position in the log of a store, for use outside of the process: in a token, an HTTP header, or a checkpoint in
/// another database.
///
/// The same number is another event in another log, and in the log of a restored backup. The id of the log detects
/// both. [`resolve`](Self::resolve) checks a position that a client sends.
///
/// Its text form is `LOG:POSITION`, or only `POSITION` if the log is not known. The position 0 is before the first
/// event.
///
/// ```
/// use es_core::model::{LogId, LogPosition};
/// use es_core::Position;
/// let log_id: LogId = "0198b7a0-2f4a-7c3e-9b1a-5d6e7f809a1b".parse()?;
/// let token = LogPosition::in_log(log_id, Some(Position::FIRST));
/// assert_eq!(token.to_string(), "0198b7a0-2f4a-7c3e-9b1a-5d6e7f809a1b:1");
/// assert_eq!(token.to_string().parse(), Ok(token));
/// assert_eq!("1".parse(), Ok(LogPosition { log_id: None, position: Some(Position::FIRST) }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct LogPosition {
    /// The id of the log; `None` if the position was given as a plain number.
    pub log_id: Option<LogId>,
    /// The position; `None` for the position before the first event.
    pub position: Option<Position>,
}

impl LogPosition {
    /// Returns a position of this log.
    #[must_use]
    pub const fn in_log(log_id: LogId, position: Option<Position>) -> Self {
        Self { log_id: Some(log_id), position }
    }
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(log_id) = self.log_id {
            write!(f, "{log_id}:")?;
        }
        write!(f, "{}", self.position.map_or(0, Position::get))
    }
}

/// A text is not a [`LogPosition`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a position such as 42, or LOG:POSITION with the id of its log, found {found:?}")]
pub struct ParseLogPositionError {
    found: String,
}

impl FromStr for LogPosition {
    type Err = ParseLogPositionError;

    fn from_str(text: &str) -> Result<Self, ParseLogPositionError> {
        let parse = || {
            let (log_id, number) = match text.rsplit_once(':') {
                Some((log_id, number)) => (Some(log_id.parse().ok()?), number),
                None => (None, text),
            };
            Some(Self { log_id, position: position(number)? })
        };
        parse().ok_or_else(|| ParseLogPositionError { found: text.chars().take(100).collect() })
    }
}

/// Parses a position; `Some(None)` for 0, the position before the first event.
fn position(number: &str) -> Option<Option<Position>> {
    if number == "0" { Some(None) } else { number.parse().ok().map(Some) }
}

impl TryFrom<String> for LogPosition {
    type Error = ParseLogPositionError;

    fn try_from(text: String) -> Result<Self, ParseLogPositionError> {
        text.parse()
    }
}

impl From<LogPosition> for String {
    fn from(position: LogPosition) -> Self {
        position.to_string()
    }
}

impl From<Option<Position>> for LogPosition {
    fn from(position: Option<Position>) -> Self {
        Self { log_id: None, position }
    }
}

/// A position is ahead of the log: no event has it yet. A position that a commit or a read of this log returned is
/// never ahead. Start again from the beginning of the log, or from its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "position {position} is ahead of the log, which {}; it comes from another store, or from before this store was \
     restored",
    end_of_log(*.head)
)]
pub struct AheadOfLog {
    /// The given position.
    pub position: Position,
    /// The position of the last event, or `None` if the log is empty.
    pub head: Option<Position>,
}

fn end_of_log(head: Option<Position>) -> String {
    head.map_or_else(|| "is empty".to_owned(), |head| format!("ends at position {head}"))
}

impl AheadOfLog {
    /// Checks that a position is not after the head of a log.
    pub(crate) fn check(position: Option<Position>, head: Option<Position>) -> Result<(), Self> {
        match position {
            Some(position) if Some(position) > head => Err(Self { position, head }),
            _ => Ok(()),
        }
    }
}

/// A position that a client sent is not a position of this log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// The position is ahead of the log.
    #[error(transparent)]
    AheadOfLog(#[from] AheadOfLog),
    /// The position belongs to another log. The store was restored or repaired since, or it is another store. Start
    /// again from the beginning of this log.
    #[error(
        "position {} belongs to log {given}, expected a position of log {expected}; the store was restored or \
         replaced: start again from the beginning of this log",
        .position.map_or(0, Position::get)
    )]
    OtherLog {
        /// The given position.
        position: Option<Position>,
        /// The log of the given position.
        given: LogId,
        /// The log of the store.
        expected: LogId,
    },
}

/// A time is later than the clock and than every recorded time of the log, so the log cannot say what was recorded
/// until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "time {time} is ahead of the log: expected a time up to now, {now}{}",
    .last_recorded.map_or_else(String::new, |last| format!(", or up to the last event, recorded at {last}"))
)]
pub struct TimeAheadOfLog {
    /// The given time.
    pub time: Timestamp,
    /// The time of the clock.
    pub now: Timestamp,
    /// The time at which the last visible event was recorded.
    pub last_recorded: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_position_has_one_text_form() {
        let log_id = LogId::new();
        for (position, text) in [(None, format!("{log_id}:0")), (Position::new(7), format!("{log_id}:7"))] {
            let token = LogPosition::in_log(log_id, position);
            assert_eq!((token.to_string(), text.parse()), (text, Ok(token)));
        }
        for text in ["", "x", "-1", "1:1", ":1", "18446744073709551616", &format!("{log_id}"), &format!("{log_id}:")] {
            let error = text.parse::<LogPosition>().unwrap_err();
            assert!(error.to_string().contains(&format!("found {text:?}")), "{error}");
        }
    }

    #[test]
    fn a_position_after_the_head_is_ahead_of_the_log() {
        let at = Position::new;
        for (position, head) in [(None, None), (None, at(1)), (at(3), at(3)), (at(2), at(3))] {
            assert_eq!(AheadOfLog::check(position, head), Ok(()));
        }
        let ahead = AheadOfLog::check(at(999_999), at(21_166)).unwrap_err().to_string();
        assert!(ahead.starts_with("position 999999 is ahead of the log, which ends at position 21166;"), "{ahead}");
        let ahead = AheadOfLog::check(at(1), None).unwrap_err().to_string();
        assert!(ahead.starts_with("position 1 is ahead of the log, which is empty;"), "{ahead}");
    }
}
