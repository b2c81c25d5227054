//! [`Revision`], the number of an event in its stream, [`Position`], its number in the log, and [`ExpectedRevision`].

use std::fmt;
use std::num::{NonZeroU64, ParseIntError};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The number of an event in its stream. The first is 0, and there are no gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(u64);

impl Revision {
    /// The revision of a stream's first event.
    pub const FIRST: Self = Self(0);

    /// Returns the revision with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number, from 0.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the revision after this one. Saturates at the maximum, which no event has.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Returns the revision before this one, or `None` for the first revision.
    pub(crate) const fn previous(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Returns the revision of the next event in a stream whose last event has the revision `last`.
    #[must_use]
    pub const fn following(last: Option<Self>) -> Self {
        match last {
            Some(last) => last.next(),
            None => Self::FIRST,
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Revision {
    type Err = ParseIntError;
    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        plain(text)?.parse().map(Self)
    }
}

/// Refuses a number with a sign, such as `+5`, or with leading zeros. Each number has one text form, as in JSON.
fn plain(text: &str) -> Result<&str, ParseIntError> {
    let has_leading_zero = text.len() > 1 && text.starts_with('0');
    // There is no other way to make the error of an invalid digit.
    if has_leading_zero || text.starts_with('+') { "+".parse::<u64>().map(|_| text) } else { Ok(text) }
}

/// The number of an event in the whole log of a store. The first is 1, and there are no gaps.
///
/// The one writer of a store assigns positions at commit. They become visible in order and are never reused, so a
/// reader that has read up to a position has seen every event up to it. The position before the first event is
/// `None::<Position>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(NonZeroU64);

impl Position {
    /// The position of the first event of a log.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// Returns the position with this number, or `None` for 0.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Returns the number, from 1.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// Returns the position after this one. Saturates at the maximum, which no event has.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Returns the position before this one, or `None` for the first position.
    #[must_use]
    pub const fn previous(self) -> Option<Self> {
        Self::new(self.0.get() - 1)
    }

    /// Returns the position of the next event in a log whose last event has the position `last`.
    #[must_use]
    pub const fn following(last: Option<Self>) -> Self {
        match last {
            Some(last) => last.next(),
            None => Self::FIRST,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Position {
    type Err = ParseIntError;
    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        plain(text)?.parse().map(Self)
    }
}

/// The state that a writer expects of a stream when its commit is decided. The store rejects the commit in any other
/// state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExpectedRevision {
    /// Any state: the stream may or may not exist.
    Any,
    /// The stream does not exist, or its events were deleted.
    NoStream,
    /// The stream has at least one event.
    StreamExists,
    /// The last event of the stream has this revision.
    Exact(Revision),
}

impl ExpectedRevision {
    /// Returns `true` if a stream whose last event has the revision `actual` meets the expectation.
    #[must_use]
    pub fn is_met_by(self, actual: Option<Revision>) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => actual.is_none(),
            Self::StreamExists => actual.is_some(),
            Self::Exact(expected) => actual == Some(expected),
        }
    }

    /// Returns the expectation that a stream has not changed since it was loaded.
    #[must_use]
    pub fn unchanged(loaded: Option<Revision>) -> Self {
        loaded.map_or(Self::NoStream, Self::Exact)
    }
}

impl fmt::Display for ExpectedRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any revision"),
            Self::NoStream => f.write_str("no stream"),
            Self::StreamExists => f.write_str("an existing stream"),
            Self::Exact(revision) => write!(f, "revision {revision}"),
        }
    }
}

/// Formats an actual revision for error messages: `revision 3`, or `no stream`.
pub(crate) fn found(actual: Option<Revision>) -> String {
    ExpectedRevision::unchanged(actual).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_expectation_is_met_only_by_the_states_that_it_names() {
        let (none, first, second) = (None, Some(Revision::FIRST), Some(Revision::new(1)));
        let met = |expected: ExpectedRevision| [none, first, second].map(|actual| expected.is_met_by(actual));
        assert_eq!(met(ExpectedRevision::Any), [true, true, true]);
        assert_eq!(met(ExpectedRevision::NoStream), [true, false, false]);
        assert_eq!(met(ExpectedRevision::StreamExists), [false, true, true]);
        assert_eq!(met(ExpectedRevision::Exact(Revision::FIRST)), [false, true, false]);
        assert_eq!(met(ExpectedRevision::unchanged(second)), [false, false, true]);
        assert_eq!(met(ExpectedRevision::unchanged(none)), [true, false, false]);
    }

    #[test]
    fn a_number_has_one_text_form() {
        for text in ["+5", "05", "00", "-0", "", " 5", "5 ", "1e3", "18446744073709551616"] {
            assert!(text.parse::<Revision>().is_err() && text.parse::<Position>().is_err(), "{text:?}");
        }
        assert_eq!(("0".parse(), "50".parse()), (Ok(Revision::FIRST), Ok(Revision::new(50))));
        assert!("0".parse::<Position>().is_err());
    }

    #[test]
    fn positions_start_at_one() {
        assert_eq!(Position::new(0), None);
        assert_eq!(Position::following(None), Position::FIRST);
        assert_eq!(Position::FIRST.previous(), None);
        assert_eq!(Position::FIRST.next().previous(), Some(Position::FIRST));
    }

    /// Regression: the revision after the maximum wrapped to 0 in a release build, and panicked in a debug build.
    #[test]
    fn revisions_and_positions_saturate() {
        let last = Revision::new(u64::MAX);
        assert_eq!((last.next(), Revision::following(Some(last))), (last, last));
        let last = Position::new(u64::MAX);
        assert_eq!(last.map(Position::next), last);
    }
}
