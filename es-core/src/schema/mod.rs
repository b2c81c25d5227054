//! Typed events and their schemas: wire names, versions, upcasting, codecs, samples for golden files, and
//! [events as lines of JSON](mod@line).
//!
//! ```text
//!   Event::encode  -->  EncodedEvent (wire name, version, content type, payload, tags)
//!   RawEvent       -->  Event::decode  -->  upcasters  -->  Events of the current version
//! ```
//!
//! This module knows no stores, streams or aggregates. A codec sees only the content of an event, not its position or
//! revision.

pub mod codec;
mod events;
mod json_check;
pub mod line;
mod read_back;
pub(crate) mod sample;
pub(crate) mod typed;
mod value_digest;
mod value_node;
mod variant;

pub use codec::{Codec, Json, MessagePack};
pub use events::Events;
pub use json_check::{InvalidJson, check_json};
pub(crate) use read_back::{encode_and_decode, encode_and_decode_variant};
pub use sample::SampleError;
pub(crate) use typed::KnownNames;
pub use typed::{
    CurrentTagsError, DecodeEventError, EncodeEventError, EncodedEvent, Event, EventSamples, EventSchema, RawEvent,
    Upcast, current_tags,
};
pub(crate) use value_digest::{ordered_value_digest, value_digest};
pub(crate) use variant::VariantSeed;
