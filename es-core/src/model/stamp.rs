//! [`Stamp`]: the replication metadata of an event.
//!
//! Events of a local store have no stamp. For hybrid logical clocks see Kulkarni et al., "Logical Physical Clocks and
//! Consistent Snapshots in Globally Distributed Databases", 2014.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use chrono::DateTime;
use serde::{Deserialize, Serialize};

use crate::model::{CommandId, RecordedEvent, Timestamp, VectorClock};

/// A text could not be parsed as one of the types of a [`Stamp`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct ParseStampError {
    expected: &'static str,
    found: String,
}

impl ParseStampError {
    fn new(expected: &'static str, found: &str) -> Self {
        Self { expected, found: found.to_owned() }
    }
}

/// Implements the text form of a number: 16 hexadecimal digits. A string keeps all 64 bits in JSON readers that parse
/// numbers as floating point.
macro_rules! hexadecimal {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseStampError;
            fn from_str(text: &str) -> Result<Self, ParseStampError> {
                let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                let is_canonical = text.len() == 16 && text.bytes().all(is_digit);
                let number = is_canonical.then(|| u64::from_str_radix(text, 16).ok()).flatten();
                number.map(Self).ok_or_else(|| ParseStampError::new("16 lower-case hexadecimal digits", text))
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseStampError;
            fn try_from(text: String) -> Result<Self, ParseStampError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(number: $name) -> Self {
                number.to_string()
            }
        }
    };
}

/// Identifies one incarnation of a node. The id is a random number; the membership maps it to the name of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct OriginId(u64);

hexadecimal!(OriginId);

impl OriginId {
    /// The origin of events that were recorded before their store became a replica. No node uses it.
    pub const GENESIS: Self = Self(0);

    /// Returns the origin with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The time of a hybrid logical clock: microseconds since 1970 in the upper 52 bits, a counter in the lower 12 bits.
///
/// The hybrid times of one origin strictly increase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct HybridTime(u64);

hexadecimal!(HybridTime);

impl HybridTime {
    const COUNTER_BITS: u32 = 12;
    const MAX_MICROS: u64 = u64::MAX >> Self::COUNTER_BITS;

    /// Returns the hybrid time with these bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns the bits.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// Returns the first hybrid time of a microsecond. Times before 1970 and after the year 2112 saturate.
    #[must_use]
    pub fn at(time: Timestamp) -> Self {
        let micros = u64::try_from(time.timestamp_micros()).unwrap_or(0).min(Self::MAX_MICROS);
        Self(micros << Self::COUNTER_BITS)
    }

    /// Returns the physical part of the time.
    #[must_use]
    pub fn physical(self) -> Timestamp {
        let micros = i64::try_from(self.0 >> Self::COUNTER_BITS).unwrap_or(i64::MAX);
        DateTime::from_timestamp_micros(micros).unwrap_or(Timestamp::MAX_UTC)
    }
}

/// Identifies a replicated event. The sequence numbers of an origin have no gaps and count only replicated events.
///
/// Its text form is the origin, a dot and the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Dot {
    /// The origin.
    pub origin: OriginId,
    /// The number of the event among the replicated events of the origin, from 1.
    pub sequence: NonZeroU64,
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.origin, self.sequence)
    }
}

impl FromStr for Dot {
    type Err = ParseStampError;
    fn from_str(text: &str) -> Result<Self, ParseStampError> {
        let parse = || {
            let (origin, sequence) = text.split_once('.')?;
            Some(Self { origin: origin.parse().ok()?, sequence: sequence.parse().ok()? })
        };
        parse().ok_or_else(|| ParseStampError::new("an origin, a dot and a sequence from 1", text))
    }
}

impl TryFrom<String> for Dot {
    type Error = ParseStampError;
    fn try_from(text: String) -> Result<Self, ParseStampError> {
        text.parse()
    }
}

impl From<Dot> for String {
    fn from(dot: Dot) -> Self {
        dot.to_string()
    }
}

/// A digest of the type and the content of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CommandDigest(u64);

hexadecimal!(CommandDigest);

impl CommandDigest {
    /// Returns the digest with these bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns the bits.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }
}

/// The replication metadata of one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// The identity of the event on all nodes.
    pub dot: Dot,
    /// The hybrid time at which its node decided it.
    pub time: HybridTime,
    /// The events of other origins that the node had recorded when it decided. The origin of the node itself is
    /// omitted, because its entry is always one less than the sequence of the dot. Retired origins are omitted, too:
    /// see [`RetiredOrigins`](crate::model::RetiredOrigins). `None` for an event that shares the clock of the first
    /// event of its commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<VectorClock>,
    /// The id of the command and a digest of it, so that every node can reject another command with the same id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<(CommandId, CommandDigest)>,
}

/// The sort key of the canonical order, which is the same on every node and extends causality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CanonicalKey {
    /// The hybrid time.
    pub time: HybridTime,
    /// The origin, which orders events of the same hybrid time.
    pub origin: OriginId,
}

impl Stamp {
    /// Returns the sort key of the canonical order.
    #[must_use]
    pub const fn canonical_key(&self) -> CanonicalKey {
        CanonicalKey { time: self.time, origin: self.dot.origin }
    }
}

impl RecordedEvent {
    /// Returns the sort key of the canonical order. It is unique among stamped events.
    ///
    /// The key of an event without a stamp consists of its recorded time and [`OriginId::GENESIS`]. Such events keep
    /// the order of the log if their keys are equal.
    #[must_use]
    pub fn canonical_key(&self) -> CanonicalKey {
        let genesis = || CanonicalKey { time: HybridTime::at(self.recorded_at), origin: OriginId::GENESIS };
        self.data.stamp.as_ref().map_or_else(genesis, |stamp| stamp.canonical_key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(origin: u64, sequence: u64) -> Dot {
        Dot { origin: OriginId::new(origin), sequence: NonZeroU64::new(sequence).expect("from 1") }
    }

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn a_hybrid_time_is_ordered_by_its_physical_part_first() {
        let now = time("2026-01-31T12:00:00.000001Z");
        let first = HybridTime::at(now);
        let last_of_now = HybridTime::from_bits(first.to_bits() | 0xfff);
        let next = HybridTime::at(time("2026-01-31T12:00:00.000002Z"));
        assert!(first < last_of_now && last_of_now < next);
        assert_eq!((first.physical(), last_of_now.physical()), (now, now));
    }

    #[test]
    fn a_hybrid_time_saturates() {
        assert_eq!(HybridTime::at(time("1969-12-31T23:59:59Z")), HybridTime::from_bits(0));
        let last = HybridTime::at(Timestamp::MAX_UTC);
        assert_eq!(last.to_bits(), u64::MAX - 0xfff);
        assert_eq!(HybridTime::at(last.physical()), last);
    }

    #[test]
    fn the_canonical_key_orders_by_time_and_then_by_origin() {
        let stamp = |micros: u64, origin: u64| Stamp {
            dot: dot(origin, 1),
            time: HybridTime::from_bits(micros),
            seen: None,
            command: None,
        };
        let mut keys = [stamp(2, 1), stamp(1, 3), stamp(1, 2)].map(|stamp| stamp.canonical_key());
        keys.sort_unstable();
        assert_eq!(keys, [stamp(1, 2), stamp(1, 3), stamp(2, 1)].map(|stamp| stamp.canonical_key()));
    }

    #[test]
    fn a_text_round_trips_and_has_one_canonical_form() {
        let dot = dot(0xa1, 7);
        assert_eq!(dot.to_string(), "00000000000000a1.7");
        assert_eq!(dot.to_string().parse(), Ok(dot));
        for text in ["", "a1", "00000000000000A1", "+0000000000000a1", "00000000000000a1 "] {
            assert!(text.parse::<OriginId>().is_err(), "{text:?}");
        }
        for text in ["00000000000000a1", "00000000000000a1.", "00000000000000a1.0", "a1.1", ".1"] {
            assert!(text.parse::<Dot>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_stamp_round_trips_as_a_json_object() {
        let full = Stamp {
            dot: dot(0xa1, 7),
            time: HybridTime::from_bits(u64::MAX),
            seen: Some([dot(0xa2, 3)].into_iter().collect()),
            command: Some((CommandId::new("request-7").expect("a name"), CommandDigest::from_bits(9))),
        };
        let json = serde_json::to_string(&full).expect("serializes");
        assert_eq!(
            json,
            concat!(
                r#"{"dot":"00000000000000a1.7","time":"ffffffffffffffff","#,
                r#""seen":{"00000000000000a2":3},"command":["request-7","0000000000000009"]}"#
            )
        );
        let bare = Stamp { seen: None, command: None, ..full.clone() };
        let empty = Stamp { seen: Some(VectorClock::new()), ..bare.clone() };
        for stamp in [full, bare, empty] {
            let json = serde_json::to_string(&stamp).expect("serializes");
            assert_eq!(serde_json::from_str::<Stamp>(&json).expect("deserializes"), stamp);
        }
        assert!(serde_json::from_str::<Stamp>(r#"{"dot":"00000000000000a1.7"}"#).is_err());
    }
}
