//! [`EventContext`]: the metadata of an event that [`Evolve::evolve`](crate::Evolve::evolve) can use.

use std::num::NonZeroU64;

use crate::model::{
    CanonicalKey, CorrelationId, Dot, EventId, EventView, Metadata, OriginId, Revision, StreamId, Tags, Timestamp,
    VectorClock,
};

/// The context of an event in [`Evolve::evolve`](crate::Evolve::evolve).
///
/// Its values are the same on each node that has the event, so the same events give the same state everywhere. It has
/// no position, because each node has its own log; see [`ProjectedContext`](crate::projection::ProjectedContext) for
/// that.
#[derive(Debug, Clone, Copy)]
pub struct EventContext<'a> {
    event: EventView<'a>,
    revision: Revision,
    recorded_at: Timestamp,
    concurrent: &'a [Dot],
    /// The number of events from before the replication that precede the event.
    genesis_events: u64,
    /// What the node of the event had recorded; `None` if the event has no stamp.
    seen: Option<&'a VectorClock>,
}

impl<'a> EventContext<'a> {
    /// Returns the context of a recorded event, as in a fold of a stream with one order. The context in the fold of a
    /// replicated stream also knows the other events, and the clock that the events of a commit share.
    #[must_use]
    pub fn new(event: impl Into<EventView<'a>>) -> Self {
        let event = event.into();
        let seen = event.stamp().and_then(|stamp| stamp.seen.as_ref());
        let (revision, recorded_at) = (event.revision(), event.recorded_at());
        Self { event, revision, recorded_at, concurrent: &[], genesis_events: revision.get(), seen }
    }

    /// Returns the context of an event in a fold in canonical order: its index in the fold, and the events before it
    /// that are concurrent with it. `genesis_events` is the number of events from before the replication that precede
    /// it; `seen` is what the node of the event had recorded.
    pub(crate) fn in_fold(
        event: EventView<'a>,
        revision: Revision,
        genesis_events: u64,
        concurrent: &'a [Dot],
        seen: Option<&'a VectorClock>,
    ) -> Self {
        let recorded_at = event.stamp().map_or_else(|| event.recorded_at(), |stamp| stamp.time.physical());
        Self { event, revision, recorded_at, concurrent, genesis_events, seen }
    }

    /// Returns the id of the event.
    #[must_use]
    pub const fn id(&self) -> EventId {
        self.event.id()
    }

    /// Returns the stream of the event.
    #[must_use]
    pub const fn stream(&self) -> &StreamId {
        self.event.stream()
    }

    /// Returns the number of the event in its stream. On a replicated stream this is the index of the event in this
    /// fold.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the time at which the event was recorded. On a replicated stream this is the physical part of its hybrid
    /// time.
    #[must_use]
    pub const fn recorded_at(&self) -> Timestamp {
        self.recorded_at
    }

    /// Returns `true` if another node appended an event to the stream without knowing of this one, and the node of this
    /// event did not know of it either. The later event in canonical order, which is the same on every node, gets
    /// `true`; the earlier one was applied before.
    ///
    /// Always `false` for an aggregate whose level has [one order](crate::model::OneOrder), and for events from before
    /// the replication.
    #[must_use]
    pub const fn is_concurrent(&self) -> bool {
        !self.concurrent.is_empty()
    }

    /// Returns the last event of each origin that was applied before this event and is
    /// [concurrent](Self::is_concurrent) with it.
    #[must_use]
    pub const fn concurrent_with(&self) -> &'a [Dot] {
        self.concurrent
    }

    /// Returns the dot of the event, which is the same on every node and unique in the stream. An event that was not
    /// replicated, or was recorded before its store became a replica, has the origin [`OriginId::GENESIS`] and its
    /// number among these events of the stream.
    #[must_use]
    pub fn dot(&self) -> Dot {
        let sequence = NonZeroU64::MIN.saturating_add(self.genesis_events);
        self.event.replicated_stamp().map_or(Dot { origin: OriginId::GENESIS, sequence }, |stamp| stamp.dot)
    }

    /// Returns `true` if the node of this event had recorded the event with a [dot](Self::dot) of the same stream when
    /// it decided this one.
    ///
    /// An event from before the replication follows only earlier ones of the same kind, and a node that had any of them
    /// had all of them, because they are adopted at once.
    #[must_use]
    pub fn follows(&self, dot: Dot) -> bool {
        let Some(stamp) = self.event.replicated_stamp() else { return dot < self.dot() };
        if dot.origin == stamp.dot.origin {
            return dot.sequence < stamp.dot.sequence;
        }
        match self.seen {
            // The dot counts the events of the stream, the clock those of the store.
            Some(seen) if dot.origin == OriginId::GENESIS => seen.get(OriginId::GENESIS).is_some(),
            Some(seen) => seen.includes(dot),
            None => false,
        }
    }

    /// Returns the sort key of the canonical order, which is the same on every node and extends
    /// [`follows`](Self::follows).
    #[must_use]
    pub fn canonical_key(&self) -> CanonicalKey {
        self.event.canonical_key()
    }

    /// Returns the time at which the event happened in the domain.
    #[must_use]
    pub const fn occurred_at(&self) -> Timestamp {
        self.event.occurred_at()
    }

    /// Returns the tags.
    #[must_use]
    pub const fn tags(&self) -> &Tags {
        self.event.tags()
    }

    /// Returns the metadata.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        self.event.metadata()
    }

    /// Returns the correlation id, which all events, commands and effects with the same root cause share.
    #[must_use]
    pub const fn correlation_id(&self) -> Option<CorrelationId> {
        self.event.correlation_id()
    }

    /// Returns the id of the event that directly caused this one.
    #[must_use]
    pub const fn causation_id(&self) -> Option<EventId> {
        self.event.causation_id()
    }
}
