//! [`Version`]: which events the state of an aggregate contains, as a text that can be compared.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::model::{Revision, VectorClock};

/// Identifies the events that the state of an aggregate contains, for example as an `ETag`. Two states of one aggregate with equal
/// versions contain the same events. Versions have no order.
///
/// For an aggregate whose level has [one order](crate::model::OneOrder), and on a store without replication, it is the revision of the last
/// event. Otherwise it is a digest of the last event of each origin, which is the same on every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Revision(Revision),
    Digest(Uuid),
}

/// The prefix of the text of a digest, which no revision has.
const DIGEST: &str = "v";
/// The namespace of the digests, a random number.
const NAMESPACE: Uuid = Uuid::from_u128(0x5e1d_97f3_6c1b_4a0e_8f52_b1c0_6a7d_93e4);

impl Version {
    /// Returns the version of a state that contains these events of each origin, and the earlier ones.
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

/// A text that is not a [`Version`].
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
        // There is one text for each version: "+3" and "03" are none.
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
    fn a_version_can_be_written_and_read_back() {
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
    fn a_digest_depends_on_the_last_event_of_each_origin_only() {
        let version = |sequences: &[(u64, u64)]| Version::of_origins(&origins(sequences));
        assert_eq!(version(&[(1, 1), (7, 1), (1, 2)]), version(&[(7, 1), (1, 2)]));
        assert_ne!(version(&[(1, 2), (7, 1)]), version(&[(1, 1), (7, 2)]));
        assert_ne!(version(&[(1, 2)]), version(&[(1, 2), (7, 1)]));
    }
}
