//! Events, rows and unique keys as records of the log: the fields that the log does not decode, and what decoding
//! reuses from record to record. `docs/storage-format.md` documents each byte.

mod changes;
pub(crate) mod codec;
mod error;
mod extensions;
pub(crate) mod keys;
pub(crate) mod layout;
mod names;
mod opaque;
mod payloads;
mod primitive;
pub(crate) mod stamp;
mod time;

pub(crate) use changes::CommitChanges;
pub(crate) use error::RecordError;
pub(crate) use names::Names;
pub(crate) use opaque::{decode_keys_and_stamp, decode_metadata, encode_keys_and_stamp, encode_metadata};
pub(crate) use payloads::Payloads;
pub(crate) use primitive::{FieldReader, encode_varint};
pub(crate) use time::LastTime;

#[cfg(test)]
mod tests;
