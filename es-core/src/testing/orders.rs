//! The orders in which the events of a test can arrive on a node.
//!
//! ```text
//!              {}                 the sets of events that a node can have, from the empty one to all events
//!           p1 /  \ o1
//!         {p1}     {o1}           after {}, p1 and o1 can arrive in both orders: are the results equal?
//!           o1 \  / p1              +-- yes, for each such pair after each set: the order does not matter
//!            {p1, o1}               +-- no: two orders that differ in two events only
//! ```
//!
//! Two orders of the same events differ by exchanges of neighbours of which neither had seen the other. If no exchange
//! changes a result, no order does. There are far fewer sets than orders.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Dot, OriginId, Position, RecordedEvent, Revision, Stamp, VectorClock};
use crate::schema::codec;
use crate::testing::SeededEntropy;
use crate::testing::projected::GivenEvents;

/// The largest number of sets with equally many events after which pairs are exchanged.
const MAX_SETS: usize = 64;

/// Two orders of arrival that differ in their last two events only and give different results.
pub(super) struct OrderDependence<S> {
    /// The indexes of the records in each order, without those that are known to all nodes.
    pub(super) orders: [Vec<usize>; 2],
    pub(super) results: [S; 2],
}

impl<S> OrderDependence<S> {
    /// Returns the indexes of the two events.
    pub(super) fn events(&self) -> [usize; 2] {
        let last = |order: &Vec<usize>| order.last().copied().unwrap_or_default();
        let [one, other] = &self.orders;
        [last(other), last(one)]
    }
}

/// The events that have arrived on a node.
struct Arrivals<S> {
    /// The number of events of each node.
    counts: Vec<usize>,
    /// The indexes of the records, without those that are known to all nodes.
    order: Vec<usize>,
    /// The log of the node.
    records: Vec<RecordedEvent>,
    result: S,
}

impl<S> Arrivals<S> {
    /// Returns the result after one more event.
    fn result_after(&mut self, event: &RecordedEvent, apply: &impl Fn(&S, &[RecordedEvent]) -> S) -> S {
        self.records.push(arrived(event, &self.records));
        let result = apply(&self.result, &self.records);
        self.records.pop();
        result
    }

    /// Returns the arrivals after one more event of a node, with the index of its record.
    fn after(
        &self,
        node: usize,
        index: usize,
        event: &RecordedEvent,
        apply: &impl Fn(&S, &[RecordedEvent]) -> S,
    ) -> Self {
        let (mut counts, mut records) = (self.counts.clone(), self.records.clone());
        counts[node] += 1;
        records.push(arrived(event, &self.records));
        let result = apply(&self.result, &records);
        Self { counts, order: [self.order.as_slice(), &[index]].concat(), records, result }
    }
}

/// Returns an event as a node stores it on which these events arrived before it.
pub(super) fn arrived(event: &RecordedEvent, before: &[RecordedEvent]) -> RecordedEvent {
    let mut record = event.clone();
    let last = before.iter().rev().find(|before| before.stream == record.stream);
    record.revision = Revision::following(last.map(|last| last.revision));
    record.position = before.last().map_or(Position::FIRST, |last| last.position.next());
    record.recorded_at += Duration::from_millis(record.position.get());
    record
}

/// Returns `true` if events can arrive in one order only: each had seen the one before it.
pub(super) fn have_one_order<'a>(events: impl IntoIterator<Item = &'a RecordedEvent>) -> bool {
    let stamps: Vec<&Stamp> = events.into_iter().filter_map(|event| event.data.stamp.as_deref()).collect();
    let has_seen = |stamp: &Stamp, before: Dot| {
        before.origin == stamp.dot.origin || stamp.seen.as_ref().is_some_and(|seen| seen.includes(before))
    };
    stamps.windows(2).all(|pair| has_seen(pair[1], pair[0].dot))
}

impl GivenEvents {
    /// Applies the events in every order in which they can arrive on a node, and compares the results wherever two
    /// events can be exchanged. Returns the result of all events.
    ///
    /// `initial` is the result of the events that are known to all nodes. `apply` returns the result of a log from the
    /// result without its last event.
    ///
    /// If a node can have more than [`MAX_SETS`] sets of equally many events, events are exchanged after so many of
    /// them, the same ones in each run.
    pub(super) fn apply_in_any_order<S>(
        &self,
        initial: S,
        apply: impl Fn(&S, &[RecordedEvent]) -> S,
        is_equal: impl Fn(&S, &S) -> bool,
    ) -> Result<S, Box<OrderDependence<S>>> {
        let entropy = SeededEntropy::new(0);
        let (counts, records) = (vec![0; self.nodes.len()], self.known_to_all().to_vec());
        let mut last = Arrivals { counts, order: Vec::new(), records, result: initial };
        let mut sets = BTreeMap::new();
        loop {
            for next in self.exchange_next(&last, &apply, &is_equal)? {
                sets.entry((next.order.len(), next.counts.clone())).or_insert(next);
            }
            // Every set of this size exists, because each results from a smaller one.
            if sets.first_key_value().is_some_and(|((size, _), _)| *size > last.order.len()) {
                while sets.len() > MAX_SETS {
                    let key = sets.keys().nth(entropy.index(sets.len())).cloned();
                    key.and_then(|key| sets.remove(&key));
                }
            }
            let Some((_, next)) = sets.pop_first() else { return Ok(last.result) };
            last = next;
        }
    }

    /// Returns the arrivals after each event that can arrive next. Each two of these events are applied in both orders.
    fn exchange_next<S>(
        &self,
        arrivals: &Arrivals<S>,
        apply: &impl Fn(&S, &[RecordedEvent]) -> S,
        is_equal: &impl Fn(&S, &S) -> bool,
    ) -> Result<Vec<Arrivals<S>>, Box<OrderDependence<S>>> {
        let mut next = Vec::new();
        for (node, events) in self.nodes.iter().enumerate() {
            let index = events.records.get(arrivals.counts[node]).copied();
            if let Some(index) = index.filter(|index| self.is_admissible(*index, &arrivals.counts)) {
                next.push((index, arrivals.after(node, index, &self.records[index], apply)));
            }
        }
        for second in 1..next.len() {
            let (earlier, later) = next.split_at_mut(second);
            let Some((right, after_right)) = later.first_mut() else { continue };
            for (left, after_left) in earlier {
                let results = [
                    after_left.result_after(&self.records[*right], apply),
                    after_right.result_after(&self.records[*left], apply),
                ];
                if !is_equal(&results[0], &results[1]) {
                    let order = |last: [usize; 2]| [arrivals.order.as_slice(), &last].concat();
                    let orders = [order([*left, *right]), order([*right, *left])];
                    return Err(Box::new(OrderDependence { orders, results }));
                }
            }
        }
        Ok(next.into_iter().map(|(_, after)| after).collect())
    }

    /// Returns `true` if everything that the node of an event had seen is among the first events of each node.
    fn is_admissible(&self, index: usize, counts: &[usize]) -> bool {
        let seen = self.records[index].data.stamp.as_ref().and_then(|stamp| stamp.seen.as_ref());
        let has_arrived = |origin: OriginId, sequence: u64| {
            let node = origin.get().checked_sub(1).and_then(|node| usize::try_from(node).ok());
            node.and_then(|node| counts.get(node)).is_none_or(|count| *count as u64 >= sequence)
        };
        seen.is_none_or(|seen| seen.iter().all(|dot| has_arrived(dot.origin, dot.sequence.get())))
    }

    /// Returns the names of events, in this order.
    pub(super) fn names_of(&self, order: &[usize]) -> String {
        order.iter().map(|index| self.name_of(*index)).collect::<Vec<_>>().join(", ")
    }

    /// Returns the name of an event, such as `paris 1 "task-renamed"`.
    pub(super) fn name_of(&self, index: usize) -> String {
        let event_type = &self.records[index].data.event_type;
        let number = |records: &[usize]| records.iter().position(|record| *record == index);
        let mut nodes = self.nodes.iter().filter_map(|node| Some((&*node.name, number(&node.records)? + 1)));
        let (node, number) = nodes.next().unwrap_or_default();
        format!("{node} {number} {:?}", event_type.as_str())
    }

    /// Describes an event for a message: its name, its content and what its node had seen.
    pub(super) fn description_of(&self, index: usize) -> String {
        let data = &self.records[index].data;
        let content = codec::decode::<serde_json::Value>(&data.content_type, &data.payload);
        let content = content.map_or_else(|_| "not readable".to_owned(), |content| content.to_string());
        let seen = data.stamp.iter().filter_map(|stamp| stamp.seen.as_ref()).flat_map(VectorClock::iter);
        let seen = seen.filter_map(|dot| {
            let node = self.nodes.get(usize::try_from(dot.origin.get().checked_sub(1)?).ok()?)?;
            Some(format!("{} {}", node.name, dot.sequence))
        });
        let seen = seen.collect::<Vec<_>>().join(", ");
        let seen = if seen.is_empty() { String::new() } else { format!(", had seen {seen}") };
        format!("{}: {content}{seen}", self.name_of(index))
    }
}
