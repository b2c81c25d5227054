//! [`InFlight`]: one checkpoint over events that are finished in any order.

use std::collections::BTreeSet;

use crate::model::Position;

/// ReplaySelection events have been taken from the log and are not finished, and which are finished ahead of the
/// checkpoint.
///
/// The checkpoint stands before the first event that is not finished, and never goes back. Who begins anew behind the
/// checkpoint, and leaves out what is finished ahead of it, meets every event that is not finished, and no other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct InFlight {
    /// Up to where the log has been looked at.
    scanned: Option<Position>,
    open: BTreeSet<Position>,
    /// What is finished behind the checkpoint.
    ahead: BTreeSet<Position>,
}

impl InFlight {
    /// As it was when these were written.
    pub(crate) fn restore(checkpoint: Option<Position>, ahead: impl IntoIterator<Item = Position>) -> Self {
        let mut restored = Self { scanned: checkpoint, open: BTreeSet::new(), ahead: ahead.into_iter().collect() };
        restored.trim();
        restored
    }

    /// Takes an event from the log. `false` where it is finished already.
    pub(crate) fn take(&mut self, position: Position) -> bool {
        let is_new = Some(position) > self.scanned && !self.ahead.contains(&position);
        is_new && self.open.insert(position)
    }

    /// Everything up to here has been looked at, and what matches has been taken.
    pub(crate) fn scanned_to(&mut self, position: Option<Position>) {
        self.scanned = self.scanned.max(position);
        self.trim();
    }

    /// An event that was taken is finished.
    pub(crate) fn finish(&mut self, position: Position) {
        if self.open.remove(&position) {
            self.ahead.insert(position);
            self.trim();
        }
    }

    /// Everything up to here is finished.
    pub(crate) fn checkpoint(&self) -> Option<Position> {
        match self.open.first() {
            // NOTE: between two reads `scanned` is never behind what was taken; within one it is.
            Some(first) => first.previous(),
            None => self.scanned,
        }
    }

    /// Up to where the log has been looked at.
    pub(crate) fn scanned(&self) -> Option<Position> {
        self.scanned
    }

    /// What is finished behind the checkpoint, in order.
    pub(crate) fn ahead(&self) -> &BTreeSet<Position> {
        &self.ahead
    }

    /// How many more events may be taken, so that no more than `capacity` are open or finished ahead.
    pub(crate) fn room(&self, capacity: usize) -> usize {
        let room = capacity.saturating_sub(self.open.len() + self.ahead.len());
        // NOTE: what is finished ahead can fill a capacity that was made smaller; one event at a time then closes the
        // gap.
        if self.open.is_empty() { room.max(1) } else { room }
    }

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
        Position::new(number).expect("not zero")
    }

    #[test]
    fn the_checkpoint_waits_for_the_first_and_passes_what_does_not_match() {
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
    }

    #[test]
    fn what_was_finished_ahead_fills_no_capacity_for_ever() {
        let mut in_flight = InFlight::restore(None, (2..=9).map(at));
        assert_eq!(in_flight.room(4), 1);
        assert!(in_flight.take(at(1)));
        in_flight.scanned_to(Some(at(1)));
        assert_eq!(in_flight.room(4), 0);
        in_flight.finish(at(1));
        assert_eq!((in_flight.room(4), in_flight.ahead().len()), (1, 8));
        assert!(!in_flight.take(at(2)));
        in_flight.scanned_to(Some(at(2)));
        assert_eq!(in_flight.ahead().len(), 7);
    }

    /// Random orders of finishing, with restarts from what would have been written at random moments: no event is lost,
    /// none that a written state calls finished comes again, and the checkpoint never goes back.
    #[test]
    fn no_event_is_passed_and_none_comes_again() {
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
        let limit = usize::try_from(limit).expect("small").min(in_flight.room(16));
        let scanned = in_flight.scanned();
        let batch: Vec<Position> = matching.iter().filter(|p| Some(**p) > scanned).take(limit).copied().collect();
        let to = if batch.len() == limit { batch.last().copied().or(scanned) } else { Some(at(60)) };
        for position in batch {
            assert_eq!(in_flight.take(position), !finished.contains(&position));
        }
        in_flight.scanned_to(to);
    }
}
