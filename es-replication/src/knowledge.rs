//! [`Knowledge`]: what a node knows of each origin, with exceptions.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::ops::RangeInclusive;

use es_core::model::{Dot, OriginId, VectorClock};

use crate::ranges::RangeSet;

/// What a node knows: a vector clock with exceptions.
///
/// Every event that the clock includes is accounted for. The node has it, it was removed, or it is *withheld*: a filter
/// excluded it, on a link of the node or on one that its peers use. Withheld events may arrive later.
///
/// See Malkhi and Terry 2005, "Concise Version Vectors in WinFS".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Knowledge {
    clock: VectorClock,
    /// The withheld sequences of each origin. Without empty sets.
    withheld: BTreeMap<OriginId, RangeSet>,
    /// The origins of which the node has none of the withheld events.
    exact: BTreeSet<OriginId>,
}

impl Knowledge {
    /// The maximum number of ranges of withheld events of one origin that a node stores and sends. If there are more,
    /// the first ones are joined; the node then finds out from its rows which events between them it has.
    pub const MAX_RANGES: usize = 16;

    /// Returns the knowledge of no event.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns for each origin the last event that is accounted for.
    #[must_use]
    pub const fn clock(&self) -> &VectorClock {
        &self.clock
    }

    /// Returns `true` if an event is accounted for and not withheld. `false` does not mean that the node lacks the
    /// event: a range of withheld events can include some that the node has.
    #[must_use]
    pub fn holds(&self, dot: Dot) -> bool {
        self.clock.includes(dot) && !self.is_withheld(dot)
    }

    /// Returns the sequences of an origin whose events may be withheld, as ascending ranges.
    pub fn withheld(&self, origin: OriginId) -> impl Iterator<Item = RangeInclusive<u64>> {
        self.ranges(origin).into_iter().flat_map(RangeSet::iter).map(|(first, last)| first..=last)
    }

    /// Returns the number of events that may be withheld. A node can have some of them: see
    /// [`MAX_RANGES`](Self::MAX_RANGES).
    #[must_use]
    pub fn withheld_events(&self) -> u64 {
        self.withheld.values().map(RangeSet::count).fold(0, u64::saturating_add)
    }

    /// Adds withheld sequences of an origin, as far as the clock includes them.
    pub fn withhold(&mut self, origin: OriginId, sequences: RangeInclusive<u64>) {
        let through = self.through(origin);
        let (first, last) = ((*sequences.start()).max(1), (*sequences.end()).min(through));
        if first <= last {
            self.withheld.entry(origin).or_default().insert(first, last);
            self.exact.remove(&origin);
        }
    }

    /// Declares that the node has none of the events that it [withholds](Self::withheld) of an origin. Has no effect if
    /// it withholds none. A node that leaves the group declares it, because events that it may have delay it.
    pub fn declare_exact(&mut self, origin: OriginId) {
        if self.withheld.contains_key(&origin) {
            self.exact.insert(origin);
        }
    }

    /// Returns `true` if the node has [declared](Self::declare_exact) that it has none of the events that it withholds
    /// of an origin.
    #[must_use]
    pub fn is_exact(&self, origin: OriginId) -> bool {
        self.exact.contains(&origin)
    }

    /// Adds what another node knows: an event is withheld if neither node has it.
    pub fn merge(&mut self, other: &Self) {
        let mut clock = self.clock.clone();
        clock.merge(&other.clock);
        let both = |dot: Dot| (dot.origin, self.lacking(dot).intersection(&other.lacking(dot)));
        let withheld = clock.iter().map(both).filter(|(_, ranges)| !ranges.is_empty()).collect();
        *self = Self { clock, withheld, exact: BTreeSet::new() };
    }

    /// Returns the sequences of an origin up to `last` that are withheld or not accounted for.
    pub(crate) fn lacking(&self, last: Dot) -> RangeSet {
        let mut lacking = self.ranges(last.origin).cloned().unwrap_or_default();
        let through = self.through(last.origin);
        if through < last.sequence.get() {
            lacking.insert(through + 1, last.sequence.get());
        }
        lacking
    }

    /// Returns the last sequence of an origin that is accounted for, or 0.
    pub(crate) fn through(&self, origin: OriginId) -> u64 {
        self.clock.get(origin).map_or(0, NonZeroU64::get)
    }

    pub(crate) fn is_withheld(&self, Dot { origin, sequence }: Dot) -> bool {
        self.ranges(origin).is_some_and(|ranges| ranges.contains(sequence.get()))
    }

    /// Returns the withheld sequences of an origin, if there are any.
    pub(crate) fn ranges(&self, origin: OriginId) -> Option<&RangeSet> {
        self.withheld.get(&origin)
    }

    /// Adds what is known of an origin.
    pub(crate) fn insert(&mut self, through: Dot, withheld: RangeSet) {
        self.clock.extend([through]);
        self.exact.remove(&through.origin);
        if !withheld.is_empty() {
            self.withheld.insert(through.origin, withheld);
        }
    }

    /// Adds an event that the node has. The events of its origin before it are accounted for.
    pub(crate) fn add(&mut self, dot: Dot) {
        self.clock.extend([dot]);
        self.clear(dot.origin, dot.sequence.get(), dot.sequence.get());
    }

    /// Removes sequences of an origin from the withheld ones.
    pub(crate) fn clear(&mut self, origin: OriginId, first: u64, last: u64) {
        if let Some(ranges) = self.withheld.get_mut(&origin) {
            ranges.remove(first, last);
            if ranges.is_empty() {
                self.withheld.remove(&origin);
                self.exact.remove(&origin);
            }
        }
    }

    /// Returns for each origin the last event before the first withheld one. The node has every event up to it, except
    /// those that were removed.
    pub(crate) fn prefix(&self) -> VectorClock {
        let prefix = |dot: Dot| {
            let first = self.ranges(dot.origin).and_then(|ranges| ranges.iter().next()).map(|(first, _)| first);
            let last = first.map_or(dot.sequence.get(), |first| first - 1);
            Some(Dot { sequence: NonZeroU64::new(last)?, ..dot })
        };
        self.clock.iter().filter_map(prefix).collect()
    }

    /// Returns the number of events that `other` has and that are not accounted for here. A hostile member can report
    /// any sequences.
    pub(crate) fn missing_events(&self, other: &Self) -> u64 {
        let missing = other.clock.iter().filter(|dot| !self.clock.includes(*dot)).map(|dot| {
            let mut missing = RangeSet::of(self.through(dot.origin) + 1, dot.sequence.get());
            other.ranges(dot.origin).into_iter().for_each(|withheld| missing.remove_all(withheld));
            missing.count()
        });
        missing.fold(0, u64::saturating_add)
    }
}

impl From<VectorClock> for Knowledge {
    /// Returns the knowledge of a node that has every event of a clock.
    fn from(clock: VectorClock) -> Self {
        Self { clock, withheld: BTreeMap::new(), exact: BTreeSet::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(origin: u64, sequence: u64) -> Dot {
        Dot { origin: OriginId::new(origin), sequence: sequence.try_into().expect("from 1") }
    }

    fn known(through: &[(u64, u64)], withheld: &[(u64, RangeInclusive<u64>)]) -> Knowledge {
        let clock = through.iter().map(|(origin, through)| dot(*origin, *through)).collect::<VectorClock>();
        let mut knowledge = Knowledge::from(clock);
        withheld.iter().for_each(|(origin, range)| knowledge.withhold(OriginId::new(*origin), range.clone()));
        knowledge
    }

    #[test]
    fn a_withheld_event_is_accounted_for_and_not_held() {
        let mut knowledge = known(&[(1, 9), (2, 3)], &[(1, 4..=6), (2, 3..=7)]);
        assert!(knowledge.clock().includes(dot(1, 5)) && !knowledge.holds(dot(1, 5)));
        assert!(knowledge.holds(dot(1, 3)) && knowledge.holds(dot(1, 7)) && !knowledge.holds(dot(1, 10)));
        assert_eq!(knowledge.withheld(OriginId::new(2)).collect::<Vec<_>>(), [3..=3], "only up to the clock");
        assert_eq!(
            (knowledge.withheld_events(), knowledge.prefix()),
            (4, [dot(1, 3), dot(2, 2)].into_iter().collect())
        );
        knowledge.add(dot(1, 5));
        assert_eq!(knowledge, known(&[(1, 9), (2, 3)], &[(1, 4..=4), (1, 6..=6), (2, 3..=3)]));
        knowledge.clear(OriginId::new(2), 1, 9);
        assert_eq!(knowledge, known(&[(1, 9), (2, 3)], &[(1, 4..=4), (1, 6..=6)]));
    }

    #[test]
    fn merged_nodes_withhold_what_neither_has() {
        let one = known(&[(1, 9), (2, 3)], &[(1, 4..=6), (2, 1..=3)]);
        let other = known(&[(1, 5), (3, 2)], &[(1, 2..=4), (3, 1..=1)]);
        let expected = known(&[(1, 9), (2, 3), (3, 2)], &[(1, 4..=4), (1, 6..=6), (2, 1..=3), (3, 1..=1)]);
        for (mut merged, added) in [(one.clone(), other.clone()), (other, one)] {
            merged.merge(&added);
            assert_eq!(merged, expected);
        }
    }

    #[test]
    fn a_withheld_event_is_not_missing() {
        let own = known(&[(1, 4)], &[(1, 2..=3)]);
        assert_eq!(own.missing_events(&known(&[(1, 9)], &[])), 5);
        assert_eq!(own.missing_events(&known(&[(1, 9), (2, 2)], &[(1, 3..=6), (2, 1..=1)])), 4);
        let all = known(&[(1, u64::MAX), (2, u64::MAX)], &[]);
        assert_eq!((own.missing_events(&all), all.missing_events(&all)), (u64::MAX, 0));
        assert_eq!(own.missing_events(&known(&[(1, 4)], &[])), 0);
    }
}
