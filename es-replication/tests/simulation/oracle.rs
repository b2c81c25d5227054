//! What must hold, from the point of view of clients: stamps are not consulted, except to compare ids with dots.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use es_core::model::{Dot, VectorClock};
use es_core::prelude::*;
use es_core::{EventId, LogRead, RecordedEvent, StreamId};
use es_replication::MemberState;
use serde_json::Value;

use crate::coverage::Coverage;
use crate::domain::{Trace, TraceEvent, is_resolved};
use crate::node::Node;
use crate::world::members;

/// The history of all clients.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// For each event, the events that its node had stored when it was written.
    causes: BTreeMap<EventId, BTreeSet<EventId>>,
    /// The events that a client was told to be written.
    pub(crate) acknowledged: BTreeSet<EventId>,
    /// The event of each dot.
    dots: BTreeMap<Dot, EventId>,
    /// The dot and the stream of each event, also of lost ones.
    events: BTreeMap<EventId, (Dot, StreamId)>,
    /// The number of events of the commit of each event, on the node that wrote it.
    sizes: BTreeMap<EventId, u32>,
    /// Whether events were lost on all nodes.
    pub(crate) has_lost: bool,
    /// Whether nodes can withhold events.
    has_filters: bool,
    /// The numbers of the acknowledged commands, each with the aggregate.
    pub(crate) commands: BTreeMap<u64, (u64, BTreeSet<EventId>)>,
    /// The node that wrote each event.
    writers: BTreeMap<EventId, usize>,
    /// The events that each node has or had.
    had: BTreeMap<usize, BTreeSet<EventId>>,
}

impl Oracle {
    pub(crate) fn new(has_filters: bool) -> Self {
        Self { has_filters, ..Self::default() }
    }

    /// Adds the events that a node has written since `after`.
    pub(crate) async fn record_write(&mut self, node: &mut Node) {
        for event in node.events(node.checked_to).await {
            self.causes.insert(event.data.id, node.checked.clone());
            self.sizes.insert(event.data.id, event.part.size);
            self.writers.insert(event.data.id, node.number);
            self.check_event(node, &event, &mut Coverage::default());
        }
    }

    /// Checks that every new event of a node is stored after its causes, and that its dot has one id. A cause in
    /// another stream may be withheld.
    pub(crate) async fn check_order(&mut self, node: &mut Node, coverage: &mut Coverage) {
        let events = node.events(node.checked_to).await;
        if events.is_empty() {
            return;
        }
        let skipped = node.skipped.clone();
        for event in &events {
            self.check_event(node, event, coverage);
        }
        let knowledge = node.replica.knowledge().await.expect("read");
        coverage.withheld += u64::from(knowledge.withheld_events() > 0);
        for cause in node.skipped.difference(&skipped) {
            let (dot, _) = &self.events[cause];
            let is_withheld = knowledge.clock().includes(*dot) && !knowledge.holds(*dot);
            assert!(is_withheld, "node {} has stored events before their cause {cause} ({dot})", node.number);
        }
    }

    /// Returns `true` if a node withholds no event of a stream, or of any stream. Only then it may write it: otherwise
    /// it would decide without the event, and mark it as seen.
    pub(crate) async fn has_all(&self, node: &Node, stream: Option<&StreamId>) -> bool {
        let knowledge = node.replica.knowledge().await.expect("read");
        let lacks = |(dot, id): (&Dot, &EventId)| {
            let is_of_stream = stream.is_none_or(|stream| self.is_of(*id, stream));
            is_of_stream && knowledge.clock().includes(*dot) && !node.checked.contains(id)
        };
        !self.dots.iter().any(lacks)
    }

    /// Adds the events of the membership that a node has written. When a departure is completed, every remaining member
    /// must have known of it.
    pub(crate) async fn record_membership(&mut self, node: &mut Node, coverage: &mut Coverage) {
        let events = node.events(node.checked_to).await;
        self.record_write(node).await;
        for event in events {
            let content: Value = serde_json::from_slice(&event.data.payload).expect("JSON");
            match event.data.event_type.as_str() {
                "origins-retired" => coverage.origins_retired += 1,
                "departure-completed" => {
                    coverage.departures_completed += 1;
                    let departure: Dot = serde_json::from_value(content["departure"].clone()).expect("a dot");
                    let id = self.dots[&departure];
                    for (name, state) in members(node).await {
                        let number: usize = name[1..].parse().expect("a number");
                        let is_up = matches!(state, MemberState::Joined | MemberState::Leaving);
                        let had = self.had.get(&number).is_some_and(|had| had.contains(&id));
                        assert!(had || !is_up, "{name} did not know of the departure of {}", content["member"]);
                    }
                }
                _ => {}
            }
        }
    }

    /// Checks that every member has or had the events that a node takes for stable.
    pub(crate) fn check_stable(&self, node: usize, stable: &VectorClock, members: &[usize]) {
        for (dot, id) in self.dots.iter().filter(|(dot, _)| stable.includes(**dot)) {
            for member in members {
                let had = self.had.get(member).is_some_and(|had| had.contains(id));
                assert!(had, "node {node} takes {dot} for stable, which node {member} never had");
            }
        }
    }

    /// Checks that another node has all events that a node wrote before it left.
    pub(crate) async fn check_left(&self, node: &Node, other: &Node) {
        let is_own = |id: &&EventId| self.acknowledged.contains(*id) && self.writers.get(*id) == Some(&node.number);
        let missing: Vec<_> = node.checked.difference(&other.checked).filter(is_own).collect();
        assert!(missing.is_empty(), "node {} has left, and events are only there: {missing:?}", node.number);
    }

    /// Checks that readers of an event find out exactly what its node had, although its clock omits retired origins.
    /// With filters, a clock includes withheld events, too.
    fn check_clock(&self, node: &Node, event: &RecordedEvent, causes: &BTreeSet<EventId>, coverage: &mut Coverage) {
        let stamp = event.data.stamp.as_deref().expect("a stamp");
        let Some(seen) = &stamp.seen else { return };
        let expanded = node.store.replication().expect("a replica").retired_origins().expand(stamp.dot, seen);
        coverage.clocks_compressed += u64::from(*expanded != *seen);
        let mut last = VectorClock::new();
        last.extend(causes.iter().map(|cause| self.events[cause].0).filter(|dot| dot.origin != stamp.dot.origin));
        for dot in last.iter() {
            assert!(expanded.includes(dot), "node {}: event {} has seen {dot}: {expanded:?}", node.number, stamp.dot);
        }
        let is_exact = !self.has_lost && !self.has_filters;
        assert!(!is_exact || *expanded == last, "node {}: event {} has seen {last:?}", node.number, stamp.dot);
    }

    pub(crate) fn is_of(&self, event: EventId, stream: &StreamId) -> bool {
        self.events[&event].1 == *stream
    }

    fn check_event(&mut self, node: &mut Node, event: &RecordedEvent, coverage: &mut Coverage) {
        let id = event.data.id;
        let dot = event.data.stamp.as_ref().expect("a stamp").dot;
        self.events.entry(id).or_insert_with(|| (dot, event.stream.clone()));
        let causes = self.causes.get(&id).expect("every event was written through a node");
        self.check_clock(node, event, causes, coverage);
        for cause in causes.difference(&node.checked) {
            let (_, stream) = &self.events[cause];
            assert_ne!(*stream, event.stream, "node {} has event {id} before its cause {cause}", node.number);
            node.skipped.insert(*cause);
        }
        coverage.late_admissions += u64::from(node.skipped.remove(&id));
        coverage.commits_divided += u64::from(event.part.size < self.sizes[&id]);
        assert_eq!(*self.dots.entry(dot).or_insert(id), id, "two events have the dot {dot}");
        assert!(node.checked.insert(id), "node {} has event {id} twice", node.number);
        self.had.entry(node.number).or_default().insert(id);
        node.checked_to = Some(event.position);
    }

    /// Forgets the acknowledged events that no node has, because the only one that had them was restored from an older
    /// backup.
    pub(crate) async fn forget_lost(&mut self, nodes: impl Iterator<Item = &Node>) {
        let mut existing = BTreeSet::new();
        for node in nodes {
            let events = node.store.read_log(LogRead::all()).await.expect("read").collect().await.expect("read");
            existing.extend(events.into_iter().map(|event| event.data.id));
        }
        self.acknowledged.retain(|id| existing.contains(id));
        let known = |ids: &BTreeSet<EventId>| ids.iter().any(|id| existing.contains(id));
        self.commands.retain(|_, (_, ids)| known(ids));
        let lost: Vec<Dot> = self.dots.iter().filter(|(_, id)| !existing.contains(id)).map(|(dot, _)| *dot).collect();
        self.has_lost |= !lost.is_empty();
        for dot in lost {
            // The node may use the dot again, because no member has seen its event.
            self.dots.remove(&dot);
        }
    }

    /// Checks one aggregate of a node: a load from the cache, from a snapshot, and of all events give the same state.
    pub(crate) async fn check_load(&self, node: &Node, id: u64, coverage: &mut Coverage) -> Trace {
        let cached = node.traces.load(&id).await.expect("loaded");
        node.traces.settle().await;
        let store: Arc<dyn EventStore> = Arc::new(node.store.clone());
        let from_snapshot =
            Repository::<Trace>::new(Arc::clone(&store)).without_cache().load(&id).await.expect("loaded");
        let folded =
            Repository::<Trace>::new(store).without_cache().without_snapshots().load(&id).await.expect("loaded");
        assert_eq!(cached.state, folded.state, "node {}: the cached state of {id}", node.number);
        assert_eq!(from_snapshot.state, folded.state, "node {}: the snapshot of {id}", node.number);
        assert_eq!([cached.version(), from_snapshot.version()], [folded.version(); 2]);
        let answered: BTreeSet<_> = folded.state.answered.iter().copied().collect();
        assert_eq!(answered.len(), folded.state.answered.len(), "node {}: a conflict is answered twice", node.number);
        let stream = Trace::stream(&id).expect("a name");
        let arrival: Vec<_> = node.events(None).await.into_iter().filter(|event| event.stream == stream).collect();
        let is_late = !arrival.is_sorted_by_key(RecordedEvent::canonical_key);
        coverage.late_events += u64::from(is_late);
        coverage.concurrent_events +=
            folded.state.applied.iter().filter(|(.., others)| !others.is_empty()).count() as u64;
        folded.state
    }

    /// Checks that a healed group is complete and equal.
    pub(crate) async fn check_convergence(&self, nodes: &[Option<Node>], aggregates: u64, coverage: &mut Coverage) {
        let mut first: Option<Vec<Trace>> = None;
        for node in nodes.iter().flatten() {
            let missing: Vec<&EventId> = self.acknowledged.difference(&node.checked).collect();
            assert!(missing.is_empty(), "node {} has lost acknowledged events: {missing:?}", node.number);
            // An event that was lost on all nodes that had it stays withheld on the others.
            let withheld = node.replica.knowledge().await.expect("read").withheld_events();
            assert!(withheld == 0 || self.has_lost, "node {} still withholds {withheld} events", node.number);
            let mut states = Vec::new();
            for id in 0..aggregates {
                states.push(self.check_load(node, id, coverage).await);
            }
            match &first {
                Some(first) => assert_eq!(&states, first, "node {} has another state", node.number),
                None => first = Some(states),
            }
        }
        let states = first.unwrap_or_default();
        self.check_commands(&states);
        if let Some(node) = nodes.iter().flatten().next() {
            self.check_conflicts(node, &states, coverage).await;
        }
    }

    /// Checks that every conflict is answered once: two events of an aggregate, of which the node of neither had the
    /// other when it was written.
    async fn check_conflicts(&self, node: &Node, states: &[Trace], coverage: &mut Coverage) {
        let (mut events, mut stored) = (BTreeMap::<u64, Vec<(u64, EventId)>>::new(), 0);
        for event in node.events(None).await {
            let Some(id) = Trace::id_of(&event.stream) else { continue };
            match TraceEvent::decode((&event).into()).expect("decoded").as_slice() {
                [TraceEvent::Noted(number)] if is_resolved(*number) => {
                    events.entry(id).or_default().push((*number, event.data.id));
                }
                [TraceEvent::Answered(..)] => stored += 1,
                _ => {}
            }
        }
        let knows = |one: EventId, other: EventId| self.causes[&one].contains(&other);
        for (id, state) in (0..).zip(states) {
            let events = events.remove(&id).unwrap_or_default();
            let pairs = events.iter().flat_map(|one| events.iter().map(move |other| (one, other)));
            let conflicts = pairs.filter(|((one, of_one), (other, of_other))| {
                one < other && !knows(*of_one, *of_other) && !knows(*of_other, *of_one)
            });
            let conflicts: BTreeSet<(u64, u64)> = conflicts.map(|((one, _), (other, _))| (*one, *other)).collect();
            assert_eq!(state.answered.iter().copied().collect::<BTreeSet<_>>(), conflicts, "the conflicts of {id}");
            stored -= state.answered.len();
        }
        coverage.answers_skipped += stored as u64;
    }

    /// Checks that every acknowledged command has one effect, however many nodes executed it.
    fn check_commands(&self, states: &[Trace]) {
        for (number, (id, _)) in &self.commands {
            let effects = states[*id as usize].numbers().filter(|applied| applied == number).count();
            let expected = if number % 4 == 0 { 2 } else { 1 };
            assert_eq!(effects, expected, "the number of effects of command {number}");
        }
    }
}
