//! Typed events: the trait [`Event`], which `#[derive(Event)]` implements, and [`Upcast`] for old versions.

use std::fmt;

use bytes::Bytes;

use crate::model::Tags;
use crate::model::{ContentType, EventData, EventId, EventView, RecordedEvent};
use crate::model::{EventType, NameError};
use crate::schema::Events;
use crate::schema::SampleError;
use crate::schema::codec::{DecodeContentError, EncodeError};

/// The domain events of an aggregate, or a single kind of event: a closed set of types, each with a stable wire name and
/// a schema version, that knows how to write itself and how to read every version ever written.
///
/// Derive it; see [`macro@crate::Event`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "not an `Event`",
    note = "add `#[derive(es_core::Event, serde::Serialize, serde::Deserialize)]` to `{Self}` and give each variant \
            `#[event(name = \"...\")]`"
)]
pub trait Event: Sized + Send + Sync + 'static {
    /// What is written and what can be read, one entry for each wire name.
    const SCHEMA: &'static [EventSchema];

    /// Encodes the event under its current version.
    ///
    /// # Errors
    /// [`EncodeEventError`]: the content cannot be written by its codec, or a tag is not a name. Nothing was written.
    fn encode(&self) -> Result<EncodedEvent, EncodeEventError>;

    /// Decodes an event of any version. An old one is brought to the present by its upcasters, which may make several
    /// events of it, or none.
    ///
    /// # Errors
    /// [`DecodeEventError`]; each variant says what to do.
    fn decode(event: RawEvent<'_>) -> Result<Events<Self>, DecodeEventError>;
}

/// Samples of an event type, one for each variant, for its golden corpus. `#[derive(Event)]` implements it.
///
/// See [`testing::golden`](crate::testing::golden).
pub trait EventSamples: Event {
    /// One sample for each variant in the order of [`Event::SCHEMA`].
    fn samples() -> Vec<Result<Self, SampleError>>;
}

/// How one old version of an event becomes the next: `impl Upcast<OrderPlacedV2> for OrderPlacedV1`. The last step of a
/// chain leads to the event type itself.
///
/// One old event may become several, or none. An upcaster is a plain function of the old content: it is called on every
/// read and must always give the same answer.
///
/// ```
/// use es_core::{Events, Upcast};
/// struct NameChangedV1 { full_name: String }
/// enum CustomerEvent { FirstNameChanged(String), LastNameChanged(String) }
///
/// impl Upcast<CustomerEvent> for NameChangedV1 {
///     fn upcast(self) -> Events<CustomerEvent> {
///         let (first, last) = self.full_name.split_once(' ').unwrap_or((&self.full_name, ""));
///         [CustomerEvent::FirstNameChanged(first.into()), CustomerEvent::LastNameChanged(last.into())].into()
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "the event version `{Self}` has no way to `{To}`",
    label = "no upcaster from `{Self}` to `{To}`",
    note = "write `impl es_core::Upcast<{To}> for {Self} {{ fn upcast(self) -> es_core::Events<{To}> {{ ... }} }}`"
)]
pub trait Upcast<To>: Sized {
    /// What the old event is in the terms of the next version.
    fn upcast(self) -> Events<To>;
}

/// One wire name of an [`Event`] type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventSchema {
    /// The wire name under which it is written.
    pub name: &'static str,
    /// The version that is written, from 1; 0 for a retired event, which is read as no event and never written.
    pub version: u32,
    /// Former wire names under which it is read, too.
    pub aliases: &'static [&'static str],
    /// The oldest version that can be read.
    pub oldest: u32,
}

impl EventSchema {
    /// Whether records under this wire name are of this event.
    #[must_use]
    pub fn reads(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

/// An encoded event, as far as its type knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedEvent {
    /// The wire name.
    pub event_type: EventType,
    /// The schema version, from 1.
    pub version: u32,
    /// How the payload is encoded.
    pub content_type: ContentType,
    /// The encoded content.
    pub payload: Bytes,
    /// The labels by which it can be found.
    pub tags: Tags,
}

impl EncodedEvent {
    /// Returns the content of the event with this id, without metadata, correlation and causation.
    #[must_use]
    pub fn into_data(self, id: EventId) -> EventData {
        let Self { event_type, version, content_type, payload, tags } = self;
        EventData { tags, ..EventData::with_id(id, event_type, version, content_type, payload) }
    }

    /// What [`Event::decode`] takes.
    #[must_use]
    pub fn raw(&self) -> RawEvent<'_> {
        RawEvent {
            event_type: self.event_type.as_str(),
            version: self.version,
            content_type: &self.content_type,
            payload: &self.payload,
        }
    }
}

/// What a record says of an event to its type.
#[derive(Debug, Clone, Copy)]
pub struct RawEvent<'a> {
    /// The wire name.
    pub event_type: &'a str,
    /// The schema version.
    pub version: u32,
    /// How the payload is encoded.
    pub content_type: &'a ContentType,
    /// The encoded content.
    pub payload: &'a [u8],
}

impl<'a> From<EventView<'a>> for RawEvent<'a> {
    fn from(event: EventView<'a>) -> Self {
        Self {
            event_type: event.event_type().as_str(),
            version: event.version(),
            content_type: event.content_type(),
            payload: event.payload(),
        }
    }
}

impl<'a> From<&'a RecordedEvent> for RawEvent<'a> {
    fn from(event: &'a RecordedEvent) -> Self {
        EventView::from(event).into()
    }
}

impl EventView<'_> {
    /// Decodes the event in the current version of its type, whatever version was written.
    ///
    /// # Errors
    /// [`DecodeEventError`]; each variant says what to do.
    pub fn decode<E: Event>(self) -> Result<Events<E>, DecodeEventError> {
        E::decode(RawEvent::from(self))
    }
}

impl RecordedEvent {
    /// The event as one of a type: in the terms of the present, whatever version was written.
    ///
    /// # Errors
    /// [`DecodeEventError`]; each variant says what to do.
    pub fn decode<E: Event>(&self) -> Result<Events<E>, DecodeEventError> {
        E::decode(RawEvent::from(self))
    }
}

/// An event could not be encoded. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeEventError {
    /// Its codec cannot write the content.
    #[error("could not write event {name:?}; correct its type")]
    Content {
        /// The wire name.
        name: &'static str,
        /// Why.
        source: EncodeError,
    },
    /// A field that is a tag has a value that is not a name. Check the value where it enters the domain.
    #[error("event {name:?}: a field that is a tag has a value that is no name; check it where it enters the domain")]
    Tag {
        /// The wire name.
        name: &'static str,
        /// Why.
        source: NameError,
    },
}

/// A record could not be made an event.
#[derive(Debug, thiserror::Error)]
pub enum DecodeEventError {
    /// The event type does not know this wire name. It was written by other code: add a variant with this name, an alias,
    /// or list it as retired.
    #[error("unknown event type {found:?} (known: {known}); add a variant of this name, an alias, or retire it")]
    UnknownType {
        /// The wire name in the record.
        found: String,
        /// The wire names that are known.
        known: KnownNames,
    },
    /// The event type does not know this version. It was written by newer code: deploy that first.
    #[error("unknown version {found} of event {name:?} (known: {oldest} to {newest}); deploy the code that wrote it")]
    UnknownVersion {
        /// The wire name.
        name: &'static str,
        /// The version in the record.
        found: u32,
        /// The oldest version that can be read.
        oldest: u32,
        /// The version that is written.
        newest: u32,
    },
    /// The payload is not what this version of the event is. The type was changed without a new version.
    #[error("could not read event {name:?} version {version}; give the changed event a new version and an upcaster")]
    Content {
        /// The wire name.
        name: &'static str,
        /// The version in the record.
        version: u32,
        /// Why.
        source: DecodeContentError,
    },
}

/// The wire names that an event type knows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KnownNames(pub &'static [EventSchema]);

impl fmt::Display for KnownNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, schema) in self.0.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { ", " }, schema.name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for KnownNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
