//! [`NewEvent`], which a writer passes to a store, and [`RecordedEvent`], which a store returns. Both contain
//! [`EventData`].
//!
//! A store handles names, bytes and numbers. Only the [`Event`](crate::Event) type that encoded an event knows its
//! meaning.

use std::fmt;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::model::Metadata;
use crate::model::Stamp;
use crate::model::Tags;
use crate::model::{CorrelationId, EventId};
use crate::model::{EventType, StreamId, Tag, UniqueKey};
use crate::model::{KeyChange, Keys};
use crate::model::{Position, Revision};

/// A point in time in UTC. Stores keep microseconds.
pub type Timestamp = DateTime<Utc>;

/// Truncates a time to whole microseconds, the precision of stored times.
#[must_use]
pub fn to_stored_precision(time: Timestamp) -> Timestamp {
    // `trunc_subsecs` would keep chrono's representation of a leap second, which a count of microseconds cannot
    // represent. A stored time would then differ from the time that was written.
    DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap_or(time)
}

/// The encoding of a payload, as a media type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum ContentType {
    /// `application/json`
    Json,
    /// `application/msgpack`: MessagePack with field names; see [`MessagePack`](crate::schema::codec::MessagePack).
    MessagePack,
    /// Any other media type, of at most 255 bytes.
    Other(Box<str>),
}

impl ContentType {
    /// The maximum length of a media type, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// Returns the media type.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Json => "application/json",
            Self::MessagePack => "application/msgpack",
            Self::Other(text) => text,
        }
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&str> for ContentType {
    fn from(text: &str) -> Self {
        [Self::Json, Self::MessagePack]
            .into_iter()
            .find(|known| known.as_str() == text)
            .unwrap_or_else(|| Self::Other(text.into()))
    }
}

impl From<String> for ContentType {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<ContentType> for String {
    fn from(content_type: ContentType) -> Self {
        content_type.as_str().to_owned()
    }
}

/// The content of an event: everything that its writer sets except the stream and the time.
///
/// [`NewEvent`] and [`RecordedEvent`] contain it. Code that stores or copies an event moves it as a whole. Code that
/// encodes each field destructures it, so that adding a field causes a compile error there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventData {
    /// The id of the event.
    pub id: EventId,
    /// The wire name of the event type.
    pub event_type: EventType,
    /// The schema version of the payload, from 1.
    pub version: u32,
    /// The encoding of the payload.
    pub content_type: ContentType,
    /// The encoded content.
    pub payload: Bytes,
    /// The tags by which a [`Query`](crate::store::Query) finds the event.
    pub tags: Tags,
    /// The metadata.
    pub metadata: Metadata,
    /// The correlation id, which all events, commands and effects with the same root cause share.
    pub correlation_id: Option<CorrelationId>,
    /// The id of the event that directly caused this one.
    pub causation_id: Option<EventId>,
    /// The unique keys that the event claims and releases.
    pub keys: Keys,
    /// The replication metadata, or `None` for an event of a local store.
    pub stamp: Option<Box<Stamp>>,
}

impl EventData {
    /// Returns the content of an event with a new id, without tags and metadata.
    #[must_use]
    pub fn new(event_type: EventType, version: u32, content_type: ContentType, payload: impl Into<Bytes>) -> Self {
        Self::with_id(EventId::new(), event_type, version, content_type, payload)
    }

    pub(crate) fn with_id(
        id: EventId,
        event_type: EventType,
        version: u32,
        content_type: ContentType,
        payload: impl Into<Bytes>,
    ) -> Self {
        Self {
            id,
            event_type,
            version,
            content_type,
            payload: payload.into(),
            tags: Tags::new(),
            metadata: Metadata::new(),
            correlation_id: None,
            causation_id: None,
            keys: Keys::new(),
            stamp: None,
        }
    }
}

/// An encoded event that is not yet stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The content.
    pub data: EventData,
    /// When the event happened in the domain, or `None` for the time at which it is recorded.
    pub occurred_at: Option<Timestamp>,
}

impl NewEvent {
    /// Returns an event of schema version 1 with a JSON payload and a new id.
    ///
    /// Domain code does not call this: a [`Repository`](crate::Repository) encodes typed events.
    #[must_use]
    pub fn json(event_type: EventType, payload: impl Into<Bytes>) -> Self {
        Self::new(event_type, 1, ContentType::Json, payload)
    }

    /// Returns an event with a new id, without tags and metadata.
    #[must_use]
    pub fn new(event_type: EventType, version: u32, content_type: ContentType, payload: impl Into<Bytes>) -> Self {
        EventData::new(event_type, version, content_type, payload).into()
    }

    /// Replaces the id.
    #[must_use]
    pub fn with_id(mut self, id: EventId) -> Self {
        self.data.id = id;
        self
    }

    /// Adds a tag.
    #[must_use]
    pub fn tagged(mut self, tag: Tag) -> Self {
        self.data.tags.insert(tag);
        self
    }

    /// Replaces the metadata.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.data.metadata = metadata;
        self
    }

    /// Claims a unique key for the stream of the event.
    #[must_use]
    pub fn claiming(mut self, key: UniqueKey) -> Self {
        self.data.keys.push(KeyChange::Claim(key));
        self
    }

    /// Releases a unique key of the stream of the event.
    #[must_use]
    pub fn releasing(mut self, key: UniqueKey) -> Self {
        self.data.keys.push(KeyChange::Release(key));
        self
    }

    /// Sets the time at which the event happened in the domain.
    #[must_use]
    pub fn occurred_at(mut self, time: Timestamp) -> Self {
        self.occurred_at = Some(time);
        self
    }
}

impl From<EventData> for NewEvent {
    fn from(data: EventData) -> Self {
        Self { data, occurred_at: None }
    }
}

/// The index of an event in its commit. Readers use it to find the first and the last event of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CommitPart {
    /// The index of the event in its commit, from 0.
    pub index: u32,
    /// The number of events in the commit.
    pub size: u32,
}

impl CommitPart {
    /// Returns `true` if the event is the last of its commit.
    #[must_use]
    pub const fn is_last(self) -> bool {
        self.index + 1 == self.size
    }
}

/// An event as a store returns it: its content, its numbers and its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// The number of the event in the log.
    pub position: Position,
    /// The stream of the event.
    pub stream: StreamId,
    /// The number of the event in its stream.
    pub revision: Revision,
    /// When the store recorded the event. It never decreases within a log, even if the wall clock is set back.
    pub recorded_at: Timestamp,
    /// When the event happened in the domain. Equals `recorded_at` if the writer set no time.
    pub occurred_at: Timestamp,
    /// The index of the event in its commit.
    pub part: CommitPart,
    /// The content.
    pub data: EventData,
}

impl RecordedEvent {
    /// Returns the tombstone that replaces a [removed](crate::retention) event. It contains none of the content of the
    /// event. For implementers of stores; reads do not return tombstones.
    #[must_use]
    pub fn removed(
        position: Position,
        stream: StreamId,
        revision: Revision,
        id: EventId,
        recorded_at: Timestamp,
        part: CommitPart,
    ) -> Self {
        let event_type = EventType::well_known(crate::model::reserved::REMOVED);
        let data = EventData::with_id(id, event_type, 1, ContentType::Json, Bytes::new());
        Self { position, stream, revision, recorded_at, occurred_at: recorded_at, part, data }
    }

    /// Returns `true` if this is a tombstone.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.data.event_type == crate::model::reserved::REMOVED
    }

    /// Returns the tombstone of this event.
    #[must_use]
    pub fn without_content(&self) -> Self {
        let Self { position, revision, recorded_at, part, .. } = *self;
        Self::removed(position, self.stream.clone(), revision, self.data.id, recorded_at, part)
    }

    /// Returns `true` if this is the record of `event` in `stream`: everything that the writer sets is the same. A new
    /// event without a time is a repeat of one that was recorded without a time. A new event without a stamp is a
    /// repeat of one that a hook has stamped; of two stamps, only the dots are compared.
    #[must_use]
    pub fn is_record_of(&self, stream: &StreamId, event: &NewEvent) -> bool {
        self.has_content_of(stream, event) && self.different_attribution(event).is_none()
    }

    /// Returns `true` if the stream, the id and the content of `event` are those of this record, and the dot if `event`
    /// has one.
    pub(crate) fn has_content_of(&self, stream: &StreamId, event: &NewEvent) -> bool {
        let EventData {
            id,
            event_type,
            version,
            content_type,
            payload,
            tags,
            metadata: _,
            correlation_id: _,
            causation_id: _,
            keys,
            stamp,
        } = &event.data;
        let recorded = &self.data;
        recorded.id == *id
            && self.stream == *stream
            && recorded.event_type == *event_type
            && recorded.version == *version
            && recorded.content_type == *content_type
            && recorded.payload == *payload
            && recorded.tags == *tags
            && recorded.keys == *keys
            && stamp.as_ref().is_none_or(|new| recorded.stamp.as_ref().is_some_and(|known| known.dot == new.dot))
    }

    /// Returns the name of the first of metadata, time and causes that `event` has and this record does not.
    pub(crate) fn different_attribution(&self, event: &NewEvent) -> Option<&'static str> {
        let occurred_at = event.occurred_at.map_or(self.recorded_at, to_stored_precision);
        [
            (self.data.metadata != event.data.metadata, "metadata"),
            (self.occurred_at != occurred_at, "occurred_at"),
            (self.data.correlation_id != event.data.correlation_id, "correlation id"),
            (self.data.causation_id != event.data.causation_id, "causation id"),
        ]
        .into_iter()
        .find_map(|(differs, field)| differs.then_some(field))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_time_has_whole_microseconds_even_in_a_leap_second() {
        let time = |text: &str| text.parse::<Timestamp>().expect("a time");
        assert_eq!(to_stored_precision(time("2016-12-31T12:00:00.123456789Z")), time("2016-12-31T12:00:00.123456Z"));
        assert_eq!(to_stored_precision(time("1969-12-31T23:59:59.9999999Z")), time("1969-12-31T23:59:59.999999Z"));
        let leap = to_stored_precision(time("2016-12-31T23:59:60.5Z"));
        assert_eq!(DateTime::from_timestamp_micros(leap.timestamp_micros()), Some(leap));
    }

    #[test]
    fn a_known_media_type_is_recognized() {
        for known in [ContentType::Json, ContentType::MessagePack, ContentType::Other("text/plain".into())] {
            assert_eq!(ContentType::from(known.as_str()), known);
        }
    }
}
