//! [`State`]: the decisions of a replica, as pure functions of what it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use es_core::model::{Category, CommandDigest, CommandId, Dot, HybridTime, OriginId, Stamp, VectorClock};
use es_core::store::implement::is_replicated_stream;
use es_core::{EventId, Position, StreamId, Timestamp};

use crate::error::Refusal;
use crate::group::Group;
use crate::knowledge::Knowledge;
use crate::page::GapReason;
use crate::rows::{self, Gap, Head, Known};

/// What a replica knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// The origin of the events that this node decides.
    pub(crate) own: OriginId,
    pub(crate) head: Head,
    pub(crate) origins: BTreeMap<OriginId, Known>,
    /// The replicated categories.
    pub(crate) categories: BTreeSet<Category>,
    /// The members.
    pub(crate) group: Arc<Group>,
    /// The streams that were erased.
    pub(crate) erased: Arc<BTreeSet<StreamId>>,
}

/// The answer to a foreign event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The event follows the last one of its origin, and everything that it depends on is accounted for.
    New,
    /// The event was withheld, and everything that it depends on is accounted for.
    Late,
    /// The event was stored before.
    Held,
}

impl State {
    pub(crate) fn replicates(&self, stream: &StreamId) -> bool {
        self.categories.contains(stream.category_str()) || is_replicated_stream(stream)
    }

    /// Returns the stamps of the events of a local commit, in order; `None` for an event that is not replicated. The
    /// first event of each stream carries the vector clock. All of them are later than `promised`.
    pub(crate) fn stamps(
        &self,
        streams: &[&StreamId],
        now: Timestamp,
        promised: HybridTime,
        command: Option<&(CommandId, CommandDigest)>,
    ) -> Vec<Option<Stamp>> {
        let mut sequence = self.origins.get(&self.own).map(|known| known.through);
        let mut time = self.head.time.max(promised);
        let seen: VectorClock = rows::clock(&self.origins).iter().filter(|dot| dot.origin != self.own).collect();
        let seen = self.group.compress(&seen);
        let mut clocked = BTreeSet::new();
        let mut stamp = |stream: &StreamId| {
            if !self.replicates(stream) {
                return None;
            }
            let next = sequence.map_or(NonZeroU64::MIN, |last| last.saturating_add(1));
            sequence = Some(next);
            time = tick(time, now);
            let seen = clocked.insert(stream.clone()).then(|| seen.clone());
            Some(Stamp { dot: Dot { origin: self.own, sequence: next }, time, seen, command: command.cloned() })
        };
        streams.iter().map(|stream| stamp(stream)).collect()
    }

    /// Decides on a foreign event at the time `now`.
    ///
    /// # Errors
    /// [`Refusal`] if the event must not be stored.
    pub(crate) fn admit(&self, stamp: &Stamp, now: Timestamp, max_ahead: Duration) -> Result<Admission, Refusal> {
        let Dot { origin, sequence } = stamp.dot;
        let known = self.origins.get(&origin);
        let through = known.map_or(0, |known| known.through.get());
        if sequence.get() <= through && !self.is_withheld(stamp.dot) {
            return Ok(Admission::Held);
        }
        let is_late = sequence.get() <= through;
        if origin == self.own && !is_late {
            return Err(Refusal::OwnOrigin { dot: stamp.dot, through });
        }
        let next = NonZeroU64::MIN.saturating_add(through);
        if sequence != next && !is_late {
            let missing = Dot { origin, sequence: next };
            return Err(Refusal::Dependency { dot: stamp.dot, missing });
        }
        self.check_causes(stamp)?;
        // Events from before the replication may have equal times; they keep the order of their log.
        let is_after =
            |known: &Known| stamp.time > known.time || origin == OriginId::GENESIS && stamp.time == known.time;
        if !is_late && !known.is_none_or(is_after) {
            return Err(Refusal::TimeOrder { dot: stamp.dot });
        }
        let limit = latest(now, max_ahead);
        if stamp.time.physical() > limit {
            return Err(Refusal::ClockAhead { dot: stamp.dot, time: stamp.time.physical(), now });
        }
        Ok(if is_late { Admission::Late } else { Admission::New })
    }

    /// Returns `true` if an event is withheld. The node can have it all the same: see [`Known::withheld`].
    pub(crate) fn is_withheld(&self, Dot { origin, sequence }: Dot) -> bool {
        self.origins.get(&origin).is_some_and(|known| known.withheld.contains(sequence.get()))
    }

    /// Returns the events next to a withheld event that are not withheld: the last one before it, and the first one
    /// after it.
    pub(crate) fn neighbors(&self, Dot { origin, sequence }: Dot) -> [Option<Dot>; 2] {
        let Some(known) = self.origins.get(&origin) else { return [None, None] };
        let Some((first, last)) = known.withheld.range_of(sequence.get()) else { return [None, None] };
        let dot = |sequence| NonZeroU64::new(sequence).map(|sequence| Dot { origin, sequence });
        let after = dot(last.saturating_add(1)).filter(|after| after.sequence <= known.through);
        [dot(first - 1), after.filter(|after| after.sequence.get() > last)]
    }

    /// Checks that everything that the node of an event had seen is accounted for. Withheld causes may arrive later, or
    /// never, so an event does not wait for them. A retired origin that the clock omits is a cause of its retirement,
    /// which the clock includes.
    fn check_causes(&self, stamp: &Stamp) -> Result<(), Refusal> {
        let is_missing =
            |cause: &Dot| self.origins.get(&cause.origin).is_none_or(|known| known.through < cause.sequence);
        match stamp.seen.iter().flat_map(VectorClock::iter).find(is_missing) {
            Some(missing) => Err(Refusal::Dependency { dot: stamp.dot, missing }),
            None => Ok(()),
        }
    }

    /// Adds an event, which is stored at a position.
    pub(crate) fn record(&mut self, stamp: &Stamp, id: EventId, position: Option<Position>) {
        let Dot { origin, sequence } = stamp.dot;
        let known = self.origins.entry(origin).or_insert_with(|| Known::new(sequence));
        if known.through < sequence {
            known.through = sequence;
        } else {
            known.late = known.late.max(position.filter(|_| known.through > sequence));
        }
        if known.through == sequence {
            known.id = Some(id);
        }
        known.time = known.time.max(stamp.time);
        self.head.time = self.head.time.max(stamp.time);
        self.clear(stamp.dot);
    }

    /// Removes an event that the node has from the withheld ones.
    pub(crate) fn clear(&mut self, Dot { origin, sequence }: Dot) {
        if let Some(known) = self.origins.get_mut(&origin) {
            known.withheld.remove(sequence.get(), sequence.get());
            known.withheld.join(Knowledge::MAX_RANGES);
        }
    }

    /// Accounts for the events of a gap. An event that is accounted for does not become withheld.
    pub(crate) fn skip(&mut self, gap: Gap) {
        let Gap { origin, from, through, reason } = gap;
        let last = self.origins.get(&origin).map_or(0, |known| known.through.get());
        let known = self.origins.entry(origin).or_insert_with(|| Known::new(through));
        if last < through.get() {
            (known.through, known.id) = (through, None);
        }
        match reason {
            GapReason::Removed => known.withheld.remove(from.get(), through.get()),
            GapReason::Withheld if last < through.get() => {
                known.withheld.insert(from.get().max(last + 1), through.get());
            }
            GapReason::Withheld => {}
        }
        known.withheld.join(Knowledge::MAX_RANGES);
    }
}

/// Returns the next time of a hybrid logical clock (Kulkarni et al. 2014).
fn tick(last: HybridTime, now: Timestamp) -> HybridTime {
    HybridTime::at(now).max(HybridTime::from_bits(last.to_bits().saturating_add(1)))
}

/// Returns the latest time of another node that is accepted at the time `now`.
pub(crate) fn latest(now: Timestamp, max_ahead: Duration) -> Timestamp {
    let max_ahead = chrono::TimeDelta::from_std(max_ahead).unwrap_or(chrono::TimeDelta::MAX);
    now.checked_add_signed(max_ahead).unwrap_or(Timestamp::MAX_UTC)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::ranges::RangeSet;

    /// What happened to an event, as a model that lists each of them.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Fate {
        Stored,
        Removed,
        Withheld,
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Event(u64),
        Gap(u64, u64, GapReason),
    }

    const ORIGIN: OriginId = OriginId::new(7);

    fn step() -> impl Strategy<Value = Step> {
        let reason = prop_oneof![1 => Just(GapReason::Removed), 4 => Just(GapReason::Withheld)];
        prop_oneof![
            3 => (1..100_u64).prop_map(Step::Event),
            2 => (1..100_u64, 0..3_u64, reason).prop_map(|(from, more, reason)| Step::Gap(from, from + more, reason)),
        ]
    }

    fn stamp(sequence: NonZeroU64) -> Stamp {
        let dot = Dot { origin: ORIGIN, sequence };
        Stamp { dot, time: HybridTime::from_bits(sequence.get()), seen: None, command: None }
    }

    fn empty() -> State {
        let head = Head { generation: 0, time: HybridTime::from_bits(0), position: None };
        let (origins, categories, group) = (BTreeMap::new(), BTreeSet::new(), Arc::default());
        State { own: OriginId::new(1), head, origins, categories, group, erased: Arc::default() }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        /// Events are admitted once, withheld ones too, and every event up to `through` has a fate.
        #[test]
        fn a_state_agrees_with_a_list_of_events(steps in vec(step(), 0..200)) {
            let (mut state, mut fates, mut position) = (empty(), BTreeMap::<u64, Fate>::new(), 0);
            let mut was_joined = false;
            for step in steps {
                let through = fates.len() as u64;
                match step {
                    Step::Event(sequence) => {
                        // An event of the next sequences is likelier to be new.
                        let sequence = sequence.min(through + 2);
                        let stamp = stamp(NonZeroU64::new(sequence).expect("from 1"));
                        let fate = fates.get(&sequence).copied();
                        let admission = state.admit(&stamp, Timestamp::UNIX_EPOCH, Duration::MAX);
                        let expected = match fate {
                            None if sequence == through + 1 => Ok(Admission::New),
                            None => Err(()),
                            Some(Fate::Withheld) => Ok(Admission::Late),
                            // Its row shows that a joined range has it.
                            Some(_) if state.is_withheld(stamp.dot) => Ok(Admission::Late),
                            Some(_) => Ok(Admission::Held),
                        };
                        prop_assert_eq!(admission.map_err(|_| ()), expected);
                        if fate == Some(Fate::Withheld) || expected == Ok(Admission::New) {
                            position += 1;
                            state.record(&stamp, EventId::new(), Position::new(position));
                            fates.insert(sequence, Fate::Stored);
                            let known = &state.origins[&ORIGIN];
                            if sequence < through {
                                prop_assert_eq!(known.late, Position::new(position));
                            }
                        }
                    }
                    Step::Gap(from, last, reason) => {
                        let (from, last) = (from.min(through + 1), last.min(through + 3).max(from.min(through + 1)));
                        let number = |number| NonZeroU64::new(number).expect("from 1");
                        state.skip(Gap { origin: ORIGIN, from: number(from), through: number(last), reason });
                        for sequence in from..=last {
                            match (fates.get(&sequence), reason) {
                                (None | Some(Fate::Withheld), GapReason::Removed) => {
                                    fates.insert(sequence, Fate::Removed);
                                }
                                (None, GapReason::Withheld) => {
                                    fates.insert(sequence, Fate::Withheld);
                                }
                                _ => {}
                            }
                        }
                    }
                }
                let Some(known) = state.origins.get(&ORIGIN) else { continue };
                prop_assert_eq!(known.through.get(), fates.len() as u64);
                prop_assert!(known.withheld.iter().len() <= Knowledge::MAX_RANGES);
                let lists = |fate| {
                    fates.iter().filter(move |(_, found)| **found == fate).map(|(sequence, _)| *sequence)
                };
                for sequence in lists(Fate::Withheld) {
                    prop_assert!(known.withheld.contains(sequence), "{} is lost: {:?}", sequence, known);
                }
                let ranges = lists(Fate::Withheld).fold(RangeSet::default(), |mut set, sequence| {
                    set.insert(sequence, sequence);
                    set
                });
                was_joined |= ranges.iter().len() > Knowledge::MAX_RANGES;
                prop_assert!(was_joined || known.withheld == ranges, "{:?}", known);
                prop_assert_eq!(Known::decode(&known.encode()).expect("a row"), known.clone());
                prop_assert_eq!(known.time.to_bits(), lists(Fate::Stored).max().unwrap_or(0));
                prop_assert_eq!(known.id.is_some(), fates[&known.through.get()] == Fate::Stored);
            }
        }
    }
}
