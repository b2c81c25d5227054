//! Typed events: the trait [`Event`], which `#[derive(Event)]` implements, and [`Upcast`] for old versions.

use std::fmt;

use bytes::Bytes;

use crate::model::Tags;
use crate::model::{ContentType, EventData, EventId, EventView, RecordedEvent};
use crate::model::{EventType, NameError};
use crate::schema::Events;
use crate::schema::SampleError;
use crate::schema::codec::{DecodeContentError, EncodeError};

/// The domain events of an aggregate, or a single event: a closed set of event types. Each has a stable wire name and a
/// schema version, encodes itself, and decodes every version ever written.
///
/// Derive it; see [`macro@crate::Event`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "not an `Event`",
    note = "add `#[derive(es_core::Event, serde::Serialize, serde::Deserialize)]` to `{Self}` and give each variant \
            `#[event(name = \"...\")]`"
)]
pub trait Event: Sized + Send + Sync + 'static {
    /// The event types that can be written and read, one entry per wire name.
    const SCHEMA: &'static [EventSchema];

    /// Encodes the event in its current version.
    ///
    /// The derived implementation also reads the encoded event back, like
    /// [`encode_and_decode`](Self::encode_and_decode).
    ///
    /// # Errors
    /// - [`EncodeEventError::Content`] if the codec cannot encode the content, or would not return it unchanged.
    /// - [`EncodeEventError::Tag`] if the value of a tag field is not a valid name.
    fn encode(&self) -> Result<EncodedEvent, EncodeEventError>;

    /// Encodes the event and decodes it again, so that an event that cannot be read is never committed. Returns the
    /// encoded and the decoded event.
    ///
    /// The derived implementation compares the two events as serde sees them. This default implementation, for types
    /// that implement the trait by hand, compares the bytes of two encodings, in any order.
    ///
    /// # Errors
    /// - The errors of [`encode`](Self::encode).
    /// - [`EncodeEventError::Unreadable`] if the encoded event cannot be decoded.
    /// - [`EncodeEventError::Changed`] if it decodes as another event, as several events, or as none.
    fn encode_and_decode(&self) -> Result<(EncodedEvent, Self), EncodeEventError> {
        let encoded = self.encode()?;
        let decoded = decode_encoded(self, &encoded)?;
        Ok((encoded, decoded))
    }

    /// Decodes an event of any version. Upcasters convert an old version to the current one; they may turn it into
    /// several events, or into none.
    ///
    /// # Errors
    /// - [`DecodeEventError::UnknownType`] if no variant has this wire name.
    /// - [`DecodeEventError::UnknownVersion`] if the version is not one that this code reads.
    /// - [`DecodeEventError::Content`] if the payload does not match the type of its version.
    fn decode(event: RawEvent<'_>) -> Result<Events<Self>, DecodeEventError>;
}

/// Checks an event of a hand-written implementation, which has no digest: what was encoded must decode as one event,
/// and that event must encode as the same bytes, in any order.
fn decode_encoded<E: Event>(event: &E, encoded: &EncodedEvent) -> Result<E, EncodeEventError> {
    let name = || encoded.event_type.clone();
    let decoded = E::decode(encoded.raw()).map_err(|source| EncodeEventError::Unreadable { name: name(), source })?;
    let mut decoded = decoded.into_iter();
    let (Some(read), None) = (decoded.next(), decoded.next()) else {
        return Err(EncodeEventError::Changed { name: name() });
    };
    let again = read.encode()?;
    // Two encodings of one event differ if a codec adds a random number, for example for encryption.
    if is_same_in_any_order(encoded, &again) || event.encode()?.payload != encoded.payload {
        return Ok(read);
    }
    Err(EncodeEventError::Changed { name: name() })
}

/// Returns `true` if two encodings differ at most in the order of their bytes. The entries of a `HashMap` may have
/// another order after each decoding.
fn is_same_in_any_order(a: &EncodedEvent, b: &EncodedEvent) -> bool {
    let counts = |bytes: &[u8]| {
        let mut counts = [0_u32; 256];
        for byte in bytes {
            counts[usize::from(*byte)] += 1;
        }
        counts
    };
    let header = |event: &EncodedEvent| (event.event_type.clone(), event.version, event.content_type.clone());
    header(a) == header(b) && a.tags == b.tags && (a.payload == b.payload || counts(&a.payload) == counts(&b.payload))
}

/// Samples of an event type, one for each variant, for its golden files. `#[derive(Event)]` implements it.
///
/// See [`testing::golden`](crate::testing::golden).
pub trait EventSamples: Event {
    /// Returns one sample for each variant, in the order of [`Event::SCHEMA`].
    fn samples() -> Vec<Result<Self, SampleError>>;
}

/// Converts one old version of an event to the next: `impl Upcast<OrderPlacedV2> for OrderPlacedV1`. The last step of a
/// chain converts to the event type itself.
///
/// One old event may become several events, or none. Upcasters run on every read, so they must be pure functions of the
/// old content.
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
    /// Returns the events of the next version that replace this one.
    fn upcast(self) -> Events<To>;
}

/// The schema of one wire name of an [`Event`] type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventSchema {
    /// The wire name that is written.
    pub name: &'static str,
    /// The current version, from 1. It is 0 for a retired event, which is never written and is decoded as no event.
    pub version: u32,
    /// Former wire names that are still read.
    pub aliases: &'static [&'static str],
    /// The oldest version that can be read.
    pub oldest: u32,
    /// The keys of the tags that an event of the current version can have.
    pub tags: &'static [&'static str],
}

impl EventSchema {
    /// Returns `true` if `name` is the wire name or one of its aliases.
    #[must_use]
    pub fn reads(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

/// An encoded event, before the store adds its stream, revision and position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedEvent {
    /// The wire name.
    pub event_type: EventType,
    /// The schema version, from 1.
    pub version: u32,
    /// The encoding of the payload.
    pub content_type: ContentType,
    /// The encoded content.
    pub payload: Bytes,
    /// The tags by which queries find the event.
    pub tags: Tags,
}

impl EncodedEvent {
    /// Returns the data of an event with this id, without metadata, correlation and causation.
    #[must_use]
    pub fn into_data(self, id: EventId) -> EventData {
        let Self { event_type, version, content_type, payload, tags } = self;
        EventData { tags, ..EventData::with_id(id, event_type, version, content_type, payload) }
    }

    /// Returns the event in the form that [`Event::decode`] accepts.
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

/// The fields of a record that [`Event::decode`] needs.
#[derive(Debug, Clone, Copy)]
pub struct RawEvent<'a> {
    /// The wire name.
    pub event_type: &'a str,
    /// The schema version.
    pub version: u32,
    /// The encoding of the payload.
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
    /// Decodes the event, whose version may be old, as events of the current version.
    ///
    /// # Errors
    /// The errors of [`Event::decode`].
    pub fn decode<E: Event>(self) -> Result<Events<E>, DecodeEventError> {
        E::decode(RawEvent::from(self))
    }
}

impl RecordedEvent {
    /// Decodes the event, whose version may be old, as events of the current version.
    ///
    /// # Errors
    /// The errors of [`Event::decode`].
    pub fn decode<E: Event>(&self) -> Result<Events<E>, DecodeEventError> {
        E::decode(RawEvent::from(self))
    }
}

/// Returns the tags that the current code gives a recorded event: the tags of the events that it is decoded as.
///
/// The recorded tags are those of the code that wrote the event. If a field became a tag later, this returns the tag,
/// and the record does not have it.
///
/// # Errors
/// [`CurrentTagsError`] if the event cannot be decoded, or an event that it is decoded as cannot be encoded.
pub fn current_tags<'a, E: Event>(event: impl Into<RawEvent<'a>>) -> Result<Tags, CurrentTagsError> {
    let mut tags = Tags::new();
    for event in E::decode(event.into())? {
        tags.extend(event.encode()?.tags);
    }
    Ok(tags)
}

/// The tags of a recorded event could not be computed.
#[derive(Debug, thiserror::Error)]
pub enum CurrentTagsError {
    /// The event could not be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeEventError),
    /// An event that it is decoded as could not be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeEventError),
}

/// An event could not be encoded. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeEventError {
    /// The codec cannot encode the content, or would not return it unchanged.
    #[error("could not write event {name:?}; correct its type")]
    Content {
        /// The wire name.
        name: &'static str,
        /// The error of the codec.
        source: EncodeError,
    },
    /// The value of a tag field is not a valid name. Check the value where it enters the domain.
    #[error("event {name:?}: the value of a tag field is not a valid name; check it where it enters the domain")]
    Tag {
        /// The wire name.
        name: &'static str,
        /// The reason why it is not a valid name.
        source: NameError,
    },
    /// What a hand-written [`Event::encode`] returned cannot be decoded.
    #[error("could not read back event {name:?} before its commit; correct its `Event` implementation")]
    Unreadable {
        /// The wire name.
        name: EventType,
        /// The decode error.
        source: DecodeEventError,
    },
    /// What a hand-written [`Event::encode`] returned decodes as another event, as several events, or as none.
    #[error("event {name:?} would be read back as another event; correct its `Event` implementation")]
    Changed {
        /// The wire name.
        name: EventType,
    },
}

/// A record could not be decoded as an event.
#[derive(Debug, thiserror::Error)]
pub enum DecodeEventError {
    /// The event type has no variant with this wire name. Other code wrote the record: add a variant with this name,
    /// add an alias, or list the name as retired.
    #[error("unknown event type {found:?} (known: {known}); add a variant of this name, an alias, or retire it")]
    UnknownType {
        /// The wire name in the record.
        found: String,
        /// The wire names of the event type.
        known: KnownNames,
    },
    /// The event type has no such version. Newer code wrote the record: deploy that code first.
    #[error("unknown version {found} of event {name:?} (known: {oldest} to {newest}); deploy the code that wrote it")]
    UnknownVersion {
        /// The wire name.
        name: &'static str,
        /// The version in the record.
        found: u32,
        /// The oldest version that can be read.
        oldest: u32,
        /// The current version.
        newest: u32,
    },
    /// The payload does not match the type of this version. The type was changed without a new version.
    #[error("could not read event {name:?} version {version}; give the changed event a new version and an upcaster")]
    Content {
        /// The wire name.
        name: &'static str,
        /// The version in the record.
        version: u32,
        /// The error of the codec.
        source: DecodeContentError,
    },
}

/// The wire names of an event type, displayed as a list.
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
