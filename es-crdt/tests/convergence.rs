//! Every type has the same state for every order of events that keeps causality, and the state that its definition
//! says.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use chrono::DateTime;
use es_core::model::{CommitPart, ContentType, Dot, HybridTime, OriginId, Stamp, VectorClock};
use es_core::{EventContext, EventData, EventType, Position, RecordedEvent, Revision, StreamId};
use es_crdt::{BoundedCounter, Counter, Flag, LwwRegister, MvRegister, OrMap, OrSet};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

const NODES: usize = 3;

/// A change of the states.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Change {
    Insert(u8),
    Remove(u8),
    Clear,
    Write(u8),
    Erase,
    Enable,
    Disable,
    InsertAt(u8, u8),
    WriteAt(u8, u8),
    RemoveAt(u8),
    Add(i64),
    Spend(u64),
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct State {
    set: OrSet<u8>,
    values: MvRegister<u8>,
    value: LwwRegister<u8>,
    flag: Flag,
    sets: OrMap<u8, OrSet<u8>>,
    registers: OrMap<u8, LwwRegister<u8>>,
    counter: Counter,
    stock: BoundedCounter<u64>,
}

impl State {
    fn apply(&mut self, event: &Event) {
        let at = EventContext::new(&event.record);
        match event.change {
            Change::Insert(item) => self.set.insert(item, &at),
            Change::Remove(item) => self.set.remove(&item, &at),
            Change::Clear => self.set.clear(&at),
            Change::Write(value) => {
                self.values.set(value, &at);
                self.value.set(value, &at);
            }
            Change::Erase => {
                self.values.clear(&at);
                self.value.clear(&at);
            }
            Change::Enable => self.flag.enable(&at),
            Change::Disable => self.flag.disable(&at),
            Change::InsertAt(key, item) => self.sets.update(key, &at, |set| set.insert(item, &at)),
            Change::WriteAt(key, value) => self.registers.update(key, &at, |register| register.set(value, &at)),
            Change::RemoveAt(key) => {
                self.sets.remove(&key, &at);
                self.registers.remove(&key, &at);
            }
            Change::Add(amount) => self.counter.add(amount),
            Change::Spend(amount) => self.stock.subtract(&at.dot().origin.get(), amount),
        }
    }

    fn initial() -> Self {
        let mut state = Self::default();
        (1..=NODES as u64).for_each(|site| state.stock.add(site, 10));
        state
    }
}

#[derive(Debug, Clone)]
struct Event {
    record: RecordedEvent,
    change: Change,
}

impl Event {
    fn stamp(&self) -> &Stamp {
        self.record.data.stamp.as_ref().expect("a stamp")
    }

    fn has_seen(&self, other: &Self) -> bool {
        let (stamp, dot) = (self.stamp(), other.stamp().dot);
        let seen = stamp.seen.as_ref().expect("a clock");
        if dot.origin == stamp.dot.origin { dot.sequence < stamp.dot.sequence } else { seen.includes(dot) }
    }
}

/// A node with the numbers of its events, in the order in which it stored them.
#[derive(Debug, Default)]
struct Node {
    log: Vec<usize>,
    state: State,
}

#[derive(Debug, Default)]
struct Group {
    events: Vec<Event>,
    nodes: Vec<Node>,
}

impl Group {
    fn new() -> Self {
        let nodes = (0..NODES).map(|_| Node { log: Vec::new(), state: State::initial() }).collect();
        Self { events: Vec::new(), nodes }
    }

    fn decide(&mut self, node: usize, change: Change) {
        let origin = OriginId::new(node as u64 + 1);
        // A command that is rejected gives no event.
        if matches!(change, Change::Spend(amount) if self.nodes[node].state.stock.check(&origin.get(), amount).is_err())
        {
            return;
        }
        let known: VectorClock = self.nodes[node].log.iter().map(|index| self.events[*index].stamp().dot).collect();
        let time = self.nodes[node].log.iter().map(|index| self.events[*index].stamp().time.to_bits()).max();
        let sequence = known.get(origin).map_or(NonZeroU64::MIN, |last| last.saturating_add(1));
        let event_type = EventType::new("changed").expect("a name");
        let mut data = EventData::new(event_type, 1, ContentType::Json, "{}");
        data.stamp = Some(Box::new(Stamp {
            dot: Dot { origin, sequence },
            time: HybridTime::from_bits(time.unwrap_or_default() + 1),
            seen: Some(known.iter().filter(|dot| dot.origin != origin).collect()),
            command: None,
        }));
        let record = RecordedEvent {
            position: Position::FIRST,
            stream: StreamId::new("state-1").expect("a name"),
            revision: Revision::new(0),
            recorded_at: DateTime::UNIX_EPOCH,
            occurred_at: DateTime::UNIX_EPOCH,
            part: CommitPart { index: 0, size: 1 },
            data,
        };
        self.events.push(Event { record, change });
        self.store(node, self.events.len() - 1);
    }

    fn store(&mut self, node: usize, index: usize) {
        let target = &mut self.nodes[node];
        if !target.log.contains(&index) {
            target.log.push(index);
            target.state.apply(&self.events[index]);
        }
    }

    /// Stores the events of one node on another one, in the order of the log of the first.
    fn pull(&mut self, from: usize, to: usize) {
        for index in self.nodes[from].log.clone() {
            self.store(to, index);
        }
    }

    /// Returns the values of changes that no change for which `replaces` holds has seen.
    fn remaining<T: Ord>(
        &self,
        value: impl Fn(Change) -> Option<T>,
        replaces: impl Fn(Change, Change) -> bool,
    ) -> Vec<(HybridTime, Dot, T)> {
        let is_replaced = |event: &&Event| {
            let is_later = |other: &Event| other.has_seen(event) && replaces(other.change, event.change);
            self.events.iter().any(is_later)
        };
        let events = self.events.iter().filter(|event| !is_replaced(event));
        let mut found: Vec<_> =
            events.filter_map(|event| Some((event.stamp().time, event.stamp().dot, value(event.change)?))).collect();
        found.sort();
        found
    }
}

fn change() -> impl Strategy<Value = Change> {
    let small = || 0..3_u8;
    prop_oneof![
        small().prop_map(Change::Insert),
        small().prop_map(Change::Remove),
        Just(Change::Clear),
        any::<u8>().prop_map(Change::Write),
        Just(Change::Erase),
        Just(Change::Enable),
        Just(Change::Disable),
        (small(), small()).prop_map(|(key, item)| Change::InsertAt(key, item)),
        (small(), any::<u8>()).prop_map(|(key, value)| Change::WriteAt(key, value)),
        small().prop_map(Change::RemoveAt),
        (-9..9_i64).prop_map(Change::Add),
        (1..6_u64).prop_map(Change::Spend),
    ]
}

/// A step of a history: a node decides, or one node pulls from another.
#[derive(Debug, Clone, Copy)]
enum Step {
    Decide(usize, Change),
    Pull(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let decide = (0..NODES, change()).prop_map(|(node, change)| Step::Decide(node, change));
    let pull = (0..NODES, 0..NODES).prop_map(|(from, to)| Step::Pull(from, to));
    proptest::collection::vec(prop_oneof![3 => decide, 1 => pull], 0..40)
}

fn run(steps: &[Step]) -> Group {
    let mut group = Group::new();
    for step in steps {
        match *step {
            Step::Decide(node, change) => group.decide(node, change),
            Step::Pull(from, to) => group.pull(from, to),
        }
    }
    for (from, to) in (0..NODES).flat_map(|from| (0..NODES).map(move |to| (from, to))).cycle().take(NODES.pow(3)) {
        group.pull(from, to);
    }
    group
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn every_order_of_arrival_gives_the_same_state(steps in steps()) {
        let group = run(&steps);
        let mut canonical: Vec<_> = group.events.iter().collect();
        canonical.sort_by_key(|event| event.record.canonical_key());
        let mut expected = State::initial();
        canonical.iter().for_each(|event| expected.apply(event));
        for node in &group.nodes {
            prop_assert_eq!(node.log.len(), group.events.len());
            prop_assert_eq!(&node.state, &expected);
        }
        let json = serde_json::to_string(&expected).expect("serializes");
        prop_assert_eq!(serde_json::from_str::<State>(&json).expect("deserializes"), expected);
    }

    #[test]
    fn the_state_is_that_of_the_definition(steps in steps()) {
        let group = run(&steps);
        let state = &group.nodes[0].state;

        let inserted = |change| match change { Change::Insert(item) => Some(item), _ => None };
        let removes = |later, earlier| match later {
            Change::Remove(item) => earlier == Change::Insert(item),
            later => later == Change::Clear,
        };
        let items: BTreeSet<u8> = group.remaining(inserted, removes).into_iter().map(|(_, _, item)| item).collect();
        prop_assert_eq!(state.set.iter().copied().collect::<BTreeSet<_>>(), items);

        let written = |change| match change { Change::Write(value) => Some(value), _ => None };
        let replaces = |later, _| matches!(later, Change::Write(_) | Change::Erase);
        let values: Vec<u8> = group.remaining(written, replaces).into_iter().map(|(_, _, value)| value).collect();
        prop_assert_eq!(state.values.values().copied().collect::<Vec<_>>(), values.clone());
        prop_assert_eq!(state.value.get(), values.last());

        let enabled = |change| (change == Change::Enable).then_some(());
        let is_enabled = !group.remaining(enabled, |later, _| later == Change::Disable).is_empty();
        prop_assert_eq!(state.flag.is_enabled(), is_enabled);

        let inserted = |change| match change { Change::InsertAt(key, item) => Some((key, item)), _ => None };
        let removes = |later, earlier| {
            matches!((later, earlier), (Change::RemoveAt(key), Change::InsertAt(other, _)) if key == other)
        };
        let mut sets: BTreeMap<u8, BTreeSet<u8>> = BTreeMap::new();
        for (_, _, (key, item)) in group.remaining(inserted, removes) {
            sets.entry(key).or_default().insert(item);
        }
        let found = state.sets.iter().map(|(key, set)| (*key, set.iter().copied().collect())).collect();
        prop_assert_eq!(sets, found);

        let written = |change| match change { Change::WriteAt(key, value) => Some((key, value)), _ => None };
        let replaces = |later, earlier| {
            matches!(
                (later, earlier),
                (Change::WriteAt(key, _) | Change::RemoveAt(key), Change::WriteAt(other, _)) if key == other
            )
        };
        let last: BTreeMap<u8, u8> = group.remaining(written, replaces).into_iter().map(|(_, _, pair)| pair).collect();
        let found = state.registers.iter().filter_map(|(key, value)| Some((*key, *value.get()?))).collect();
        prop_assert_eq!(last, found);

        let sum = |change| match change { Change::Add(amount) => amount, _ => 0 };
        let total: i64 = group.events.iter().map(|event| sum(event.change)).sum();
        prop_assert_eq!(state.counter.value(), i128::from(total));
        let spent = |change| match change { Change::Spend(amount) => amount, _ => 0 };
        let spent: u64 = group.events.iter().map(|event| spent(event.change)).sum();
        prop_assert!(spent <= 10 * NODES as u64, "the counter fell below 0");
        prop_assert_eq!(state.stock.value(), 10 * NODES as i128 - i128::from(spent));
    }
}
