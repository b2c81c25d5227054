//! [`EventView`]: a recorded event that is borrowed from a store.

use crate::model::{
    CanonicalKey, CommitPart, ContentType, CorrelationId, EventId, EventType, Keys, Metadata, OriginId, Position,
    RecordedEvent, Revision, Stamp, StreamId, Tags, Timestamp,
};

/// A recorded event that is borrowed during a visit. See
/// [`EventReader::visit_log`](crate::store::EventReader::visit_log).
///
/// A store may reuse its memory for the next event, so that a visit does not allocate for each event.
/// [`to_recorded`](Self::to_recorded) returns an owned copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventView<'a>(pub(crate) &'a RecordedEvent);

impl<'a> EventView<'a> {
    /// Returns the number of the event in the log.
    #[must_use]
    pub const fn position(self) -> Position {
        self.0.position
    }

    /// Returns the stream of the event.
    #[must_use]
    pub const fn stream(self) -> &'a StreamId {
        &self.0.stream
    }

    /// Returns the number of the event in its stream.
    #[must_use]
    pub const fn revision(self) -> Revision {
        self.0.revision
    }

    /// Returns the id of the event.
    #[must_use]
    pub const fn id(self) -> EventId {
        self.0.data.id
    }

    /// Returns the wire name of the event type.
    #[must_use]
    pub const fn event_type(self) -> &'a EventType {
        &self.0.data.event_type
    }

    /// Returns the schema version of the payload.
    #[must_use]
    pub const fn version(self) -> u32 {
        self.0.data.version
    }

    /// Returns the encoding of the payload.
    #[must_use]
    pub const fn content_type(self) -> &'a ContentType {
        &self.0.data.content_type
    }

    /// Returns the encoded content.
    #[must_use]
    pub fn payload(self) -> &'a [u8] {
        &self.0.data.payload
    }

    /// Returns the tags.
    #[must_use]
    pub const fn tags(self) -> &'a Tags {
        &self.0.data.tags
    }

    /// Returns the metadata.
    #[must_use]
    pub const fn metadata(self) -> &'a Metadata {
        &self.0.data.metadata
    }

    /// Returns the time at which the store recorded the event.
    #[must_use]
    pub const fn recorded_at(self) -> Timestamp {
        self.0.recorded_at
    }

    /// Returns the time at which the event happened in the domain.
    #[must_use]
    pub const fn occurred_at(self) -> Timestamp {
        self.0.occurred_at
    }

    /// Returns the correlation id, which all events, commands and effects with the same root cause share.
    #[must_use]
    pub const fn correlation_id(self) -> Option<CorrelationId> {
        self.0.data.correlation_id
    }

    /// Returns the id of the event that directly caused this one.
    #[must_use]
    pub const fn causation_id(self) -> Option<EventId> {
        self.0.data.causation_id
    }

    /// Returns the unique keys that the event claims and releases.
    #[must_use]
    pub const fn keys(self) -> &'a Keys {
        &self.0.data.keys
    }

    /// Returns the index of the event in its commit.
    #[must_use]
    pub const fn part(self) -> CommitPart {
        self.0.part
    }

    /// Returns the replication metadata, if any.
    #[must_use]
    pub fn stamp(self) -> Option<&'a Stamp> {
        self.0.data.stamp.as_deref()
    }

    /// Returns the stamp, unless the event was recorded before its store became a replica. Such an event has no stamp
    /// on the node that recorded it, and one of [`OriginId::GENESIS`] on the others.
    pub(crate) fn replicated_stamp(self) -> Option<&'a Stamp> {
        self.stamp().filter(|stamp| stamp.dot.origin != OriginId::GENESIS)
    }

    /// Returns the sort key of the canonical order.
    #[must_use]
    pub fn canonical_key(self) -> CanonicalKey {
        self.0.canonical_key()
    }

    /// Returns `true` if this is a tombstone.
    #[must_use]
    pub fn is_removed(self) -> bool {
        self.0.is_removed()
    }

    /// Returns an owned copy of the event.
    #[must_use]
    pub fn to_recorded(self) -> RecordedEvent {
        self.0.clone()
    }
}

impl<'a> From<&'a RecordedEvent> for EventView<'a> {
    fn from(event: &'a RecordedEvent) -> Self {
        Self(event)
    }
}
