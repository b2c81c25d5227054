//! The state of a group, driven by hand and at random.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::consumer::group::random::Random;

fn at(number: u64) -> Position {
    Position::new(number).expect("not zero")
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

fn event(position: u64, key: &str) -> Arrival<()> {
    Arrival { position: at(position), id: EventId::new(), key: key.to_owned(), content: () }
}

fn state(bounds: GroupBounds, events: &[(u64, &str)]) -> GroupState<()> {
    let mut state = GroupState::restore(bounds, &Stored::default(), []);
    let last = events.last().map(|(position, _)| at(*position));
    state.take(events.iter().map(|(position, key)| event(*position, key)), last, now(0));
    state
}

fn say(
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
    let row = |p: &Parked| (p.position.get(), p.failures, p.behind.map(Position::get), p.replaying);
    state.parked().values().map(row).collect()
}

#[test]
fn in_order_means_one_of_a_key_at_a_time() {
    let events = [(1, "a"), (2, "a"), (3, "b"), (4, "a")];
    assert_eq!(positions(&mut state(bounds(false), &events), 0), [1, 2, 3, 4]);
    let mut ordered = state(bounds(true), &events);
    let first = ordered.deliver(Duration::ZERO).expect("one is ready");
    assert_eq!(positions(&mut ordered, 0), [3]);
    say(&mut ordered, &first, Settlement::Ack, 0).expect("in time");
    assert_eq!(positions(&mut ordered, 0), [2]);
    assert_eq!(ordered.stored().checkpoint, Some(at(1)));
}

#[test]
fn an_event_that_fails_comes_again_after_a_pause_and_is_parked_in_the_end() {
    let mut state = state(bounds(false), &[(1, "a"), (2, "a")]);
    for attempt in 1..=3 {
        let seconds = u64::from(attempt) * 5;
        let dispatch = state.deliver(Duration::from_secs(seconds)).expect("it is ready");
        assert_eq!((dispatch.position, dispatch.attempt), (at(1), attempt));
        say(&mut state, &dispatch, Settlement::Retry(format!("no {attempt}")), seconds).expect("in time");
        assert_eq!(state.next_moment(Duration::from_secs(seconds)).is_some(), attempt < 3);
    }
    assert_eq!(parked(&state), [(1, 3, None, false)]);
    assert_eq!(state.parked()[&at(1)].reason, "no 3");
    assert_eq!(state.stored().checkpoint, Some(at(1)));
    assert_eq!(positions(&mut state, 60), [2], "where order does not matter, the others go on");
}

#[test]
fn what_is_not_answered_is_taken_back_and_a_late_answer_is_refused() {
    let mut state = state(bounds(true), &[(1, "a")]);
    let first = state.deliver(Duration::ZERO).expect("it is ready");
    assert_eq!(state.next_moment(Duration::ZERO), Some(Duration::from_secs(10)));
    state.expire(now(9), &pause);
    assert_eq!(state.delivered(), 1);
    state.expire(now(10), &pause);
    assert_eq!((state.delivered(), state.waiting()), (0, 1));
    assert_eq!(say(&mut state, &first, Settlement::Ack, 10), Err(TooLate));
    let second = state.deliver(Duration::from_secs(11)).expect("it is ready again");
    assert_eq!(second.attempt, 2);
    assert_eq!(say(&mut state, &first, Settlement::Ack, 11), Err(TooLate));
    assert!(say(&mut state, &second, Settlement::Ack, 11).is_ok());
}

#[test]
fn a_parked_key_parks_its_later_events_and_is_replayed_in_order() {
    let mut state = state(bounds(true), &[(1, "a"), (2, "b"), (3, "a")]);
    let first = state.deliver(Duration::ZERO).expect("it is ready");
    say(&mut state, &first, Settlement::Park("broken".into()), 0).expect("in time");
    state.take([event(4, "a")], Some(at(4)), now(0));
    assert_eq!(parked(&state), [(1, 1, None, false), (3, 0, Some(1), false), (4, 0, Some(1), false)]);
    assert_eq!(positions(&mut state, 0), [2]);
    assert_eq!(state.wanted(9), []);

    assert_eq!(state.replay(&ReplaySelection::Key("a".into())), 3);
    for position in [1, 3] {
        assert_eq!(state.wanted(9), [at(position)]);
        state.take_again(event(position, "a"));
        let dispatch = state.deliver(Duration::ZERO).expect("it is ready");
        assert_eq!((dispatch.position.get(), dispatch.attempt), (position, 1));
        if position == 1 {
            state.take([event(5, "a")], Some(at(5)), now(0));
        }
        say(&mut state, &dispatch, Settlement::Ack, 0).expect("in time");
    }
    assert_eq!(parked(&state), [(4, 0, Some(1), true), (5, 0, Some(1), true)], "who comes in between joins");
    state.take_again(event(4, "a"));
    let dispatch = state.deliver(Duration::ZERO).expect("it is ready");
    say(&mut state, &dispatch, Settlement::Park("still broken".into()), 0).expect("in time");
    assert_eq!(parked(&state), [(4, 1, None, false), (5, 0, Some(1), false)], "the later ones stay as well");
    assert_eq!(state.wanted(9), []);
}

#[test]
fn a_replay_stops_where_it_is_told_to() {
    let mut state = state(bounds(false), &[(1, "a"), (2, "b"), (3, "c")]);
    while let Some(dispatch) = state.deliver(Duration::ZERO) {
        say(&mut state, &dispatch, Settlement::Park("no".into()), 0).expect("in time");
    }
    assert_eq!(state.replay(&ReplaySelection::First(2)), 2);
    assert_eq!(state.wanted(9), [at(1), at(2)]);
}

#[test]
fn what_is_skipped_is_gone_and_said() {
    let mut state = state(bounds(true), &[(1, "a"), (2, "a"), (3, "b")]);
    let first = state.deliver(Duration::ZERO).expect("it is ready");
    say(&mut state, &first, Settlement::Park("broken".into()), 0).expect("in time");
    assert_eq!(state.skip_parked(at(3), "not parked".into(), now(0)), None);
    assert!(state.skip_parked(at(1), "a test order".into(), now(0)).is_some());
    assert_eq!(parked(&state), [(2, 0, Some(1), false)], "the later ones wait for an operator");
    assert!(state.skip_parked(at(2), "a test order".into(), now(0)).is_some());
    let changes = state.take_changes();
    let skipped: Vec<_> = changes.skipped.iter().map(|skipped| skipped.position.get()).collect();
    assert_eq!((skipped, changes.parked), (vec![1, 2], BTreeSet::from([at(1), at(2)])));
    state.take([event(4, "a")], Some(at(4)), now(0));
    assert_eq!(positions(&mut state, 0), [3, 4], "the key is free again");
}

#[test]
fn a_reason_that_is_a_whole_page_is_cut() {
    let mut state = state(bounds(false), &[(1, "a")]);
    let dispatch = state.deliver(Duration::ZERO).expect("it is ready");
    say(&mut state, &dispatch, Settlement::Park("é".repeat(5_000)), 0).expect("in time");
    assert_eq!(state.parked()[&at(1)].reason, format!("{}…", "é".repeat(500)));
}

#[test]
fn where_no_more_can_be_parked_the_checkpoint_waits() {
    let mut state = state(GroupBounds { parked: 1, ..bounds(true) }, &[(1, "a"), (2, "a"), (3, "b")]);
    for _ in 0..2 {
        let dispatch = state.deliver(Duration::ZERO).expect("it is ready");
        say(&mut state, &dispatch, Settlement::Park("broken".into()), 0).expect("in time");
    }
    assert_eq!((parked(&state).len(), state.stored().checkpoint), (1, Some(at(1))));
    assert_eq!(positions(&mut state, 9), [3], "2 waits behind 1, and 3 is tried again");
    assert!(state.skip_parked(at(1), "gone".into(), now(9)).is_some());
    assert_eq!(positions(&mut state, 9), [2]);
}

#[test]
fn a_paused_group_delivers_nothing_and_stays_paused() {
    let mut state = state(bounds(false), &[(1, "a")]);
    state.set_paused(true);
    assert_eq!(state.deliver(Duration::ZERO), None);
    let mut restored: GroupState<()> = GroupState::restore(bounds(false), &state.stored(), []);
    restored.take([event(1, "a")], Some(at(1)), now(0));
    assert_eq!(restored.deliver(Duration::ZERO), None);
    restored.set_paused(false);
    assert!(restored.deliver(Duration::ZERO).is_some());
}

/// A log, a group and what it has written, played at random with crashes.
struct World {
    random: Random,
    is_ordered: bool,
    log: Vec<Arrival<()>>,
    state: GroupState<()>,
    stored: Stored,
    rows: BTreeMap<Position, Parked>,
    skipped: BTreeSet<Position>,
    hands: Vec<Dispatch<()>>,
    seconds: u64,
    /// What was acked, and whether that was written.
    acked: BTreeMap<Position, bool>,
    /// The last position of each key that was acked and, where it was, written.
    reached: BTreeMap<String, (Position, bool)>,
}

impl World {
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
            rows: BTreeMap::new(),
            skipped: BTreeSet::new(),
            hands: Vec::new(),
            seconds: 0,
            acked: BTreeMap::new(),
            reached: BTreeMap::new(),
        }
    }

    fn read(&mut self) {
        let scanned = self.state.in_flight().scanned();
        let limit = self.state.room().min(1 + self.random.index(5));
        let batch: Vec<_> = self.log.iter().filter(|e| Some(e.position) > scanned).take(limit).cloned().collect();
        let to = if batch.len() == limit { batch.last().map(|e| e.position).or(scanned) } else { Some(at(50)) };
        self.state.take(batch, to, now(self.seconds));
        for position in self.state.wanted(4) {
            let event = self.log.iter().find(|event| event.position == position).expect("it is in the log").clone();
            self.state.take_again(event);
        }
    }

    fn deliver(&mut self) {
        let Some(dispatch) = self.state.deliver(Duration::from_secs(self.seconds)) else { return };
        assert_ne!(self.acked.get(&dispatch.position), Some(&true), "what was acked and written came again");
        assert!(!self.skipped.contains(&dispatch.position), "what was skipped came again");
        if self.is_ordered {
            let key = self.key_of(dispatch.position);
            let others = self.hands.iter().filter(|other| self.key_of(other.position) == key);
            // NOTE: who was too slow still has its event in hand.
            assert!(others.clone().all(|other| self.is_late(other)), "two of a key are in hand");
            let is_behind =
                self.reached.get(&key).is_some_and(|(reached, is_written)| *is_written && *reached > dispatch.position);
            assert!(!is_behind, "out of order");
        }
        self.hands.push(dispatch);
    }

    fn is_late(&self, dispatch: &Dispatch<()>) -> bool {
        let open = self.state.entries.get(&dispatch.position).map(|entry| entry.status);
        !matches!(open, Some(EntryStatus::Delivered { ticket, .. }) if ticket == dispatch.ticket)
    }

    fn key_of(&self, position: Position) -> String {
        self.log.iter().find(|event| event.position == position).expect("it is in the log").key.clone()
    }

    fn answer(&mut self, heals: bool) {
        if self.hands.is_empty() {
            return;
        }
        let index = self.random.index(self.hands.len());
        let dispatch = self.hands.swap_remove(index);
        let settlement = match self.random.below(if heals { 1 } else { 8 }) {
            0..4 => Settlement::Ack,
            4..6 => Settlement::Retry("again".into()),
            6 => Settlement::Park("aside".into()),
            _ => Settlement::Skip("away".into()),
        };
        let is_late = self.is_late(&dispatch);
        let answer = say(&mut self.state, &dispatch, settlement.clone(), self.seconds);
        assert_eq!(answer.is_err(), is_late);
        if answer.is_ok() && settlement == Settlement::Ack {
            self.acked.insert(dispatch.position, false);
            self.reached.insert(self.key_of(dispatch.position), (dispatch.position, false));
        }
    }

    fn write(&mut self) {
        let changes = self.state.take_changes();
        if self.random.below(4) == 0 {
            self.state.give_back(changes);
            return;
        }
        let stored = self.state.stored();
        assert!(stored.checkpoint >= self.stored.checkpoint, "the checkpoint went back");
        assert!(stored.ahead.len() <= 8, "what is finished ahead is not bounded");
        self.stored = stored;
        for position in changes.parked {
            match self.state.parked().get(&position) {
                Some(parked) => self.rows.insert(position, parked.clone()),
                None => self.rows.remove(&position),
            };
        }
        self.skipped.extend(changes.skipped.iter().map(|skipped| skipped.position));
        assert_eq!(self.rows.values().collect::<Vec<_>>(), self.state.parked().values().collect::<Vec<_>>());
        self.acked.values_mut().for_each(|is_written| *is_written = true);
        self.reached.values_mut().for_each(|(_, is_written)| *is_written = true);
        let finished = |e: &&Arrival<()>| {
            self.acked.contains_key(&e.position)
                || self.rows.contains_key(&e.position)
                || self.skipped.contains(&e.position)
        };
        let passed = self.log.iter().filter(|event| Some(event.position) <= self.stored.checkpoint);
        assert!(
            passed.clone().all(|event| finished(&event)),
            "the checkpoint passed an event that nobody has finished"
        );
    }

    fn crash(&mut self) {
        self.state = GroupState::restore(bounds(self.is_ordered), &self.stored, self.rows.values().cloned());
        self.hands.clear();
        self.acked.retain(|_, is_written| *is_written);
        let acked = &self.acked;
        let mut reached = BTreeMap::new();
        for event in self.log.iter().filter(|event| acked.contains_key(&event.position)) {
            reached.insert(event.key.clone(), (event.position, true));
        }
        self.reached = reached;
    }

    fn step(&mut self, heals: bool) {
        match self.random.below(if heals { 12 } else { 16 }) {
            0..3 => self.read(),
            3..6 => self.deliver(),
            6..9 => self.answer(heals),
            9 => self.write(),
            10 => {
                self.seconds += self.random.below(4);
                self.state.expire(now(self.seconds), &pause);
            }
            11 => {
                self.state.replay(&ReplaySelection::First(if heals { usize::MAX } else { 2 }));
            }
            12 => self.crash(),
            13 => {
                let parked: Vec<Position> = self.state.parked().keys().copied().collect();
                if let Some(position) = parked.first().filter(|_| self.random.below(4) == 0) {
                    self.state.skip_parked(*position, "away".into(), now(self.seconds));
                }
            }
            _ => self.seconds += 1,
        }
    }
}

/// Consumers that ack, fail, fall silent and crash, in any order: every event is finished in the end; none is lost,
/// none that was written as finished comes again, and events of one key stay in order.
#[test]
fn whatever_happens_each_event_is_finished_and_none_comes_back() {
    for seed in 0..600 {
        let mut world = World::new(seed);
        let play = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..600).for_each(|_| world.step(false));
            for _ in 0..20_000 {
                world.step(true);
                if world.stored.checkpoint == Some(at(50)) && world.rows.is_empty() {
                    return;
                }
            }
            panic!("it never ends: {:?}", world.state);
        }));
        assert!(play.is_ok(), "seed {seed}");
    }
}
