//! What the derive macros, the other crates of the project and their tests use. Not part of the interface: it may
//! change with any version.

use std::fmt;

pub use crate::aggregate::repository::foreign_results;
pub use crate::model::entropy::event_id_at;
pub use crate::model::event::to_stored_precision;
pub use crate::model::panic::panic_message;
pub use crate::model::reserved::{MEMBERSHIP_STREAM, PROCESSES, REPLICA, TRANSACTION_STREAM_PREFIX, TRANSACTIONS};
pub use crate::projection::inspect::{StoredGeneration, StoredProjection, partition_of};
pub use crate::schema::SampleError;
pub use crate::schema::sample::{sample, sample_variant};
pub use crate::schema::typed::KnownNames;
pub use crate::store::decide::decide;
pub use crate::store::deletion_plan::DeletionPlan;
pub use crate::store::retention::delete_snapshots_before_begin;
pub use crate::store::stored_row::{StoredRow, decode_row, encode_row};
pub use bytes::Bytes;
pub use serde;

/// The rows and the events of the homes of streams, for the hook of a replica.
pub mod home {
    pub use crate::store::home::{HandOver, NodeHomes, StreamHome, stream_key, stream_of, table};
}

use serde::{Deserialize, Serialize};

use crate::aggregate::snapshot::{SnapshotPolicy, SnapshotSupport};
use crate::aggregate::{Aggregate, Crdt, Resolve};
use crate::model::{ConflictAnswer, ContentType, EventType, NameError, Table, Tag, Tags};
use crate::schema::Events;
use crate::schema::VariantSeed;
use crate::schema::codec::{self, Codec, DecodeContentError, EncodeError};
use crate::schema::{DecodeEventError, EncodeEventError, EncodedEvent, Event, RawEvent, Upcast};
use crate::schema::{encode_and_decode, encode_and_decode_variant};

// The bounds are `for<'de> Deserialize<'de>` and not the equivalent `DeserializeOwned`, because only the former has
// serde's hint to derive `Deserialize`.

/// Encodes a struct and reads it back.
///
/// # Errors
/// As [`Event::encode`](crate::Event::encode).
pub fn encode_struct<C: Codec, T: Serialize + for<'de> Deserialize<'de>>(
    name: &'static str,
    version: u32,
    event: &T,
) -> Result<(EncodedEvent, T), EncodeEventError> {
    encoded::<C, T>(name, version, encode_and_decode::<C, T>(event))
}

/// Encodes the variant of an enum with this index as its content, and reads it back.
///
/// # Errors
/// As [`Event::encode`](crate::Event::encode).
pub fn encode_variant<C: Codec, T: Serialize + for<'de> Deserialize<'de>>(
    name: &'static str,
    version: u32,
    index: u32,
    event: &T,
) -> Result<(EncodedEvent, T), EncodeEventError> {
    encoded::<C, T>(name, version, encode_and_decode_variant::<C, T>(event, index))
}

fn encoded<C: Codec, T>(
    name: &'static str,
    version: u32,
    content: Result<(Bytes, T), EncodeError>,
) -> Result<(EncodedEvent, T), EncodeEventError> {
    let (payload, decoded) = content.map_err(|source| EncodeEventError::Content { name, source })?;
    let event_type = EventType::new(name).map_err(|source| EncodeEventError::Tag { name, source })?;
    Ok((EncodedEvent { event_type, version, content_type: C::CONTENT_TYPE, payload, tags: Tags::new() }, decoded))
}

/// Decodes the content of an event as JSON, for tools that do not know its type.
///
/// # Errors
/// [`DecodeContentError`] if no codec supports the content type, or the content is not valid.
pub fn payload_value(content_type: &ContentType, payload: &[u8]) -> Result<serde_json::Value, DecodeContentError> {
    codec::decode(content_type, payload)
}

/// Adds the tag `key:value` to an encoded event.
///
/// # Errors
/// As [`Event::encode`](crate::Event::encode).
pub fn add_tag(
    event: &mut EncodedEvent,
    name: &'static str,
    key: &'static str,
    value: &dyn fmt::Display,
) -> Result<(), EncodeEventError> {
    let tag = Tag::of(key, value).map_err(|source| EncodeEventError::Tag { name, source })?;
    event.tags.insert(tag);
    Ok(())
}

/// Decodes a struct.
///
/// # Errors
/// As [`Event::decode`](crate::Event::decode).
pub fn decode_struct<T: for<'de> Deserialize<'de>>(
    name: &'static str,
    event: RawEvent<'_>,
) -> Result<T, DecodeEventError> {
    codec::decode(event.content_type, event.payload).map_err(|source| DecodeEventError::Content {
        name,
        version: event.version,
        source,
    })
}

/// Decodes a content as the variant of an enum with this index.
///
/// # Errors
/// As [`Event::decode`](crate::Event::decode).
pub fn decode_variant<T: for<'de> Deserialize<'de>>(
    name: &'static str,
    index: u32,
    event: RawEvent<'_>,
) -> Result<T, DecodeEventError> {
    codec::decode_seed(event.content_type, event.payload, VariantSeed::new(index))
        .map_err(|source| DecodeEventError::Content { name, version: event.version, source })
}

/// What is said of a record whose wire name the event type does not know.
#[must_use]
pub fn unknown_type<E: Event>(event: RawEvent<'_>) -> DecodeEventError {
    DecodeEventError::UnknownType { found: event.event_type.to_owned(), known: KnownNames(E::SCHEMA) }
}

/// One step of a chain of upcasters.
pub fn upcast<Old: Upcast<New>, New>(old: Events<Old>) -> Events<New> {
    old.flat_map(Upcast::upcast)
}

/// Returns a number that equal values share and, with a probability near 1, different values do not: `None` and
/// `Some(None)` differ, although their JSON does not. Returns `None` if the `Serialize` implementation of the value
/// fails or the value is nested too deep.
pub fn value_digest<T: Serialize + ?Sized>(value: &T) -> Option<u64> {
    crate::schema::value_digest(value)
}

/// Support of snapshots of a state type by a policy.
#[must_use]
pub fn snapshot_support<A: Aggregate + Serialize + for<'de> Deserialize<'de>>(
    policy: SnapshotPolicy,
    declared: u64,
) -> SnapshotSupport<A> {
    SnapshotSupport::new(policy, declared)
}

/// Returns the answer to conflicts of an aggregate that declares `conflict = "resolve"`.
#[must_use]
pub const fn resolve_answer<A: Resolve>() -> ConflictAnswer {
    ConflictAnswer::Resolve
}

/// Requires that a field of a state is a CRDT: an aggregate declares `conflict = "crdt"`.
pub const fn crdt_field<T: Crdt>() {}

/// Returns a table with any name, also one that belongs to the framework and that [`Table::new`] refuses: for the
/// framework's own tables, and for names that a store has on disk.
///
/// # Errors
/// [`NameError`] when the text breaks the rules of [names](crate::model).
pub fn table(name: &str) -> Result<Table, NameError> {
    Table::any(name)
}
