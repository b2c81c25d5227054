//! [`GroupState`]: the state of each event of a group, as a synchronous state machine without clock and store.
//!
//! ```text
//!               take            deliver                 ack
//!   log  ---->  waiting  ---------------->  delivered ------->  finished: the checkpoint may pass it
//!                  ^                            |
//!                  +------ nack or timeout -----+  last attempt, or `Park`
//!                  |       (after a pause)      v
//!                  +-------- replay -------  parked: the checkpoint may pass it, and an operator replays or skips it
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::consumer::group::in_flight::InFlight;
use crate::consumer::group::rows::{Parked, Skipped, Stored};
use crate::consumer::group::settlement::{Settlement, shorten};
use crate::model::Position;
use crate::model::{EventId, Timestamp};

/// The limits of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupBounds {
    /// Whether the events of each key are delivered in order.
    pub(crate) is_ordered: bool,
    /// The largest number of events after the checkpoint.
    pub(crate) capacity: usize,
    /// The number of deliveries before an event is parked.
    pub(crate) attempts: u32,
    /// The largest number of parked events.
    pub(crate) parked: usize,
    /// The time after which a delivery counts as failed.
    pub(crate) answer_within: Option<Duration>,
}

/// The current time of two clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// The monotonic time, for pauses and deadlines.
    pub(crate) elapsed: Duration,
    /// The wall-clock time, for reports.
    pub(crate) time: Timestamp,
}

/// An event that enters the state; `T` is the content of a delivery.
#[derive(Debug, Clone)]
pub(crate) struct ReadEvent<T> {
    pub(crate) position: Position,
    pub(crate) id: EventId,
    pub(crate) key: String,
    pub(crate) content: T,
}

/// A delivery of an event to a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dispatch<T> {
    pub(crate) position: Position,
    /// The unique number of the delivery.
    pub(crate) ticket: u64,
    /// The number of the attempt, from 1. Attempts that a crash interrupted are not counted.
    pub(crate) attempt: u32,
    pub(crate) content: T,
}

/// The delivery has timed out. The event is delivered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLate;

/// The parked events to replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReplaySelection {
    /// The first ones in the order of the log, up to this number.
    First(usize),
    /// All events of this key.
    Key(String),
}

/// The treatment of a failed event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterFailure {
    Retry,
    Park,
}

/// Changes that must be written, in addition to [`Stored`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Positions whose row of a parked event must be written or removed.
    pub(crate) parked: BTreeSet<Position>,
    pub(crate) skipped: Vec<Skipped>,
}

#[derive(Debug)]
struct Entry<T> {
    id: EventId,
    key: Arc<str>,
    content: T,
    /// Whether it is a replay of a parked event, which the checkpoint has passed.
    is_replay: bool,
    status: EntryStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryStatus {
    Waiting { not_before: Duration },
    Delivered { ticket: u64, until: Option<Duration> },
}

/// The state of a group. See [the module](self).
#[derive(Debug)]
pub(crate) struct GroupState<T> {
    bounds: GroupBounds,
    in_flight: InFlight,
    /// The waiting and the delivered events, from the log and from replays.
    entries: BTreeMap<Position, Entry<T>>,
    /// The positions in `entries`, by key.
    keys: HashMap<Arc<str>, BTreeSet<Position>>,
    /// The number of failures of each unfinished event.
    failures: BTreeMap<Position, u32>,
    parked: BTreeMap<Position, Parked>,
    parked_keys: HashMap<String, BTreeSet<Position>>,
    is_paused: bool,
    /// Whether the group delivers no more events.
    is_closing: bool,
    /// The number of the last delivery.
    last_ticket: u64,
    changes: Changes,
    /// The number of the last change that must be written.
    change: u64,
}

impl<T: Clone> GroupState<T> {
    /// Restores the state from the stored rows.
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
            last_ticket: 0,
            changes: Changes::default(),
            change: 0,
        };
        for parked in parked {
            state.parked_keys.entry(parked.key.clone()).or_default().insert(parked.position);
            state.parked.insert(parked.position, parked);
        }
        state
    }

    /// Returns the number of events that may be taken from the log.
    pub(crate) fn remaining_capacity(&self) -> usize {
        self.in_flight.remaining_capacity(self.bounds.capacity)
    }

    /// Takes events from the log, in order. `scanned` is the position up to which the log was scanned for them.
    pub(crate) fn take(&mut self, events: impl IntoIterator<Item = ReadEvent<T>>, scanned: Option<Position>, now: Now) {
        for event in events {
            if self.in_flight.take(event.position) {
                self.enter(event, false);
            }
        }
        self.in_flight.scanned_to(scanned);
        self.park_blocked(now);
    }

    /// Returns at most `limit` parked events to replay next, whose content must be read from the log. As many replays
    /// are in memory at a time as events of the log may be after the checkpoint.
    pub(crate) fn replays_to_read(&self, limit: usize) -> Vec<Position> {
        let in_memory = self.entries.values().filter(|entry| entry.is_replay).count();
        let limit = limit.min(self.bounds.capacity.saturating_sub(in_memory));
        let is_next = |parked: &&Parked| {
            let first = self.parked_keys.get(&parked.key).and_then(BTreeSet::first);
            parked.replaying
                && !self.entries.contains_key(&parked.position)
                && (!self.bounds.is_ordered || first == Some(&parked.position))
        };
        self.parked.values().filter(is_next).map(|parked| parked.position).take(limit).collect()
    }

    /// Takes a parked event for a replay.
    pub(crate) fn take_replay(&mut self, event: ReadEvent<T>) {
        let is_replaying = self.parked.get(&event.position).is_some_and(|parked| parked.replaying);
        if is_replaying && !self.entries.contains_key(&event.position) {
            self.failures.remove(&event.position);
            self.enter(event, true);
        }
    }

    /// Delivers the next event that is ready, if there is one.
    pub(crate) fn deliver(&mut self, now: Duration) -> Option<Dispatch<T>> {
        if self.is_paused || self.is_closing {
            return None;
        }
        let position = self.entries.iter().find(|(position, entry)| self.is_ready(**position, entry, now))?.0;
        let position = *position;
        self.last_ticket += 1;
        let ticket = self.last_ticket;
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

    /// Records the result of a delivery. Returns the sequence number of this change of the state. `pause` maps the
    /// number of failures to the pause before the next attempt.
    ///
    /// # Errors
    /// [`TooLate`] if the event was delivered again or settled since.
    pub(crate) fn settle(
        &mut self,
        position: Position,
        ticket: u64,
        settlement: Settlement,
        now: Now,
        pause: &dyn Fn(u32) -> Duration,
    ) -> Result<u64, TooLate> {
        let status = self.entries.get(&position).map(|entry| entry.status);
        if !matches!(status, Some(EntryStatus::Delivered { ticket: current, .. }) if current == ticket) {
            return Err(TooLate);
        }
        match settlement.shortened() {
            Settlement::Ack => self.finish(position),
            Settlement::Skip(reason) => self.skip(position, reason, now),
            Settlement::Retry(reason) => {
                let failures = self.count_failure(position);
                let is_last_attempt = failures >= self.bounds.attempts;
                let action = if is_last_attempt { AfterFailure::Park } else { AfterFailure::Retry };
                self.retry_or_park(position, action, reason, now, pause(failures));
            }
            Settlement::Park(reason) => {
                let failures = self.count_failure(position);
                self.retry_or_park(position, AfterFailure::Park, reason, now, pause(failures));
            }
        }
        // The end of a replay makes room for a blocked event, also if no event can be taken from the log.
        self.park_blocked(now);
        self.change += 1;
        Ok(self.change)
    }

    /// Fails the deliveries whose time is over.
    pub(crate) fn expire(&mut self, now: Now, pause: &dyn Fn(u32) -> Duration) {
        let expired_ticket = |entry: &Entry<T>| match entry.status {
            EntryStatus::Delivered { ticket, until: Some(until) } if until <= now.elapsed => Some(ticket),
            _ => None,
        };
        let expired: Vec<_> =
            self.entries.iter().filter_map(|(position, entry)| Some((*position, expired_ticket(entry)?))).collect();
        let limit = self.bounds.answer_within.unwrap_or_default();
        for (position, ticket) in expired {
            let settlement = Settlement::Retry(format!("not settled within {limit:?}"));
            // Cannot be too late: the delivery is open.
            let _ = self.settle(position, ticket, settlement, now, pause);
        }
    }

    /// Returns the earliest end of a pause or deadline of a delivery.
    pub(crate) fn next_deadline(&self, now: Duration) -> Option<Duration> {
        let deadlines = self.entries.values().filter_map(|entry| match entry.status {
            EntryStatus::Waiting { not_before } => Some(not_before).filter(|end| *end > now && !self.is_paused),
            EntryStatus::Delivered { until, .. } => until,
        });
        deadlines.min()
    }

    /// Marks parked events for a replay, and returns their number.
    pub(crate) fn replay(&mut self, selection: &ReplaySelection) -> usize {
        let all = self.parked.values();
        let selected: Vec<Position> = match selection {
            ReplaySelection::First(number) => all.map(|parked| parked.position).take(*number).collect(),
            ReplaySelection::Key(key) => self.parked_keys.get(key).into_iter().flatten().copied().collect(),
        };
        for position in &selected {
            if let Some(parked) = self.parked.get_mut(position) {
                parked.replaying = true;
                self.changes.parked.insert(*position);
            }
        }
        self.change += 1;
        selected.len()
    }

    /// Skips a parked event, and returns the number of the change; `None` if it is not parked, or is delivered at this
    /// time.
    pub(crate) fn skip_parked(&mut self, position: Position, reason: String, now: Now) -> Option<u64> {
        let is_delivered = |entry: &Entry<T>| matches!(entry.status, EntryStatus::Delivered { .. });
        if !self.parked.contains_key(&position) || self.entries.get(&position).is_some_and(is_delivered) {
            return None;
        }
        self.skip(position, shorten(reason), now);
        self.park_blocked(now);
        self.change += 1;
        Some(self.change)
    }

    /// Pauses or resumes the deliveries, and returns the number of the change.
    pub(crate) fn set_paused(&mut self, is_paused: bool) -> u64 {
        self.is_paused = is_paused;
        self.change += 1;
        self.change
    }

    /// Stops the deliveries for a shutdown.
    pub(crate) fn begin_to_close(&mut self) {
        self.is_closing = true;
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Returns the value of the state row. [`restore`](Self::restore) continues with it and the rows of the parked
    /// events.
    pub(crate) fn stored(&self) -> Stored {
        let checkpoint = self.in_flight.checkpoint();
        let is_unfinished = |position: &Position| self.entries.get(position).is_some_and(|entry| !entry.is_replay);
        // After a restart, an event that has not been read again keeps its number of failures.
        let is_kept = |position: &Position| is_unfinished(position) || Some(*position) > self.in_flight.scanned();
        Stored {
            checkpoint,
            ahead: self.in_flight.ahead().iter().copied().collect(),
            failures: self.failures.iter().filter(|(position, _)| is_kept(position)).map(|(p, n)| (*p, *n)).collect(),
            paused: self.is_paused,
            ..Stored::default()
        }
    }

    /// Takes the changes that must be written in addition to [`stored`](Self::stored).
    pub(crate) fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Restores changes that could not be written.
    pub(crate) fn restore_changes(&mut self, changes: Changes) {
        self.changes.parked.extend(changes.parked);
        self.changes.skipped.splice(0..0, changes.skipped);
    }

    /// Returns the number of the last change that must be written.
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

    /// Returns the number of delivered events that are not settled.
    pub(crate) fn delivered(&self) -> usize {
        self.entries.values().filter(|entry| matches!(entry.status, EntryStatus::Delivered { .. })).count()
    }

    /// Returns the number of events that wait for a delivery.
    pub(crate) fn waiting(&self) -> usize {
        self.entries.len() - self.delivered()
    }

    /// Adds a waiting event.
    fn enter(&mut self, event: ReadEvent<T>, is_replay: bool) {
        let ReadEvent { position, id, key, content } = event;
        let key: Arc<str> = key.into();
        self.keys.entry(Arc::clone(&key)).or_default().insert(position);
        let status = EntryStatus::Waiting { not_before: Duration::ZERO };
        self.entries.insert(position, Entry { id, key, content, is_replay, status });
    }

    /// Removes a waiting or delivered event.
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

    /// Marks an event as finished.
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

    fn count_failure(&mut self, position: Position) -> u32 {
        let failures = self.failures.entry(position).or_default();
        *failures = failures.saturating_add(1);
        *failures
    }

    fn retry_or_park(&mut self, position: Position, action: AfterFailure, reason: String, now: Now, pause: Duration) {
        let Some(entry) = self.entries.get_mut(&position) else { return };
        let is_park = action == AfterFailure::Park;
        if is_park && entry.is_replay {
            self.park_replay(position, reason, now);
        } else if is_park && self.parked.len() < self.bounds.parked {
            self.park(position, reason, None, false, now);
        } else {
            // If no more events can be parked, a failing event is retried without limit and holds the checkpoint.
            entry.status = EntryStatus::Waiting { not_before: now.elapsed.saturating_add(pause) };
        }
    }

    fn park(&mut self, position: Position, reason: String, waits_for: Option<Position>, replaying: bool, now: Now) {
        let failures = self.failures.get(&position).copied().unwrap_or(0);
        let Some(entry) = self.leave(position) else { return };
        self.in_flight.finish(position);
        let (event_id, key) = (entry.id, entry.key.as_ref().to_owned());
        self.parked_keys.entry(key.clone()).or_default().insert(position);
        let parked = Parked { position, event_id, key, reason, failures, waits_for, replaying, parked_at: now.time };
        self.parked.insert(position, parked);
        self.changes.parked.insert(position);
        self.change += 1;
    }

    /// Keeps a parked event parked after its replay failed. In an ordered group the later events of its key stay parked
    /// too.
    fn park_replay(&mut self, position: Position, reason: String, now: Now) {
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
            (parked.reason, parked.waits_for, parked.parked_at) = (reason, None, now.time);
        }
    }

    /// Parks the waiting events whose key has a parked event, up to the largest number of parked events.
    fn park_blocked(&mut self, now: Now) {
        if !self.bounds.is_ordered || self.parked.is_empty() {
            return;
        }
        let is_blocked = |entry: &Entry<T>| {
            !entry.is_replay
                && matches!(entry.status, EntryStatus::Waiting { .. })
                && self.parked_keys.contains_key(&*entry.key)
        };
        let limit = self.bounds.parked.saturating_sub(self.parked.len());
        let blocked = self.entries.iter().filter(|(_, entry)| is_blocked(entry)).take(limit);
        let blocked: Vec<_> = blocked.map(|(position, entry)| (*position, Arc::clone(&entry.key))).collect();
        for (position, key) in blocked {
            let Some(of_key) = self.parked_keys.get(&*key) else { continue };
            let (first, last) = (of_key.first().copied(), of_key.last());
            // An event that arrives during the replay of its key joins the replay. Otherwise a key with frequent events
            // would stay parked for ever.
            let replaying = last.and_then(|last| self.parked.get(last)).is_some_and(|parked| parked.replaying);
            let reason = first.map_or_else(String::new, |first| format!("waits for position {first} of its key"));
            self.park(position, reason, first, replaying, now);
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
