//! Events at the border of the store: [`NewEvent`] goes in, [`RecordedEvent`] comes out.
//!
//! A store sees names, bytes and numbers; what an event means is known only to the [`Event`](crate::Event) type that
//! encoded it.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::Tags;
use crate::model::{EventType, StreamId, Tag};
use crate::model::{Position, Revision};

/// Defines a type of id over a UUID.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id: a UUIDv7, which begins with the time in milliseconds. It is unique, not an order: order is
            /// a matter of [`Position`] and [`Revision`].
            #[must_use]
            #[expect(clippy::new_without_default, reason = "each id is another one: there is no default")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id with this UUID, of any version.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID.
            #[must_use]
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }
    };
}

id! {
    /// The identity of an event, given by its writer. A store holds each id at most once, for ever: writing the same
    /// commit again returns what the first time returned.
    EventId
}

id! {
    /// What all events, commands and effects that go back to one first cause have in common.
    CorrelationId
}

/// A point in time in UTC with the precision of a store, one microsecond.
pub type Timestamp = DateTime<Utc>;

/// Cuts a time to whole microseconds, the precision in which every store keeps times.
#[must_use]
pub fn to_stored_precision(time: Timestamp) -> Timestamp {
    // NOTE: by way of the count and not of `trunc_subsecs`, which keeps chrono's form of a leap second; a count of
    // microseconds cannot hold it, and a stored time would not be equal to itself.
    DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap_or(time)
}

/// How a payload is encoded, as a media type: `application/json`, `application/msgpack`, or any other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum ContentType {
    /// `application/json`
    Json,
    /// `application/msgpack`: MessagePack with the names of fields, see [`MessagePack`](crate::schema::codec::MessagePack).
    MessagePack,
    /// Any other; at most 255 bytes.
    Other(Box<str>),
}

impl ContentType {
    /// The longest media type, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// The media type.
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

/// Free annotations of an event: JSON values under text keys, in the order of their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metadata(BTreeMap<String, serde_json::Value>);

impl Metadata {
    /// No annotations.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with `key` set to `value`, which replaces an earlier value.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    /// The value under a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&serde_json::Value> {
        self.0.get(key)
    }

    /// The text under a key; `None` where there is none or the value is no text.
    #[must_use]
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// Whether there are no annotations.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All annotations in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &serde_json::Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }
}

impl<K: Into<String>, V: Into<serde_json::Value>> FromIterator<(K, V)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        Self(entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

/// An encoded event on its way into a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The identity of the event.
    pub id: EventId,
    /// The wire name of its type.
    pub event_type: EventType,
    /// The schema version of its payload, from 1.
    pub version: u32,
    /// How the payload is encoded.
    pub content_type: ContentType,
    /// The encoded content.
    pub payload: Bytes,
    /// The labels by which it can be found.
    pub tags: Tags,
    /// Free annotations.
    pub metadata: Metadata,
    /// When it happened in the business; `None` says "as it is recorded".
    pub occurred_at: Option<Timestamp>,
    /// What it has in common with everything of the same first cause.
    pub correlation_id: Option<CorrelationId>,
    /// The event that directly caused it.
    pub causation_id: Option<EventId>,
}

impl NewEvent {
    /// An event of schema version 1 with a JSON payload and a new id; change its fields for anything else.
    ///
    /// Domain code does not call this: a [`Repository`](crate::Repository) encodes typed events.
    #[must_use]
    pub fn json(event_type: EventType, payload: impl Into<Bytes>) -> Self {
        Self::new(event_type, 1, ContentType::Json, payload)
    }

    /// An event with a new id and neither tags nor annotations.
    #[must_use]
    pub fn new(event_type: EventType, version: u32, content_type: ContentType, payload: impl Into<Bytes>) -> Self {
        Self {
            id: EventId::new(),
            event_type,
            version,
            content_type,
            payload: payload.into(),
            tags: Tags::new(),
            metadata: Metadata::new(),
            occurred_at: None,
            correlation_id: None,
            causation_id: None,
        }
    }

    /// The same with this id.
    #[must_use]
    pub fn with_id(mut self, id: EventId) -> Self {
        self.id = id;
        self
    }

    /// The same with this label added.
    #[must_use]
    pub fn tagged(mut self, tag: Tag) -> Self {
        self.tags.insert(tag);
        self
    }

    /// The same with these annotations.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// The same with this business time.
    #[must_use]
    pub fn occurred_at(mut self, time: Timestamp) -> Self {
        self.occurred_at = Some(time);
        self
    }
}

/// Which part of its commit an event is: a commit is written whole or not at all, and a reader can see its borders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CommitPart {
    /// The place of the event in its commit, from 0.
    pub index: u32,
    /// How many events the commit has.
    pub size: u32,
}

impl CommitPart {
    /// Whether the event is the last of its commit.
    #[must_use]
    pub const fn is_last(self) -> bool {
        self.index + 1 == self.size
    }
}

/// An event as a store holds it: what was written, and where and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Its number in the log.
    pub position: Position,
    /// Its stream.
    pub stream: StreamId,
    /// Its number in the stream.
    pub revision: Revision,
    /// Its identity.
    pub id: EventId,
    /// The wire name of its type.
    pub event_type: EventType,
    /// The schema version of its payload, from 1.
    pub version: u32,
    /// How the payload is encoded.
    pub content_type: ContentType,
    /// The encoded content.
    pub payload: Bytes,
    /// The labels by which it can be found.
    pub tags: Tags,
    /// Free annotations.
    pub metadata: Metadata,
    /// When the store recorded it. Within one log it never goes back, whatever the wall clock does.
    pub recorded_at: Timestamp,
    /// When it happened in the business, as its writer says; `recorded_at` where the writer says nothing.
    pub occurred_at: Timestamp,
    /// What it has in common with everything of the same first cause.
    pub correlation_id: Option<CorrelationId>,
    /// The event that directly caused it.
    pub causation_id: Option<EventId>,
    /// Which part of its commit it is.
    pub part: CommitPart,
}

impl RecordedEvent {
    /// About how many bytes of memory it holds: its payload, its names, tags and metadata, and itself. What bounds how many events
    /// wait is to count this.
    #[must_use]
    pub fn weight(&self) -> usize {
        let Self { stream, event_type, content_type, tags, metadata, .. } = self;
        let beside = crate::model::weight::beside_payload(stream, event_type, content_type, tags, metadata);
        size_of::<Self>() + self.payload.len() + beside
    }

    /// What stands in the place of an event that was [removed](crate::retention): nothing of its content. For those who write
    /// a store; reads do not return it.
    #[must_use]
    pub fn removed(
        position: Position,
        stream: StreamId,
        revision: Revision,
        id: EventId,
        recorded_at: Timestamp,
        part: CommitPart,
    ) -> Self {
        Self {
            position,
            stream,
            revision,
            id,
            event_type: EventType::well_known(crate::retention::REMOVED),
            version: 1,
            content_type: ContentType::Json,
            payload: Bytes::new(),
            tags: Tags::new(),
            metadata: Metadata::new(),
            recorded_at,
            occurred_at: recorded_at,
            correlation_id: None,
            causation_id: None,
            part,
        }
    }

    /// Whether this stands in the place of an event that was removed.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.event_type == crate::retention::REMOVED
    }

    /// What stands in the place of this event when it is removed.
    #[must_use]
    pub fn without_content(&self) -> Self {
        let Self { position, revision, id, recorded_at, part, .. } = *self;
        Self::removed(position, self.stream.clone(), revision, id, recorded_at, part)
    }

    /// Whether this event is what writing `event` to `stream` gave: same stream and same content under the same id.
    #[must_use]
    pub fn is_record_of(&self, stream: &StreamId, event: &NewEvent) -> bool {
        self.id == event.id
            && self.stream == *stream
            && self.event_type == event.event_type
            && self.version == event.version
            && self.content_type == event.content_type
            && self.payload == event.payload
            && self.tags == event.tags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_time_is_whole_microseconds_also_in_a_leap_second() {
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
