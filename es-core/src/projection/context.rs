//! [`ProjectedContext`]: the context of an event in [`Projection::apply`](super::Projection::apply).

use crate::model::{CorrelationId, EventId, EventView, Metadata, Position, Revision, StreamId, Tags, Timestamp};

/// The context of an event in [`Projection::apply`](super::Projection::apply).
///
/// Position, revision and recorded time are those of the log that the projection reads. For a replicated event this is
/// the log of this node, and the recorded time is the time of arrival.
#[derive(Debug, Clone, Copy)]
pub struct ProjectedContext<'a> {
    event: EventView<'a>,
}

impl<'a> ProjectedContext<'a> {
    /// Returns the context of a recorded event.
    #[must_use]
    pub fn new(event: impl Into<EventView<'a>>) -> Self {
        Self { event: event.into() }
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

    /// Returns the number of the event in its stream on this node.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.event.revision()
    }

    /// Returns the number of the event in the log of this node.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.event.position()
    }

    /// Returns the time at which this node recorded the event. It never decreases along the log.
    #[must_use]
    pub const fn recorded_at(&self) -> Timestamp {
        self.event.recorded_at()
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

    /// Returns the recorded event. Its content, type and version are as written, before any upcaster.
    #[must_use]
    pub const fn event(&self) -> EventView<'a> {
        self.event
    }
}
