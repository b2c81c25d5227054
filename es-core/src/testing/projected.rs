//! [`given_events`]: tests of projections in the given-when-then style.

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use crate::aggregate::Aggregate;
use crate::consumer::selection::Selection;
use crate::model::ErrorChain;
use crate::model::{CommitPart, EventData, EventId, Metadata, RecordedEvent, Timestamp, to_stored_precision};
use crate::model::{Dot, HybridTime, OriginId, Stamp, VectorClock};
use crate::model::{Position, Revision};
use crate::model::{StreamId, SubjectId};
use crate::projection::view::MemoryViews;
use crate::projection::{ApplyFailure, BatchApplier, Projection, is_projected};
use crate::retention::{DeleteKind, Note, OperatorEvent, ReplicatedDeletion, StreamDots};
use crate::schema::Event;

/// Starts a test of a projection: add events, [`project`](GivenEvents::project) them, and compare the views. Needs
/// neither a store nor a runtime.
///
/// Each event is encoded and decoded as in a log. For an example see [`view`](crate::projection::view).
#[must_use]
pub fn given_events() -> GivenEvents {
    let (records, nodes, now) = (Vec::new(), Vec::new(), Timestamp::UNIX_EPOCH);
    GivenEvents { records, nodes, current: None, now, metadata: Metadata::new() }
}

/// A node and its events.
#[derive(Debug, Clone)]
pub(super) struct NodeEvents {
    pub(super) name: String,
    /// The indexes of its records.
    pub(super) records: Vec<usize>,
    /// The events of all nodes that it had when it decided its last event or pulled.
    known: VectorClock,
}

/// The log of a test of a projection, or of a replicated aggregate.
#[derive(Debug, Clone)]
pub struct GivenEvents {
    pub(super) records: Vec<RecordedEvent>,
    /// The nodes, in the order of [`on_node`](Self::on_node). The records before those of the first node are known to
    /// all.
    pub(super) nodes: Vec<NodeEvents>,
    /// The index of the node of the next event.
    current: Option<usize>,
    now: Timestamp,
    metadata: Metadata,
}

impl GivenEvents {
    /// Sets the time of the events that follow. The initial time is the start of 1970.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        self.now = to_stored_precision(now);
        self
    }

    /// Sets the metadata of the events that follow.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// Lets the events that follow originate on a node, concurrently with all events that the node has not
    /// [pulled](Self::pull_from). The events before the first call are known to all nodes.
    #[must_use]
    pub fn on_node(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        let found = self.nodes.iter().position(|node| node.name == name);
        self.current = found.or_else(|| {
            let genesis = NonZeroU64::new(self.known_to_all().len() as u64);
            let known = genesis.map(|sequence| Dot { origin: OriginId::GENESIS, sequence }).into_iter().collect();
            self.nodes.push(NodeEvents { name, records: Vec::new(), known });
            Some(self.nodes.len() - 1)
        });
        self
    }

    /// Lets the node receive the events that another node has so far: its own, and those that it has pulled.
    ///
    /// # Panics
    /// If no event of a node is given yet, or if there is no node with this name.
    #[must_use]
    #[track_caller]
    pub fn pull_from(mut self, name: &str) -> Self {
        let current = self.current.unwrap_or_else(|| panic!("no node pulls: call `on_node` first"));
        let Some(other) = self.nodes.iter().find(|node| node.name == name) else {
            panic!("no node {name:?} to pull from: call `on_node` with this name first")
        };
        let known = other.known.clone();
        self.nodes[current].known.merge(&known);
        self
    }

    /// Appends events of the aggregate with this id.
    ///
    /// # Panics
    /// If the id is not valid in the name of a stream, or an event cannot be encoded.
    #[must_use]
    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "an id is often a literal: the test reads better without a reference"
    )]
    pub fn of<A: Aggregate>(self, id: A::Id, events: impl IntoIterator<Item = A::Event>) -> Self {
        let stream = A::stream(&id).unwrap_or_else(|error| panic!("invalid id: {error}"));
        self.in_stream(stream.as_str(), events)
    }

    /// Appends events of any type to the stream with this name, for projections of
    /// [`RawEvents`](crate::aggregate::RawEvents).
    ///
    /// # Panics
    /// If the name is invalid, or an event cannot be encoded.
    #[must_use]
    #[track_caller]
    pub fn in_stream<E: Event>(mut self, stream: &str, events: impl IntoIterator<Item = E>) -> Self {
        let stream = StreamId::new(stream).unwrap_or_else(|error| panic!("invalid name of a stream: {error}"));
        for event in events {
            let encoded =
                event.encode().unwrap_or_else(|error| panic!("could not encode the event: {}", ErrorChain(&error)));
            let data = EventData { metadata: self.metadata.clone(), ..encoded.into_data(EventId::new()) };
            self.push(&stream, data);
        }
        self
    }

    /// Deletes the stream of the aggregate with this id. The projection has received its events before, as in a view
    /// that follows the log.
    ///
    /// After [`on_node`](Self::on_node) a soft deletion is one of a replicated stream, as by `Replica::delete`: it
    /// covers the events that the node has.
    ///
    /// # Panics
    /// If the id is not valid in the name of a stream.
    #[must_use]
    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "an id is often a literal: the test reads better without a reference"
    )]
    pub fn deleted<A: Aggregate>(mut self, id: A::Id, kind: DeleteKind) -> Self {
        let stream = A::stream(&id).unwrap_or_else(|error| panic!("invalid id: {error}"));
        if let Some(node) = self.current.filter(|_| kind == DeleteKind::Soft) {
            return self.deleted_on(node, &stream);
        }
        let through = self.records.iter().rev().find(|record| record.stream == stream).map(|record| record.revision);
        self.operator(&OperatorEvent::StreamDeleted { stream, kind, through, note: Note::default() });
        self
    }

    #[track_caller]
    fn deleted_on(mut self, node: usize, stream: &StreamId) -> Self {
        let (known, mut dots) = (&self.nodes[node].known, StreamDots::default());
        let is_known = |record: &&RecordedEvent| record.data.stamp.as_ref().is_none_or(|it| known.includes(it.dot));
        let of_stream = self.records.iter().filter(|record| record.stream == *stream).filter(is_known);
        let through = of_stream.map(|record| dots.next(record.into())).collect();
        let event = ReplicatedDeletion { through, note: Note::default() }.encode();
        let event = event.unwrap_or_else(|error| panic!("could not encode the deletion: {error}"));
        self.push(stream, event.data);
        self
    }

    /// Erases a subject of personal data.
    #[must_use]
    pub fn erased(mut self, subject: SubjectId) -> Self {
        self.operator(&OperatorEvent::SubjectErased { subject, note: Note::default() });
        self
    }

    /// Returns the records before those of the first node.
    pub(super) fn known_to_all(&self) -> &[RecordedEvent] {
        let known = self.records.iter().take_while(|record| record.data.stamp.is_none()).count();
        &self.records[..known]
    }

    fn operator(&mut self, event: &OperatorEvent) {
        let (stream, event) = event.encode();
        self.push(&stream, event.data);
    }

    pub(super) fn push(&mut self, stream: &StreamId, mut data: EventData) {
        data.stamp = self.next_stamp().map(Box::new);
        let last = self.records.iter().rev().find(|record| record.stream == *stream).map(|record| record.revision);
        self.records.push(RecordedEvent {
            position: self.records.last().map_or(Position::FIRST, |record| record.position.next()),
            stream: stream.clone(),
            revision: Revision::following(last),
            recorded_at: self.now,
            occurred_at: self.now,
            part: CommitPart { index: 0, size: 1 },
            data,
        });
    }

    /// Adds the next event to its node and returns its stamp; `None` before the first node.
    fn next_stamp(&mut self) -> Option<Stamp> {
        let index = self.current?;
        let known = &self.nodes[index].known;
        // The number of records makes the hybrid times increase in the order of the test. Where the test sets the clock
        // back, an event still follows those that its node has.
        let after = HybridTime::at(self.now).to_bits() + self.records.len() as u64;
        let is_known = |record: &&RecordedEvent| record.data.stamp.as_ref().is_none_or(|it| known.includes(it.dot));
        let times = self.records.iter().filter(is_known).map(|record| record.canonical_key().time.to_bits());
        let time = HybridTime::from_bits(times.chain([after]).max().unwrap_or(after) + 1);
        let origin = OriginId::new(index as u64 + 1);
        let sequence = known.get(origin).map_or(NonZeroU64::MIN, |last| last.saturating_add(1));
        let dot = Dot { origin, sequence };
        let seen = Some(known.iter().filter(|dot| dot.origin != origin).collect());
        let node = &mut self.nodes[index];
        node.known.extend([dot]);
        node.records.push(self.records.len());
        Some(Stamp { dot, time, seen, command: None })
    }

    /// Applies the events that the query of the projection selects, and the erasures: once as one batch and once one by
    /// one.
    ///
    /// # Panics
    /// If the two results differ, which means that `apply` does not depend on its arguments alone.
    #[must_use = "check the result with one of the `then` methods"]
    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a projection is often a unit type: the test reads better without a reference"
    )]
    pub fn project<P: Projection>(&self, projection: P) -> Projected {
        let events = selected(&projection, &self.records);
        let blocked = BTreeSet::new();
        let apply = |views: &mut MemoryViews, events: &[&RecordedEvent]| {
            views.fold(BatchApplier::new(&projection, events.iter().copied(), &blocked), &self.records)
        };
        let (mut batch_views, mut single_views) = (MemoryViews::default(), MemoryViews::default());
        let batch = apply(&mut batch_views, &events);
        let singles = events.iter().try_for_each(|event| apply(&mut single_views, &[*event]));
        match (batch, singles) {
            (Ok(()), Ok(())) => {
                assert_eq!(
                    batch_views, single_views,
                    "expected the same rows from one batch (left) and event by event (right)"
                );
                Projected(Ok(batch_views))
            }
            (Err((index, failure)), Err(_)) => Projected(Err((index, failure))),
            (batch, singles) => {
                panic!("expected the same from one batch and event by event, found {batch:?} and {singles:?}")
            }
        }
    }
}

/// Returns the events that a projection receives.
pub(super) fn selected<'a, P: Projection>(projection: &P, records: &'a [RecordedEvent]) -> Vec<&'a RecordedEvent> {
    let selection = Selection::new(projection.query());
    records.iter().filter(|event| is_projected(event) && selection.selects(event)).collect()
}

/// The result of a test of a projection. The methods panic at the location of the call if the result differs from the
/// expected one.
#[derive(Debug)]
pub struct Projected(pub(super) Result<MemoryViews, (usize, ApplyFailure)>);

impl Projected {
    /// Expects that all events were applied, and calls `check` with the views.
    #[track_caller]
    pub fn then(self, check: impl FnOnce(&MemoryViews)) -> Self {
        match &self.0 {
            Ok(views) => check(views),
            Err((index, failure)) => {
                panic!("expected all events to be applied, but event {index} failed: {}", ErrorChain(failure))
            }
        }
        self
    }

    /// Expects that an event could not be applied, and calls `check` with the failure.
    #[track_caller]
    pub fn then_failed(self, check: impl FnOnce(&ApplyFailure)) -> Self {
        match &self.0 {
            Err((_, failure)) => check(failure),
            Ok(_) => panic!("expected an event to fail, but all events were applied"),
        }
        self
    }
}
