//! [`Version`]: which events the state of an aggregate contains, as a text that can be compared.

use std::fmt;
use std::str::FromStr;

use crate::model::Revision;

/// Identifies the events that a state of an aggregate contains. Two states of one aggregate with equal versions are equal.
///
/// It is for comparison only, for example as an `ETag`: versions have no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// Where the events of the stream have one order.
    Revision(Revision),
}

impl From<Revision> for Version {
    /// The version of an aggregate whose events have one order.
    fn from(revision: Revision) -> Self {
        Self(Kind::Revision(revision))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Revision(revision) => fmt::Display::fmt(&revision, f),
        }
    }
}

/// A text that is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a version of an aggregate, found {found:?}")]
pub struct VersionError {
    /// The text.
    pub found: String,
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        match text.parse() {
            Ok(number) => Ok(Revision::new(number).into()),
            Err(_) => Err(VersionError { found: text.to_owned() }),
        }
    }
}
