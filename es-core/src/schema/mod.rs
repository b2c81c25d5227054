//! Typed events and their schemas: wire names, versions, upcasting, codecs, and samples for golden files.
//!
//! ```text
//!   Event::encode  -->  EncodedEvent (wire name, version, content type, payload, tags)
//!   RawEvent       -->  Event::decode  -->  upcasters  -->  Events of the present version
//! ```
//!
//! Absent here: stores, streams, aggregates. A codec sees content only; positions and revisions are not known.

pub mod codec;
mod events;
pub(crate) mod sample;
pub(crate) mod typed;
mod value_digest;
mod variant;

pub use codec::{Codec, Json, MessagePack};
pub use events::Events;
pub use sample::SampleError;
pub(crate) use typed::KnownNames;
pub use typed::{DecodeEventError, EncodeEventError, EncodedEvent, Event, EventSamples, EventSchema, RawEvent, Upcast};
pub(crate) use value_digest::value_digest;
pub(crate) use variant::{Content, VariantSeed};
