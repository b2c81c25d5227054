//! [`GroupState`]: which event goes to whom, and what becomes of it. Plain: no async, no clock, no store.
//!
//! ```text
//!               take            deliver                 ack
//!   log  ---->  waiting  ---------------->  delivered ------->  finished: the checkpoint may pass it
//!                  ^                            |
//!                  +---- nack, or no answer ----+  too often, or "park"
//!                  |      (after a pause)       v
//!                  +-------- replay -------  parked: the checkpoint may pass it, and it waits for an operator
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::consumer::group::in_flight::InFlight;
use crate::consumer::group::rows::{Parked, Skipped, Stored};
use crate::consumer::group::settlement::{Settlement, shorten};
use crate::model::Position;
use crate::model::{EventId, Timestamp};

/// What bounds a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupBounds {
    /// Whether events of one key are delivered one after the other.
    pub(crate) is_ordered: bool,
    /// How many events are taken from the log and not below the checkpoint.
    pub(crate) capacity: usize,
    /// How often an event is delivered before it is parked.
    pub(crate) attempts: u32,
    /// How many events can be parked.
    pub(crate) parked: usize,
    /// How long a consumer may take to answer.
    pub(crate) answer_within: Option<Duration>,
}

/// The time, as two clocks show it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// For pauses and deadlines.
    pub(crate) elapsed: Duration,
    /// For people.
    pub(crate) time: Timestamp,
}

/// An event on its way into the state; `T` is what a delivery hands on.
#[derive(Debug, Clone)]
pub(crate) struct Arrival<T> {
    pub(crate) position: Position,
    pub(crate) id: EventId,
    pub(crate) key: String,
    pub(crate) content: T,
}

/// An event on its way to a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dispatch<T> {
    pub(crate) position: Position,
    /// Tells this delivery from every other one.
    pub(crate) ticket: u64,
    /// The how many-th time it is delivered, from 1, as far as earlier ones are known to have failed.
    pub(crate) attempt: u32,
    pub(crate) content: T,
}

/// The delivery is not open any more: it took too long, and the event has been given to another, or is about to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLate;

/// ReplaySelection parked events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReplaySelection {
    /// The first so many, in the order of the log.
    First(usize),
    /// All of one key.
    Key(String),
}

/// What must be written, beside the [`Stored`] itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Positions whose row of parked events must be written anew, or removed.
    pub(crate) parked: BTreeSet<Position>,
    pub(crate) skipped: Vec<Skipped>,
}

#[derive(Debug)]
struct Entry<T> {
    id: EventId,
    key: Arc<str>,
    content: T,
    /// It comes from the parked events, which the checkpoint has passed.
    is_replay: bool,
    status: EntryStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryStatus {
    Waiting { not_before: Duration },
    Delivered { ticket: u64, until: Option<Duration> },
}

/// All that a group knows. See [the module](self).
#[derive(Debug)]
pub(crate) struct GroupState<T> {
    bounds: GroupBounds,
    in_flight: InFlight,
    /// What waits or is delivered, from the log and from the parked events.
    entries: BTreeMap<Position, Entry<T>>,
    /// The positions in `entries`, by key.
    keys: HashMap<Arc<str>, BTreeSet<Position>>,
    /// How often an event has failed that is not finished.
    failures: BTreeMap<Position, u32>,
    parked: BTreeMap<Position, Parked>,
    parked_keys: HashMap<String, BTreeSet<Position>>,
    is_paused: bool,
    /// Nothing is delivered any more.
    is_closing: bool,
    tickets: u64,
    changes: Changes,
    /// Counts what must be written soon.
    change: u64,
}

impl<T: Clone> GroupState<T> {
    pub(crate) fn restore(bounds: GroupBounds, stored: &Stored, parked: impl IntoIterator<Item = Parked>) -> Self {
        let mut state = Self {
            bounds,
            in_flight: InFlight::restore(stored.checkpoint, stored.ahead.iter().copied()),
            entries: BTreeMap::new(),
            keys: HashMap::new(),
            failures: stored.failures.iter().copied().collect(),
            parked: BTreeMap::new(),
            parked_keys: HashMap::new(),
            is_paused: stored.paused,
            is_closing: false,
            tickets: 0,
            changes: Changes::default(),
            change: 0,
        };
        for parked in parked {
            state.parked_keys.entry(parked.key.clone()).or_default().insert(parked.position);
            state.parked.insert(parked.position, parked);
        }
        state
    }

    /// How many more events may be taken from the log.
    pub(crate) fn room(&self) -> usize {
        self.in_flight.room(self.bounds.capacity)
    }

    /// Takes events from the log, in order, and notes that all up to `scanned` has been looked at.
    pub(crate) fn take(&mut self, events: impl IntoIterator<Item = Arrival<T>>, scanned: Option<Position>, now: Now) {
        for event in events {
            if self.in_flight.take(event.position) {
                self.enter(event, false);
            }
        }
        self.in_flight.scanned_to(scanned);
        self.park_what_waits_behind(now);
    }

    /// Parked events that are to be delivered again and whose content is needed for that, at most `limit`.
    pub(crate) fn wanted(&self, limit: usize) -> Vec<Position> {
        let is_next = |parked: &&Parked| {
            let first = self.parked_keys.get(&parked.key).and_then(BTreeSet::first);
            parked.replaying
                && !self.entries.contains_key(&parked.position)
                && (!self.bounds.is_ordered || first == Some(&parked.position))
        };
        self.parked.values().filter(is_next).map(|parked| parked.position).take(limit).collect()
    }

    /// Takes a parked event again.
    pub(crate) fn take_again(&mut self, event: Arrival<T>) {
        let is_wanted = self.parked.get(&event.position).is_some_and(|parked| parked.replaying);
        if is_wanted && !self.entries.contains_key(&event.position) {
            self.failures.remove(&event.position);
            self.enter(event, true);
        }
    }

    /// The next event that may be delivered.
    pub(crate) fn deliver(&mut self, now: Duration) -> Option<Dispatch<T>> {
        if self.is_paused || self.is_closing {
            return None;
        }
        let position = self.entries.iter().find(|(position, entry)| self.is_ready(**position, entry, now))?.0;
        let position = *position;
        self.tickets += 1;
        let ticket = self.tickets;
        let until = self.bounds.answer_within.map(|within| now.saturating_add(within));
        let entry = self.entries.get_mut(&position)?;
        entry.status = EntryStatus::Delivered { ticket, until };
        let attempt = self.failures.get(&position).map_or(1, |failures| failures.saturating_add(1));
        Some(Dispatch { position, ticket, attempt, content: entry.content.clone() })
    }

    fn is_ready(&self, position: Position, entry: &Entry<T>, now: Duration) -> bool {
        let EntryStatus::Waiting { not_before } = entry.status else { return false };
        let is_first = || self.keys.get(&entry.key).and_then(BTreeSet::first) == Some(&position);
        let is_blocked = || !entry.is_replay && self.parked_keys.contains_key(&*entry.key);
        not_before <= now && (!self.bounds.is_ordered || (is_first() && !is_blocked()))
    }

    /// Notes what a consumer says. `pause` says how long to wait after so many failures.
    pub(crate) fn settle(
        &mut self,
        position: Position,
        ticket: u64,
        settlement: Settlement,
        now: Now,
        pause: &dyn Fn(u32) -> Duration,
    ) -> Result<u64, TooLate> {
        let open = self.entries.get(&position).map(|entry| entry.status);
        if !matches!(open, Some(EntryStatus::Delivered { ticket: given, .. }) if given == ticket) {
            return Err(TooLate);
        }
        match settlement.shortened() {
            Settlement::Ack => self.finish(position),
            Settlement::Skip(reason) => self.skip(position, reason, now),
            Settlement::Retry(reason) => {
                let failures = self.fail(position);
                self.again_or_park(position, failures >= self.bounds.attempts, reason, now, pause(failures));
            }
            Settlement::Park(reason) => {
                let failures = self.fail(position);
                self.again_or_park(position, true, reason, now, pause(failures));
            }
        }
        self.change += 1;
        Ok(self.change)
    }

    /// Takes back what was not answered in time.
    pub(crate) fn expire(&mut self, now: Now, pause: &dyn Fn(u32) -> Duration) {
        let is_late = |entry: &Entry<T>| match entry.status {
            EntryStatus::Delivered { ticket, until: Some(until) } if until <= now.elapsed => Some(ticket),
            _ => None,
        };
        let late: Vec<_> =
            self.entries.iter().filter_map(|(position, entry)| Some((*position, is_late(entry)?))).collect();
        let within = self.bounds.answer_within.unwrap_or_default();
        for (position, ticket) in late {
            let settlement = Settlement::Retry(format!("no answer within {within:?}"));
            // NOTE: it was delivered a moment ago; there is nobody to tell that it is not.
            let _ = self.settle(position, ticket, settlement, now, pause);
        }
    }

    /// When something can change by itself.
    pub(crate) fn next_moment(&self, now: Duration) -> Option<Duration> {
        let moments = self.entries.values().filter_map(|entry| match entry.status {
            EntryStatus::Waiting { not_before } => Some(not_before).filter(|moment| *moment > now && !self.is_paused),
            EntryStatus::Delivered { until, .. } => until,
        });
        moments.min()
    }

    /// Lets parked events be delivered again. How many there are.
    pub(crate) fn replay(&mut self, which: &ReplaySelection) -> usize {
        let all = self.parked.values();
        let chosen: Vec<Position> = match which {
            ReplaySelection::First(number) => all.map(|parked| parked.position).take(*number).collect(),
            ReplaySelection::Key(key) => self.parked_keys.get(key).into_iter().flatten().copied().collect(),
        };
        for position in &chosen {
            if let Some(parked) = self.parked.get_mut(position) {
                parked.replaying = true;
                self.changes.parked.insert(*position);
            }
        }
        self.change += 1;
        chosen.len()
    }

    /// Gives a parked event up. `None` where it is not parked, or is being delivered at this moment.
    pub(crate) fn skip_parked(&mut self, position: Position, reason: String, now: Now) -> Option<u64> {
        let is_delivered = |entry: &Entry<T>| matches!(entry.status, EntryStatus::Delivered { .. });
        if !self.parked.contains_key(&position) || self.entries.get(&position).is_some_and(is_delivered) {
            return None;
        }
        self.skip(position, shorten(reason), now);
        self.park_what_waits_behind(now);
        self.change += 1;
        Some(self.change)
    }

    /// Stops or begins to deliver.
    pub(crate) fn set_paused(&mut self, is_paused: bool) -> u64 {
        self.is_paused = is_paused;
        self.change += 1;
        self.change
    }

    /// Delivers nothing any more.
    pub(crate) fn begin_to_close(&mut self) {
        self.is_closing = true;
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// What is written: with these and the parked rows, [`restore`](Self::restore) goes on.
    pub(crate) fn stored(&self) -> Stored {
        let checkpoint = self.in_flight.checkpoint();
        let unfinished = |position: &Position| self.entries.get(position).is_some_and(|entry| !entry.is_replay);
        // NOTE: what has not been read again after a restart keeps its failures.
        let counts = |position: &Position| unfinished(position) || Some(*position) > self.in_flight.scanned();
        Stored {
            checkpoint,
            ahead: self.in_flight.ahead().iter().copied().collect(),
            failures: self.failures.iter().filter(|(position, _)| counts(position)).map(|(p, n)| (*p, *n)).collect(),
            paused: self.is_paused,
            ..Stored::default()
        }
    }

    /// Takes what must be written beside [`stored`](Self::stored).
    pub(crate) fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Gives back changes that could not be written.
    pub(crate) fn give_back(&mut self, changes: Changes) {
        self.changes.parked.extend(changes.parked);
        self.changes.skipped.splice(0..0, changes.skipped);
    }

    /// The number of the last change that must be written soon.
    pub(crate) fn change(&self) -> u64 {
        self.change
    }

    pub(crate) fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    pub(crate) fn parked(&self) -> &BTreeMap<Position, Parked> {
        &self.parked
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// How many events are in the hands of consumers.
    pub(crate) fn delivered(&self) -> usize {
        self.entries.values().filter(|entry| matches!(entry.status, EntryStatus::Delivered { .. })).count()
    }

    /// How many events wait to be delivered.
    pub(crate) fn waiting(&self) -> usize {
        self.entries.len() - self.delivered()
    }

    fn enter(&mut self, event: Arrival<T>, is_replay: bool) {
        let Arrival { position, id, key, content } = event;
        let key: Arc<str> = key.into();
        self.keys.entry(Arc::clone(&key)).or_default().insert(position);
        let status = EntryStatus::Waiting { not_before: Duration::ZERO };
        self.entries.insert(position, Entry { id, key, content, is_replay, status });
    }

    /// Takes an event out of the hands of everybody.
    fn leave(&mut self, position: Position) -> Option<Entry<T>> {
        let entry = self.entries.remove(&position)?;
        if let Some(positions) = self.keys.get_mut(&entry.key) {
            positions.remove(&position);
            if positions.is_empty() {
                self.keys.remove(&entry.key);
            }
        }
        self.failures.remove(&position);
        Some(entry)
    }

    fn finish(&mut self, position: Position) {
        self.leave(position);
        self.in_flight.finish(position);
        self.unpark(position);
    }

    fn unpark(&mut self, position: Position) {
        let Some(parked) = self.parked.remove(&position) else { return };
        self.changes.parked.insert(position);
        if let Some(positions) = self.parked_keys.get_mut(&parked.key) {
            positions.remove(&position);
            if positions.is_empty() {
                self.parked_keys.remove(&parked.key);
            }
        }
    }

    fn skip(&mut self, position: Position, reason: String, now: Now) {
        let of_entry = self.entries.get(&position).map(|entry| (entry.id, entry.key.as_ref().to_owned()));
        let of_parked = || self.parked.get(&position).map(|parked| (parked.event_id, parked.key.clone()));
        if let Some((event_id, key)) = of_entry.or_else(of_parked) {
            self.changes.skipped.push(Skipped { position, event_id, key, reason, skipped_at: now.time });
        }
        self.finish(position);
    }

    fn fail(&mut self, position: Position) -> u32 {
        let failures = self.failures.entry(position).or_default();
        *failures = failures.saturating_add(1);
        *failures
    }

    fn again_or_park(&mut self, position: Position, park: bool, reason: String, now: Now, pause: Duration) {
        let Some(entry) = self.entries.get_mut(&position) else { return };
        if park && entry.is_replay {
            self.park_again(position, reason, now);
        } else if park && self.parked.len() < self.bounds.parked {
            self.park(position, reason, None, false, now);
            self.park_what_waits_behind(now);
        } else {
            // NOTE: where nothing more can be parked, a failing event is tried for ever and the checkpoint waits for
            // it.
            entry.status = EntryStatus::Waiting { not_before: now.elapsed.saturating_add(pause) };
        }
    }

    fn park(&mut self, position: Position, reason: String, behind: Option<Position>, replaying: bool, now: Now) {
        let failures = self.failures.get(&position).copied().unwrap_or(0);
        let Some(entry) = self.leave(position) else { return };
        self.in_flight.finish(position);
        let (event_id, key) = (entry.id, entry.key.as_ref().to_owned());
        self.parked_keys.entry(key.clone()).or_default().insert(position);
        let parked = Parked { position, event_id, key, reason, failures, behind, replaying, parked_at: now.time };
        self.parked.insert(position, parked);
        self.changes.parked.insert(position);
        self.change += 1;
    }

    /// A parked event has failed again: it stays, and so do the later ones of its key.
    fn park_again(&mut self, position: Position, reason: String, now: Now) {
        let failures = self.failures.get(&position).copied().unwrap_or(0);
        let Some(entry) = self.leave(position) else { return };
        let later: Vec<Position> = match self.parked_keys.get(&*entry.key) {
            Some(positions) if self.bounds.is_ordered => positions.range(position..).copied().collect(),
            _ => vec![position],
        };
        for position in later {
            if let Some(parked) = self.parked.get_mut(&position) {
                parked.replaying = false;
                self.changes.parked.insert(position);
            }
        }
        if let Some(parked) = self.parked.get_mut(&position) {
            parked.failures = parked.failures.saturating_add(failures);
            (parked.reason, parked.behind, parked.parked_at) = (reason, None, now.time);
        }
    }

    /// Parks what comes behind a parked event of its key, as far as there is room.
    fn park_what_waits_behind(&mut self, now: Now) {
        if !self.bounds.is_ordered || self.parked.is_empty() {
            return;
        }
        let waits = |entry: &Entry<T>| {
            !entry.is_replay
                && matches!(entry.status, EntryStatus::Waiting { .. })
                && self.parked_keys.contains_key(&*entry.key)
        };
        let room = self.bounds.parked.saturating_sub(self.parked.len());
        let behind = self.entries.iter().filter(|(_, entry)| waits(entry));
        let behind: Vec<_> = behind.take(room).map(|(position, entry)| (*position, Arc::clone(&entry.key))).collect();
        for (position, key) in behind {
            let Some(of_key) = self.parked_keys.get(&*key) else { continue };
            let (first, last) = (of_key.first().copied(), of_key.last());
            // NOTE: who comes while its key is being delivered again joins, or a busy key would stay parked for ever.
            let replaying = last.and_then(|last| self.parked.get(last)).is_some_and(|parked| parked.replaying);
            let reason = first.map_or_else(String::new, |first| format!("waits behind position {first} of its key"));
            self.park(position, reason, first, replaying, now);
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
