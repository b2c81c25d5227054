//! Tests of the state of a group: fixed sequences, and random ones with crashes.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::consumer::group::random::Random;

fn at(number: u64) -> Position {
    Position::new(number).expect("a position is not zero")
}

fn now(seconds: u64) -> Now {
    Now { elapsed: Duration::from_secs(seconds), time: Timestamp::UNIX_EPOCH }
}

fn pause(_: u32) -> Duration {
    Duration::from_secs(1)
}

fn bounds(is_ordered: bool) -> GroupBounds {
    GroupBounds { is_ordered, capacity: 8, attempts: 3, parked: 100, answer_within: Some(Duration::from_secs(10)) }
}

fn event(position: u64, key: &str) -> ReadEvent<()> {
    ReadEvent { position: at(position), id: EventId::new(), key: key.to_owned(), content: () }
}

fn state(bounds: GroupBounds, events: &[(u64, &str)]) -> GroupState<()> {
    let mut state = GroupState::restore(bounds, &Stored::default(), []);
    let last = events.last().map(|(position, _)| at(*position));
    state.take(events.iter().map(|(position, key)| event(*position, key)), last, now(0));
    state
}

fn settle(
    state: &mut GroupState<()>,
    dispatch: &Dispatch<()>,
    settlement: Settlement,
    seconds: u64,
) -> Result<u64, TooLate> {
    state.settle(dispatch.position, dispatch.ticket, settlement, now(seconds), &pause)
}

fn positions(state: &mut GroupState<()>, seconds: u64) -> Vec<u64> {
    std::iter::from_fn(|| state.deliver(Duration::from_secs(seconds)).map(|dispatch| dispatch.position.get())).collect()
}

fn parked(state: &GroupState<()>) -> Vec<(u64, u32, Option<u64>, bool)> {
    let row = |p: &Parked| (p.position.get(), p.failures, p.waits_for.map(Position::get), p.replaying);
    state.parked().values().map(row).collect()
}

#[test]
fn an_ordered_group_delivers_one_event_of_a_key_at_a_time() {
    let events = [(1, "a"), (2, "a"), (3, "b"), (4, "a")];
    assert_eq!(positions(&mut state(bounds(false), &events), 0), [1, 2, 3, 4]);
    let mut ordered = state(bounds(true), &events);
    let first = ordered.deliver(Duration::ZERO).expect("an event is ready");
    assert_eq!(positions(&mut ordered, 0), [3]);
    settle(&mut ordered, &first, Settlement::Ack, 0).expect("the delivery is open");
    assert_eq!(positions(&mut ordered, 0), [2]);
    assert_eq!(ordered.stored().checkpoint, Some(at(1)));
}

#[test]
fn a_failing_event_is_retried_after_a_pause_and_parked_after_the_last_attempt() {
    let mut state = state(bounds(false), &[(1, "a"), (2, "a")]);
    for attempt in 1..=3 {
        let seconds = u64::from(attempt) * 5;
        let dispatch = state.deliver(Duration::from_secs(seconds)).expect("the event is ready");
        assert_eq!((dispatch.position, dispatch.attempt), (at(1), attempt));
        settle(&mut state, &dispatch, Settlement::Retry(format!("no {attempt}")), seconds)
            .expect("the delivery is open");
        assert_eq!(state.next_deadline(Duration::from_secs(seconds)).is_some(), attempt < 3);
    }
    assert_eq!(parked(&state), [(1, 3, None, false)]);
    assert_eq!(state.parked()[&at(1)].reason, "no 3");
    assert_eq!(state.stored().checkpoint, Some(at(1)));
    assert_eq!(positions(&mut state, 60), [2], "without order, the other events of the key are delivered");
}

#[test]
fn a_delivery_times_out_and_its_late_settlement_is_rejected() {
    let mut state = state(bounds(true), &[(1, "a")]);
    let first = state.deliver(Duration::ZERO).expect("the event is ready");
    assert_eq!(state.next_deadline(Duration::ZERO), Some(Duration::from_secs(10)));
    state.expire(now(9), &pause);
    assert_eq!(state.delivered(), 1);
    state.expire(now(10), &pause);
    assert_eq!((state.delivered(), state.waiting()), (0, 1));
    assert_eq!(settle(&mut state, &first, Settlement::Ack, 10), Err(TooLate));
    let second = state.deliver(Duration::from_secs(11)).expect("the event is ready again");
    assert_eq!(second.attempt, 2);
    assert_eq!(settle(&mut state, &first, Settlement::Ack, 11), Err(TooLate));
    assert!(settle(&mut state, &second, Settlement::Ack, 11).is_ok());
}

#[test]
fn a_parked_key_parks_its_later_events_and_is_replayed_in_order() {
    let mut state = state(bounds(true), &[(1, "a"), (2, "b"), (3, "a")]);
    let first = state.deliver(Duration::ZERO).expect("the event is ready");
    settle(&mut state, &first, Settlement::Park("broken".into()), 0).expect("the delivery is open");
    state.take([event(4, "a")], Some(at(4)), now(0));
    assert_eq!(parked(&state), [(1, 1, None, false), (3, 0, Some(1), false), (4, 0, Some(1), false)]);
    assert_eq!(positions(&mut state, 0), [2]);
    assert_eq!(state.replays_to_read(9), []);

    assert_eq!(state.replay(&ReplaySelection::Key("a".into())), 3);
    for position in [1, 3] {
        assert_eq!(state.replays_to_read(9), [at(position)]);
        state.take_replay(event(position, "a"));
        let dispatch = state.deliver(Duration::ZERO).expect("the event is ready");
        assert_eq!((dispatch.position.get(), dispatch.attempt), (position, 1));
        if position == 1 {
            state.take([event(5, "a")], Some(at(5)), now(0));
        }
        settle(&mut state, &dispatch, Settlement::Ack, 0).expect("the delivery is open");
    }
    assert_eq!(
        parked(&state),
        [(4, 0, Some(1), true), (5, 0, Some(1), true)],
        "an event that arrives during the replay joins it"
    );
    state.take_replay(event(4, "a"));
    let dispatch = state.deliver(Duration::ZERO).expect("the event is ready");
    settle(&mut state, &dispatch, Settlement::Park("still broken".into()), 0).expect("the delivery is open");
    assert_eq!(parked(&state), [(4, 1, None, false), (5, 0, Some(1), false)], "the later events stay parked");
    assert_eq!(state.replays_to_read(9), []);
}

#[test]
fn a_failed_replay_in_a_group_without_order_does_not_hold_up_the_others_of_its_key() {
    let mut state = state(bounds(false), &[(1, "a"), (2, "a")]);
    while let Some(dispatch) = state.deliver(Duration::ZERO) {
        settle(&mut state, &dispatch, Settlement::Park("no".into()), 0).expect("the delivery is open");
    }
    assert_eq!(state.replay(&ReplaySelection::Key("a".into())), 2);
    state.take_replay(event(1, "a"));
    let dispatch = state.deliver(Duration::ZERO).expect("the event is ready");
    settle(&mut state, &dispatch, Settlement::Park("still broken".into()), 0).expect("the delivery is open");
    assert_eq!(parked(&state), [(1, 2, None, false), (2, 1, None, true)]);
}

#[test]
fn a_replay_that_waits_for_its_delivery_is_not_parked_again_when_later_events_are_read() {
    let mut state = state(bounds(true), &[(1, "a")]);
    let dispatch = state.deliver(Duration::ZERO).expect("the event is ready");
    settle(&mut state, &dispatch, Settlement::Park("no".into()), 0).expect("the delivery is open");
    state.replay(&ReplaySelection::First(1));
    state.take_replay(event(1, "a"));
    state.take([event(2, "a")], Some(at(2)), now(0));
    assert_eq!(parked(&state), [(1, 1, None, true), (2, 0, Some(1), true)]);
    assert_eq!(positions(&mut state, 0), [1]);
}

#[test]
fn a_limited_replay_selects_the_first_events() {
    let mut state = state(bounds(false), &[(1, "a"), (2, "b"), (3, "c")]);
    while let Some(dispatch) = state.deliver(Duration::ZERO) {
        settle(&mut state, &dispatch, Settlement::Park("no".into()), 0).expect("the delivery is open");
    }
    assert_eq!(state.replay(&ReplaySelection::First(2)), 2);
    assert_eq!(state.replays_to_read(9), [at(1), at(2)]);
}

#[test]
fn a_skipped_event_is_removed_and_recorded() {
    let mut state = state(bounds(true), &[(1, "a"), (2, "a"), (3, "b")]);
    let first = state.deliver(Duration::ZERO).expect("the event is ready");
    settle(&mut state, &first, Settlement::Park("broken".into()), 0).expect("the delivery is open");
    assert_eq!(state.skip_parked(at(3), "not parked".into(), now(0)), None);
    assert!(state.skip_parked(at(1), "a test order".into(), now(0)).is_some());
    assert_eq!(parked(&state), [(2, 0, Some(1), false)], "the later event of the key stays parked");
    assert!(state.skip_parked(at(2), "a test order".into(), now(0)).is_some());
    let changes = state.take_changes();
    let skipped: Vec<_> = changes.skipped.iter().map(|skipped| skipped.position.get()).collect();
    assert_eq!((skipped, changes.parked), (vec![1, 2], BTreeSet::from([at(1), at(2)])));
    state.take([event(4, "a")], Some(at(4)), now(0));
    assert_eq!(positions(&mut state, 0), [3, 4], "the key is no longer parked");
}

#[test]
fn a_long_reason_is_shortened() {
    let mut state = state(bounds(false), &[(1, "a")]);
    let dispatch = state.deliver(Duration::ZERO).expect("the event is ready");
    settle(&mut state, &dispatch, Settlement::Park("é".repeat(5_000)), 0).expect("the delivery is open");
    assert_eq!(state.parked()[&at(1)].reason, format!("{}…", "é".repeat(500)));
}

#[test]
fn a_failing_event_holds_the_checkpoint_when_no_more_events_can_be_parked() {
    let mut state = state(GroupBounds { parked: 1, ..bounds(true) }, &[(1, "a"), (2, "a"), (3, "b")]);
    for _ in 0..2 {
        let dispatch = state.deliver(Duration::ZERO).expect("the event is ready");
        settle(&mut state, &dispatch, Settlement::Park("broken".into()), 0).expect("the delivery is open");
    }
    assert_eq!((parked(&state).len(), state.stored().checkpoint), (1, Some(at(1))));
    assert_eq!(positions(&mut state, 9), [3], "event 2 waits for event 1, and event 3 is retried");
    assert!(state.skip_parked(at(1), "a test order".into(), now(9)).is_some());
    assert_eq!(positions(&mut state, 9), [2]);
}

#[test]
fn a_paused_group_delivers_nothing_and_stays_paused() {
    let mut state = state(bounds(false), &[(1, "a")]);
    assert!(!state.is_paused());
    state.set_paused(true);
    assert_eq!(state.deliver(Duration::ZERO), None);
    let mut restored: GroupState<()> = GroupState::restore(bounds(false), &state.stored(), []);
    restored.take([event(1, "a")], Some(at(1)), now(0));
    assert_eq!(restored.deliver(Duration::ZERO), None);
    assert!(restored.is_paused());
    restored.set_paused(false);
    assert!(restored.deliver(Duration::ZERO).is_some());
}

/// The driver writes the rows if the number of the last change differs from that of the last write. An operation that
/// kept the number would not be written.
#[test]
fn each_change_has_a_higher_number_than_the_one_before() {
    let mut state = state(bounds(true), &[(1, "a"), (2, "a"), (3, "b")]);
    let mut last = 0;
    let mut is_raised = |change: u64| std::mem::replace(&mut last, change) < change;
    let first = state.deliver(Duration::ZERO).expect("the event is ready");
    assert!(is_raised(settle(&mut state, &first, Settlement::Park("no".into()), 0).expect("the delivery is open")));
    state.take([event(4, "a")], Some(at(4)), now(0));
    assert!(is_raised(state.change()), "a later event of the key is parked");
    let second = state.deliver(Duration::ZERO).expect("the event is ready");
    assert!(is_raised(settle(&mut state, &second, Settlement::Ack, 0).expect("the delivery is open")));
    state.replay(&ReplaySelection::First(1));
    assert!(is_raised(state.change()));
    assert!(is_raised(state.set_paused(true)));
    assert!(is_raised(state.skip_parked(at(1), "a test order".into(), now(0)).expect("the event is parked")));
    assert_eq!(state.change(), last);
}

#[test]
fn changes_that_were_not_written_are_restored_before_later_ones() {
    let mut state = state(bounds(false), &[(1, "a"), (2, "b"), (3, "c")]);
    let finish = |state: &mut GroupState<()>, settlement| {
        let dispatch = state.deliver(Duration::ZERO).expect("the event is ready");
        settle(state, &dispatch, settlement, 0).expect("the delivery is open");
    };
    finish(&mut state, Settlement::Skip("first".into()));
    finish(&mut state, Settlement::Park("no".into()));
    let unwritten = state.take_changes();
    finish(&mut state, Settlement::Skip("second".into()));
    state.restore_changes(unwritten);
    let changes = state.take_changes();
    let reasons: Vec<_> = changes.skipped.iter().map(|skipped| skipped.reason.as_str()).collect();
    assert_eq!((reasons, changes.parked), (vec!["first", "second"], BTreeSet::from([at(2)])));
}

#[test]
fn a_deadline_is_the_end_of_a_pause_or_of_a_delivery() {
    let mut state = state(bounds(false), &[(1, "a")]);
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(state.next_deadline(Duration::ZERO), None, "a waiting event needs no deadline");
    let dispatch = state.deliver(Duration::ZERO).expect("the event is ready");
    settle(&mut state, &dispatch, Settlement::Retry("no".into()), 0).expect("the delivery is open");
    assert_eq!(state.next_deadline(Duration::ZERO), seconds(1));
    assert_eq!(state.next_deadline(Duration::from_secs(1)), None, "the pause has ended");
    state.set_paused(true);
    assert_eq!(state.next_deadline(Duration::ZERO), None, "a paused group delivers nothing");
    state.set_paused(false);
    assert!(state.deliver(Duration::ZERO).is_none() && state.deliver(Duration::from_secs(1)).is_some());
}

#[test]
fn a_closing_group_delivers_no_more_events() {
    let mut state = state(bounds(false), &[(1, "a"), (2, "a")]);
    assert_eq!((state.delivered(), state.waiting()), (0, 2));
    let dispatch = state.deliver(Duration::ZERO).expect("the event is ready");
    assert!(!state.is_closing());
    state.begin_to_close();
    assert!(state.is_closing() && state.deliver(Duration::ZERO).is_none());
    assert_eq!((state.delivered(), state.waiting()), (1, 1));
    assert!(settle(&mut state, &dispatch, Settlement::Ack, 0).is_ok());
}

#[test]
fn an_event_that_was_not_read_again_after_a_restart_keeps_its_failures() {
    let failures = vec![(at(2), 1), (at(3), 2)];
    let stored = Stored { checkpoint: Some(at(1)), failures: failures.clone(), ..Stored::default() };
    let mut state = GroupState::restore(bounds(false), &stored, []);
    assert_eq!(state.stored().failures, failures);
    state.take([event(2, "a")], Some(at(2)), now(0));
    assert_eq!(state.stored().failures, failures);
    let dispatch = state.deliver(Duration::ZERO).expect("the event is ready");
    settle(&mut state, &dispatch, Settlement::Ack, 0).expect("the delivery is open");
    assert_eq!(state.stored().failures, [(at(3), 2)]);
    // A retention rule hides event 3.
    state.take([], Some(at(3)), now(0));
    assert_eq!(state.stored().failures, []);
}

/// An operator cannot skip a parked event while its replay is delivered: the consumer may succeed.
#[test]
fn a_replay_that_is_delivered_cannot_be_skipped_and_keeps_no_failures() {
    let mut state = state(bounds(true), &[(1, "a")]);
    let dispatch = state.deliver(Duration::ZERO).expect("the event is ready");
    settle(&mut state, &dispatch, Settlement::Park("no".into()), 0).expect("the delivery is open");
    state.take_replay(event(1, "a"));
    assert_eq!(state.deliver(Duration::ZERO), None, "the event is not marked for a replay");
    state.replay(&ReplaySelection::First(1));
    state.take_replay(event(1, "a"));
    let dispatch = state.deliver(Duration::ZERO).expect("the event is ready");
    assert_eq!(state.skip_parked(at(1), "a test order".into(), now(0)), None);
    settle(&mut state, &dispatch, Settlement::Retry("no".into()), 0).expect("the delivery is open");
    assert_eq!(state.stored().failures, [], "a restart begins the replay again");
    assert!(state.skip_parked(at(1), "a test order".into(), now(0)).is_some());
}

/// Regression: the end of a replay did not park the events that wait for an earlier event of their key. If the finished
/// events after them used up the capacity, nothing else did either, and the group took no more events.
#[test]
fn a_blocked_event_is_parked_when_the_end_of_a_replay_makes_room() {
    let bounds = GroupBounds { capacity: 4, parked: 2, ..bounds(true) };
    let mut state = state(bounds, &[(1, "a"), (2, "b")]);
    for _ in 0..2 {
        let dispatch = state.deliver(Duration::ZERO).expect("the event is ready");
        settle(&mut state, &dispatch, Settlement::Park("broken".into()), 0).expect("the delivery is open");
    }
    state.take([event(3, "a"), event(4, "c"), event(5, "c"), event(6, "c")], Some(at(6)), now(0));
    for _ in 0..3 {
        let dispatch = state.deliver(Duration::ZERO).expect("the event is ready");
        settle(&mut state, &dispatch, Settlement::Ack, 0).expect("the delivery is open");
    }
    assert_eq!((parked(&state).len(), state.remaining_capacity()), (2, 0), "event 3 waits for event 1");

    state.replay(&ReplaySelection::Key("b".into()));
    state.take_replay(event(2, "b"));
    let dispatch = state.deliver(Duration::ZERO).expect("the event is ready");
    settle(&mut state, &dispatch, Settlement::Ack, 0).expect("the delivery is open");
    assert_eq!(parked(&state), [(1, 1, None, false), (3, 0, Some(1), false)]);
    assert!(state.remaining_capacity() > 0);
}

/// Regression: a replay read the content of all its events into memory at once.
#[test]
fn a_replay_has_at_most_as_many_events_in_memory_as_the_capacity() {
    let mut state = state(GroupBounds { capacity: 4, ..bounds(false) }, &[]);
    state.take((1..=100).map(|position| event(position, "a")), Some(at(100)), now(0));
    while let Some(dispatch) = state.deliver(Duration::ZERO) {
        settle(&mut state, &dispatch, Settlement::Park("no".into()), 0).expect("the delivery is open");
    }
    assert_eq!(state.replay(&ReplaySelection::First(usize::MAX)), 100);
    let read_all = |state: &mut GroupState<()>| {
        let mut read = 0;
        loop {
            let next = state.replays_to_read(16);
            if next.is_empty() {
                return read;
            }
            read += next.len();
            next.into_iter().for_each(|position| state.take_replay(event(position.get(), "a")));
        }
    };
    assert_eq!(read_all(&mut state), 4);
    let dispatch = state.deliver(Duration::ZERO).expect("the event is ready");
    settle(&mut state, &dispatch, Settlement::Ack, 0).expect("the delivery is open");
    assert_eq!(read_all(&mut state), 1);
}

/// A log, a group and its stored rows, driven by random operations and crashes.
struct Simulation {
    random: Random,
    is_ordered: bool,
    log: Vec<ReadEvent<()>>,
    state: GroupState<()>,
    stored: Stored,
    parked_rows: BTreeMap<Position, Parked>,
    skipped: BTreeSet<Position>,
    /// The deliveries that no consumer has settled.
    deliveries: Vec<Dispatch<()>>,
    seconds: u64,
    /// The acked events, and whether the ack is written.
    acked: BTreeMap<Position, bool>,
    /// The last acked event of each key, and whether the ack is written.
    last_acked: BTreeMap<String, (Position, bool)>,
}

/// The operations that a step may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// All operations, including crashes and failures.
    Faults,
    /// Only operations that make progress.
    Recovery,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let is_ordered = random.below(2) == 0;
        let mut log = Vec::new();
        for position in 1..=50 {
            if random.below(4) > 0 {
                log.push(event(position, ["a", "b", "c"][random.index(3)]));
            }
        }
        let state = GroupState::restore(bounds(is_ordered), &Stored::default(), []);
        Self {
            random,
            is_ordered,
            log,
            state,
            stored: Stored::default(),
            parked_rows: BTreeMap::new(),
            skipped: BTreeSet::new(),
            deliveries: Vec::new(),
            seconds: 0,
            acked: BTreeMap::new(),
            last_acked: BTreeMap::new(),
        }
    }

    fn read(&mut self) {
        let scanned = self.state.in_flight().scanned();
        let limit = self.state.remaining_capacity().min(1 + self.random.index(5));
        let batch: Vec<_> = self.log.iter().filter(|e| Some(e.position) > scanned).take(limit).cloned().collect();
        let to = if batch.len() == limit { batch.last().map(|e| e.position).or(scanned) } else { Some(at(50)) };
        self.state.take(batch, to, now(self.seconds));
        for position in self.state.replays_to_read(4) {
            let event =
                self.log.iter().find(|event| event.position == position).expect("the event is in the log").clone();
            self.state.take_replay(event);
        }
    }

    fn deliver(&mut self) {
        let Some(dispatch) = self.state.deliver(Duration::from_secs(self.seconds)) else { return };
        assert_ne!(self.acked.get(&dispatch.position), Some(&true), "an event with a written ack was delivered again");
        assert!(!self.skipped.contains(&dispatch.position), "a skipped event was delivered again");
        if self.is_ordered {
            let key = self.key_of(dispatch.position);
            let mut others = self.deliveries.iter().filter(|other| self.key_of(other.position) == key);
            // A consumer may still hold a delivery that timed out.
            assert!(others.all(|other| self.is_expired(other)), "two deliveries of a key are open");
            let last_acked = self.last_acked.get(&key);
            let is_out_of_order = last_acked.is_some_and(|(last, is_written)| *is_written && *last > dispatch.position);
            assert!(!is_out_of_order, "an event was delivered after a later event of its key was acked");
        }
        self.deliveries.push(dispatch);
    }

    fn is_expired(&self, dispatch: &Dispatch<()>) -> bool {
        let status = self.state.entries.get(&dispatch.position).map(|entry| entry.status);
        !matches!(status, Some(EntryStatus::Delivered { ticket, .. }) if ticket == dispatch.ticket)
    }

    fn key_of(&self, position: Position) -> String {
        self.log.iter().find(|event| event.position == position).expect("the event is in the log").key.clone()
    }

    fn settle_random(&mut self, mode: Mode) {
        if self.deliveries.is_empty() {
            return;
        }
        let index = self.random.index(self.deliveries.len());
        let dispatch = self.deliveries.swap_remove(index);
        let settlement = match self.random.below(if mode == Mode::Recovery { 1 } else { 8 }) {
            0..4 => Settlement::Ack,
            4..6 => Settlement::Retry("retry".into()),
            6 => Settlement::Park("park".into()),
            _ => Settlement::Skip("skip".into()),
        };
        let is_expired = self.is_expired(&dispatch);
        let settled = settle(&mut self.state, &dispatch, settlement.clone(), self.seconds);
        assert_eq!(settled.is_err(), is_expired);
        if settled.is_ok() && settlement == Settlement::Ack {
            self.acked.insert(dispatch.position, false);
            self.last_acked.insert(self.key_of(dispatch.position), (dispatch.position, false));
        }
    }

    fn write(&mut self) {
        let changes = self.state.take_changes();
        if self.random.below(4) == 0 {
            self.state.restore_changes(changes);
            return;
        }
        let stored = self.state.stored();
        assert!(stored.checkpoint >= self.stored.checkpoint, "the checkpoint moved backward");
        assert!(stored.ahead.len() <= 8, "more events than the capacity are finished after the checkpoint");
        self.stored = stored;
        for position in changes.parked {
            match self.state.parked().get(&position) {
                Some(parked) => self.parked_rows.insert(position, parked.clone()),
                None => self.parked_rows.remove(&position),
            };
        }
        self.skipped.extend(changes.skipped.iter().map(|skipped| skipped.position));
        assert_eq!(self.parked_rows.values().collect::<Vec<_>>(), self.state.parked().values().collect::<Vec<_>>());
        self.acked.values_mut().for_each(|is_written| *is_written = true);
        self.last_acked.values_mut().for_each(|(_, is_written)| *is_written = true);
        let finished = |e: &&ReadEvent<()>| {
            self.acked.contains_key(&e.position)
                || self.parked_rows.contains_key(&e.position)
                || self.skipped.contains(&e.position)
        };
        let passed = self.log.iter().filter(|event| Some(event.position) <= self.stored.checkpoint);
        assert!(passed.clone().all(|event| finished(&event)), "the checkpoint passed an unfinished event");
    }

    fn crash(&mut self) {
        self.state = GroupState::restore(bounds(self.is_ordered), &self.stored, self.parked_rows.values().cloned());
        self.deliveries.clear();
        self.acked.retain(|_, is_written| *is_written);
        let acked = &self.acked;
        let mut last_acked = BTreeMap::new();
        for event in self.log.iter().filter(|event| acked.contains_key(&event.position)) {
            last_acked.insert(event.key.clone(), (event.position, true));
        }
        self.last_acked = last_acked;
    }

    fn step(&mut self, mode: Mode) {
        let is_recovery = mode == Mode::Recovery;
        match self.random.below(if is_recovery { 12 } else { 16 }) {
            0..3 => self.read(),
            3..6 => self.deliver(),
            6..9 => self.settle_random(mode),
            9 => self.write(),
            10 => {
                self.seconds += self.random.below(4);
                self.state.expire(now(self.seconds), &pause);
            }
            11 => {
                self.state.replay(&ReplaySelection::First(if is_recovery { usize::MAX } else { 2 }));
            }
            12 => self.crash(),
            13 => {
                let parked: Vec<Position> = self.state.parked().keys().copied().collect();
                if let Some(position) = parked.first().filter(|_| self.random.below(4) == 0) {
                    self.state.skip_parked(*position, "skip".into(), now(self.seconds));
                }
            }
            _ => self.seconds += 1,
        }
    }
}

/// Runs random sequences of acks, failures, timeouts, replays and crashes, then a recovery. Every event is finished in
/// the end; no event with a written end is delivered again, and the events of one key stay in order.
#[test]
fn every_event_is_finished_and_none_is_delivered_again_after_random_faults() {
    for seed in 0..600 {
        let mut simulation = Simulation::new(seed);
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..600).for_each(|_| simulation.step(Mode::Faults));
            for _ in 0..20_000 {
                simulation.step(Mode::Recovery);
                if simulation.stored.checkpoint == Some(at(50)) && simulation.parked_rows.is_empty() {
                    return;
                }
            }
            panic!("unfinished after 20000 recovery steps: {:?}", simulation.state);
        }));
        assert!(run.is_ok(), "seed {seed}");
    }
}
