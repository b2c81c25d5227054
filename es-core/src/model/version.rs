//! [`Version`]: identifies the events that the state of an aggregate contains.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::model::{Revision, VectorClock};

/// Identifies the events that the state of an aggregate contains, for example as an `ETag`. If two states of one
/// aggregate have equal versions, they contain the same events. Versions have no order.
///
/// The version is the revision of the last event if the level of the aggregate has [one order](crate::model::OneOrder),
/// or if the store is not replicated. Otherwise it is a digest of the last event of each origin, which is the same on
/// every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Revision(Revision),
    Digest(Uuid),
}

/// The prefix of the text form of a digest. No revision begins with it.
const DIGEST: &str = "v";
/// The UUID namespace of the digests, chosen at random.
const NAMESPACE: Uuid = Uuid::from_u128(0x5e1d_97f3_6c1b_4a0e_8f52_b1c0_6a7d_93e4);

impl Version {
    /// Returns the version of a state that contains, for each origin, its events up to the one in the clock.
    pub(crate) fn of_origins(origins: &VectorClock) -> Self {
        let dots = origins.iter().flat_map(|dot| [dot.origin.get(), dot.sequence.get()]);
        let bytes: Vec<u8> = dots.flat_map(u64::to_be_bytes).collect();
        Self(Kind::Digest(Uuid::new_v5(&NAMESPACE, &bytes)))
    }
}

impl From<Revision> for Version {
    /// Returns the version of an aggregate whose last event has this revision.
    fn from(revision: Revision) -> Self {
        Self(Kind::Revision(revision))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Revision(revision) => fmt::Display::fmt(&revision, f),
            Kind::Digest(digest) => write!(f, "{DIGEST}{}", digest.simple()),
        }
    }
}

/// A text could not be parsed as a [`Version`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a version of an aggregate, found {found:?}")]
pub struct VersionError {
    /// The text.
    pub found: String,
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let kind = match text.strip_prefix(DIGEST) {
            Some(digest) => Uuid::try_parse(digest).ok().map(Kind::Digest),
            None => text.parse().ok().map(Kind::Revision),
        };
        // Each version has one text form: "+3" and "03" are rejected.
        let version = kind.map(Self).filter(|version| version.to_string() == text);
        version.ok_or_else(|| VersionError { found: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::model::{Dot, OriginId};

    fn origins(sequences: &[(u64, u64)]) -> VectorClock {
        let dots = sequences.iter().map(|(origin, sequence)| Dot {
            origin: OriginId::new(*origin),
            sequence: NonZeroU64::new(*sequence).expect("from 1"),
        });
        dots.collect()
    }

    #[test]
    fn a_version_round_trips_as_text() {
        let revision = Version::from(Revision::new(3));
        assert_eq!(revision.to_string(), "3");
        let digest = Version::of_origins(&origins(&[(1, 2), (7, 1)]));
        assert_eq!((digest.to_string().len(), &digest.to_string()[..1]), (33, "v"));
        for version in [revision, digest] {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
        for text in ["", "-1", "+3", "03", "v", "v3", "x", "v00000000-0000-0000-0000-000000000000"] {
            assert_eq!(text.parse::<Version>(), Err(VersionError { found: text.to_owned() }));
        }
    }

    #[test]
    fn a_digest_depends_only_on_the_last_event_of_each_origin() {
        let version = |sequences: &[(u64, u64)]| Version::of_origins(&origins(sequences));
        assert_eq!(version(&[(1, 1), (7, 1), (1, 2)]), version(&[(7, 1), (1, 2)]));
        assert_ne!(version(&[(1, 2), (7, 1)]), version(&[(1, 1), (7, 2)]));
        assert_ne!(version(&[(1, 2)]), version(&[(1, 2), (7, 1)]));
    }
}
