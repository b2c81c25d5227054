//! [`VectorClock`]: for each origin, the last event that a node has recorded.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::model::{Dot, OriginId};

/// For each origin, the sequence number of the last event that a node has recorded. An origin without an entry has
/// none.
///
/// See Fidge 1988 and Mattern 1989.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VectorClock(BTreeMap<OriginId, NonZeroU64>);

/// The causal relation of two vector clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Causality {
    /// The second clock includes all events of the first, and more.
    Before,
    /// Both clocks include the same events.
    Equal,
    /// The first clock includes all events of the second, and more.
    After,
    /// Each clock includes an event that the other does not.
    Concurrent,
}

impl VectorClock {
    /// Returns the clock that includes no event.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the last sequence number of an origin.
    #[must_use]
    pub fn get(&self, origin: OriginId) -> Option<NonZeroU64> {
        self.0.get(&origin).copied()
    }

    /// Returns `true` if the clock includes an event.
    #[must_use]
    pub fn includes(&self, dot: Dot) -> bool {
        self.get(dot.origin) >= Some(dot.sequence)
    }

    /// Returns the last dot of each origin, in the order of the origins.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Dot> {
        self.0.iter().map(|(origin, sequence)| Dot { origin: *origin, sequence: *sequence })
    }

    /// Compares two clocks.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Causality {
        let within_other = self.iter().all(|dot| other.includes(dot));
        let includes_other = other.iter().all(|dot| self.includes(dot));
        match (within_other, includes_other) {
            (true, true) => Causality::Equal,
            (true, false) => Causality::Before,
            (false, true) => Causality::After,
            (false, false) => Causality::Concurrent,
        }
    }

    /// Adds the events that another clock includes.
    pub fn merge(&mut self, other: &Self) {
        self.extend(other.iter());
    }
}

impl Extend<Dot> for VectorClock {
    /// Adds each dot, which implies the earlier events of its origin.
    fn extend<I: IntoIterator<Item = Dot>>(&mut self, dots: I) {
        for Dot { origin, sequence } in dots {
            let last = self.0.entry(origin).or_insert(sequence);
            *last = sequence.max(*last);
        }
    }
}

impl FromIterator<Dot> for VectorClock {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut clock = Self::new();
        clock.extend(dots);
        clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(sequences: [u64; 3]) -> VectorClock {
        let dots = (1..).zip(sequences).filter_map(|(origin, sequence)| {
            Some(Dot { origin: OriginId::new(origin), sequence: NonZeroU64::new(sequence)? })
        });
        dots.collect()
    }

    /// Returns all clocks over three origins with sequences up to 2.
    fn all() -> Vec<VectorClock> {
        (0..27).map(|n| clock([n % 3, n / 3 % 3, n / 9])).collect()
    }

    fn merged(one: &VectorClock, other: &VectorClock) -> VectorClock {
        let mut merged = one.clone();
        merged.merge(other);
        merged
    }

    #[test]
    fn a_clock_has_the_greatest_sequence_of_each_origin() {
        let dot = |origin, sequence| Dot {
            origin: OriginId::new(origin),
            sequence: NonZeroU64::new(sequence).expect("from 1"),
        };
        let clock: VectorClock = [dot(1, 3), dot(2, 1), dot(1, 2)].into_iter().collect();
        assert!(clock.iter().eq([dot(1, 3), dot(2, 1)]));
        assert!(clock.includes(dot(1, 1)) && clock.includes(dot(1, 3)));
        assert!(!clock.includes(dot(1, 4)) && !clock.includes(dot(3, 1)));
        assert_eq!(clock.get(OriginId::new(3)), None);
    }

    #[test]
    fn a_comparison_is_a_partial_order() {
        for one in &all() {
            assert_eq!(one.compare(one), Causality::Equal);
            for other in &all() {
                let mirrored = match other.compare(one) {
                    Causality::Before => Causality::After,
                    Causality::After => Causality::Before,
                    same => same,
                };
                assert_eq!(one.compare(other), mirrored);
                assert_eq!(one.compare(other) == Causality::Equal, one == other);
                for third in &all() {
                    if one.compare(other) == Causality::Before && other.compare(third) == Causality::Before {
                        assert_eq!(one.compare(third), Causality::Before);
                    }
                }
            }
        }
        assert_eq!(clock([1, 0, 0]).compare(&clock([0, 1, 0])), Causality::Concurrent);
    }

    #[test]
    fn a_merge_is_the_least_clock_that_includes_both() {
        let is_within =
            |one: &VectorClock, other: &VectorClock| matches!(one.compare(other), Causality::Before | Causality::Equal);
        for one in &all() {
            assert_eq!(merged(one, one), *one);
            for other in &all() {
                let both = merged(one, other);
                assert_eq!(both, merged(other, one));
                assert!(is_within(one, &both) && is_within(other, &both));
                for third in &all() {
                    assert_eq!(merged(&both, third), merged(one, &merged(other, third)));
                    if is_within(one, third) && is_within(other, third) {
                        assert!(is_within(&both, third));
                    }
                }
            }
        }
    }
}
