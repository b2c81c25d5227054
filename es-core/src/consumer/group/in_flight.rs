//! [`InFlight`]: the checkpoint over events that are finished in any order.

use std::collections::BTreeSet;

use crate::model::Position;

/// The events that were taken from the log and are not finished, and those that are finished after the checkpoint.
///
/// The checkpoint is the position before the first unfinished event. It never moves backward. A reader that starts
/// after the checkpoint and ignores the events that are finished after it gets exactly the unfinished events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct InFlight {
    /// The position up to which the log was scanned.
    scanned: Option<Position>,
    /// The unfinished events.
    open: BTreeSet<Position>,
    /// The finished events after the checkpoint.
    ahead: BTreeSet<Position>,
}

impl InFlight {
    /// Restores the value from a stored checkpoint and the finished events after it.
    pub(crate) fn restore(checkpoint: Option<Position>, ahead: impl IntoIterator<Item = Position>) -> Self {
        let mut restored = Self { scanned: checkpoint, open: BTreeSet::new(), ahead: ahead.into_iter().collect() };
        restored.trim();
        restored
    }

    /// Takes an event from the log. Returns `false` if it is finished already.
    pub(crate) fn take(&mut self, position: Position) -> bool {
        let is_new = Some(position) > self.scanned && !self.ahead.contains(&position);
        is_new && self.open.insert(position)
    }

    /// Records that the log was scanned up to a position and all matching events up to it were taken.
    pub(crate) fn scanned_to(&mut self, position: Option<Position>) {
        self.scanned = self.scanned.max(position);
        self.trim();
    }

    /// Marks an event as finished.
    pub(crate) fn finish(&mut self, position: Position) {
        if self.open.remove(&position) {
            self.ahead.insert(position);
            self.trim();
        }
    }

    /// Returns the position up to which all events are finished.
    pub(crate) fn checkpoint(&self) -> Option<Position> {
        match self.open.first() {
            Some(first) => first.previous(),
            None => self.scanned,
        }
    }

    /// Returns the position up to which the log was scanned.
    pub(crate) fn scanned(&self) -> Option<Position> {
        self.scanned
    }

    /// Returns the finished events after the checkpoint.
    pub(crate) fn ahead(&self) -> &BTreeSet<Position> {
        &self.ahead
    }

    /// Returns the number of events that may be taken before `capacity` events are unfinished or finished after the
    /// checkpoint.
    pub(crate) fn remaining_capacity(&self, capacity: usize) -> usize {
        let remaining = capacity.saturating_sub(self.open.len() + self.ahead.len());
        // After the capacity was reduced, finished events can exceed it. At least one event must then be taken, so that
        // the checkpoint advances.
        if self.open.is_empty() { remaining.max(1) } else { remaining }
    }

    /// Removes the finished events that the checkpoint has passed.
    fn trim(&mut self) {
        let checkpoint = self.checkpoint();
        while self.ahead.first().is_some_and(|first| Some(*first) <= checkpoint) {
            self.ahead.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer::group::random::Random;

    fn at(number: u64) -> Position {
        Position::new(number).expect("a position is not zero")
    }

    #[test]
    fn the_checkpoint_waits_for_the_first_unfinished_event_and_passes_events_that_do_not_match() {
        let mut in_flight = InFlight::restore(Some(at(2)), []);
        assert!(in_flight.take(at(5)) && in_flight.take(at(7)) && in_flight.take(at(8)));
        in_flight.scanned_to(Some(at(20)));
        assert_eq!(in_flight.checkpoint(), Some(at(4)));
        in_flight.finish(at(7));
        assert_eq!((in_flight.checkpoint(), in_flight.ahead().len()), (Some(at(4)), 1));
        in_flight.finish(at(5));
        assert_eq!((in_flight.checkpoint(), in_flight.ahead().len()), (Some(at(7)), 0));
        in_flight.finish(at(8));
        assert_eq!(in_flight.checkpoint(), Some(at(20)));
        assert!(!in_flight.take(at(20)), "the log was scanned up to here");
    }

    #[test]
    fn events_finished_after_the_checkpoint_never_block_the_group() {
        let mut in_flight = InFlight::restore(None, (2..=9).map(at));
        assert_eq!(in_flight.remaining_capacity(4), 1);
        assert!(in_flight.take(at(1)));
        in_flight.scanned_to(Some(at(1)));
        assert_eq!(in_flight.remaining_capacity(4), 0);
        in_flight.finish(at(1));
        assert_eq!((in_flight.remaining_capacity(4), in_flight.ahead().len()), (1, 8));
        assert!(!in_flight.take(at(2)));
        in_flight.scanned_to(Some(at(2)));
        assert_eq!(in_flight.ahead().len(), 7);
    }

    /// Finishes events in random order, and restarts from states that were stored at random times. No event is lost, no
    /// event that is finished in a stored state is taken again, and the checkpoint never moves backward.
    #[test]
    fn no_unfinished_event_is_passed_and_no_finished_event_is_taken_again() {
        for seed in 0..400 {
            let mut random = Random::new(seed);
            let matching: Vec<Position> = (1..=60).filter(|_| random.below(3) > 0).map(at).collect();
            let mut finished: BTreeSet<Position> = BTreeSet::new();
            let mut in_flight = InFlight::default();
            let mut written = (None, BTreeSet::new());
            while in_flight.checkpoint() < Some(at(60)) {
                match random.below(8) {
                    0 => {
                        in_flight = InFlight::restore(written.0, written.1.clone());
                        finished.retain(|position| Some(*position) <= written.0 || written.1.contains(position));
                    }
                    1 => written = (in_flight.checkpoint(), in_flight.ahead().clone()),
                    2..5 => read(&mut in_flight, &matching, 1 + random.below(6), &finished),
                    _ => {
                        let open: Vec<Position> = in_flight.open.iter().copied().collect();
                        if let Some(position) = open.get(random.index(open.len().max(1))) {
                            in_flight.finish(*position);
                            finished.insert(*position);
                        }
                    }
                }
                let checkpoint = in_flight.checkpoint();
                assert!(checkpoint >= written.0, "seed {seed}");
                let passed = matching.iter().filter(|position| Some(**position) <= checkpoint);
                assert!(passed.clone().all(|position| finished.contains(position)), "seed {seed}");
                assert!(in_flight.ahead().iter().all(|position| finished.contains(position)), "seed {seed}");
                assert!(in_flight.open.len() + in_flight.ahead().len() <= 16, "seed {seed}");
            }
            assert_eq!(finished.len(), matching.len(), "seed {seed}");
        }
    }

    fn read(in_flight: &mut InFlight, matching: &[Position], limit: u64, finished: &BTreeSet<Position>) {
        let limit = usize::try_from(limit).expect("the limit is small").min(in_flight.remaining_capacity(16));
        let scanned = in_flight.scanned();
        let batch: Vec<Position> = matching.iter().filter(|p| Some(**p) > scanned).take(limit).copied().collect();
        let to = if batch.len() == limit { batch.last().copied().or(scanned) } else { Some(at(60)) };
        for position in batch {
            assert_eq!(in_flight.take(position), !finished.contains(&position));
        }
        in_flight.scanned_to(to);
    }
}
