//! [`State`]: the decisions of a replica, as pure functions of what it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::time::Duration;

use es_core::model::{Category, CommandDigest, CommandId, Dot, HybridTime, OriginId, Stamp, VectorClock};
use es_core::{EventId, StreamId, Timestamp};

use crate::error::Refusal;
use crate::rows::{self, Head, Known};

/// What a replica knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// The origin of the events that this node decides.
    pub(crate) own: OriginId,
    pub(crate) head: Head,
    pub(crate) origins: BTreeMap<OriginId, Known>,
    /// The replicated categories.
    pub(crate) categories: BTreeSet<Category>,
}

/// The answer to a foreign event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The event is new, and everything that it depends on is stored.
    New,
    /// The event was stored before.
    Held,
}

impl State {
    pub(crate) fn replicates(&self, stream: &StreamId) -> bool {
        self.categories.contains(stream.category_str())
    }

    /// Returns the stamps of the events of a local commit, in order; `None` for an event that is not replicated. The
    /// first event of each stream carries the vector clock.
    pub(crate) fn stamps(
        &self,
        streams: &[&StreamId],
        now: Timestamp,
        command: Option<&(CommandId, CommandDigest)>,
    ) -> Vec<Option<Stamp>> {
        let mut sequence = self.origins.get(&self.own).map(|known| known.through);
        let mut time = self.head.time;
        let seen: VectorClock = rows::clock(&self.origins).iter().filter(|dot| dot.origin != self.own).collect();
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
        if sequence.get() <= through {
            return Ok(Admission::Held);
        }
        if origin == self.own {
            return Err(Refusal::OwnOrigin { dot: stamp.dot, through });
        }
        let next = NonZeroU64::MIN.saturating_add(through);
        if sequence != next {
            let missing = Dot { origin, sequence: next };
            return Err(Refusal::Dependency { dot: stamp.dot, missing });
        }
        self.check_causes(stamp)?;
        // Events from before the replication may have equal times; they keep the order of their log.
        let is_after =
            |known: &Known| stamp.time > known.time || origin == OriginId::GENESIS && stamp.time == known.time;
        if !known.is_none_or(is_after) {
            return Err(Refusal::TimeOrder { dot: stamp.dot });
        }
        let limit = now.checked_add_signed(chrono_duration(max_ahead)).unwrap_or(Timestamp::MAX_UTC);
        if stamp.time.physical() > limit {
            return Err(Refusal::ClockAhead { dot: stamp.dot, time: stamp.time.physical(), now });
        }
        Ok(Admission::New)
    }

    /// Checks that everything that the node of an event had seen is stored.
    fn check_causes(&self, stamp: &Stamp) -> Result<(), Refusal> {
        let is_missing =
            |cause: &Dot| self.origins.get(&cause.origin).is_none_or(|known| known.through < cause.sequence);
        match stamp.seen.iter().flat_map(VectorClock::iter).find(is_missing) {
            Some(missing) => Err(Refusal::Dependency { dot: stamp.dot, missing }),
            None => Ok(()),
        }
    }

    /// Adds an event.
    pub(crate) fn record(&mut self, stamp: &Stamp, id: EventId) {
        let known = Known { through: stamp.dot.sequence, time: stamp.time, id: Some(id) };
        let last = self.origins.entry(stamp.dot.origin).or_insert(known);
        if last.through < known.through {
            *last = known;
        }
        self.head.time = self.head.time.max(stamp.time);
    }

    /// Accounts for the events of an origin up to a sequence, of which the last ones were removed.
    pub(crate) fn skip(&mut self, origin: OriginId, through: NonZeroU64) {
        let nothing = Known { through, time: HybridTime::from_bits(0), id: None };
        let known = self.origins.entry(origin).or_insert(nothing);
        if known.through < through {
            *known = Known { through, id: None, ..*known };
        }
    }
}

/// Returns the next time of a hybrid logical clock (Kulkarni et al. 2014).
fn tick(last: HybridTime, now: Timestamp) -> HybridTime {
    HybridTime::at(now).max(HybridTime::from_bits(last.to_bits().saturating_add(1)))
}

fn chrono_duration(duration: Duration) -> chrono::TimeDelta {
    chrono::TimeDelta::from_std(duration).unwrap_or(chrono::TimeDelta::MAX)
}
