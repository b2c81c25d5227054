//! The record: how an event is stored. `docs/storage-format.md` documents each byte.
//!
//! ```text
//!   draft ──► number ──► bytes ──► Checked ──► Fields ──► Decoder ──► event
//!   before the   in the              checksum
//!   writer lock  writer
//! ```
//!
//! The checksum covers all other bytes, among them position, stream and revision, so that a read detects a record that
//! was moved to another key.

// A file named `mod.rs`, because tests/decoding includes it by its path, and these modules are next to it.
mod checked;
mod decode;
mod encode;
mod error;
mod extensions;
mod fields;
pub(crate) mod keys;
pub(crate) mod layout;
mod names;
mod primitive;
pub(crate) mod stamp;
mod tombstone;

pub(crate) use checked::Checked;
pub(crate) use decode::{Decoder, LastTime, Payloads, SHARED_BYTES};
#[cfg(test)]
pub(crate) use encode::encode;
pub(crate) use encode::{draft, encode_keys_and_stamp, encode_metadata, encode_tombstone, number};
pub(crate) use error::RecordError;
pub(crate) use fields::{decode_keys_and_stamp, decode_metadata};
pub(crate) use names::Names;
pub(crate) use primitive::{FieldReader, encode_varint};

#[cfg(test)]
mod tests;
