//! The fields of a record that the log does not decode: the metadata, and the extensions with the unique keys and the
//! stamp.

use es_core::model::{Keys, Metadata, Stamp};

use super::error::RecordError;
use super::extensions::Extensions;
use super::{keys, stamp};

/// Returns the metadata as JSON. A value that cannot be decoded, such as one with too many levels, is an error.
pub(crate) fn encode_metadata(metadata: &Metadata) -> Result<Vec<u8>, RecordError> {
    if metadata.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::to_vec(metadata).map_err(|error| RecordError::Metadata(error.into()))
}

/// Decodes metadata: JSON, or no bytes for none.
///
/// # Errors
/// [`RecordError::NotUtf8`], [`RecordError::Metadata`].
pub(crate) fn decode_metadata(json: &[u8]) -> Result<Metadata, RecordError> {
    if json.is_empty() {
        return Ok(Metadata::new());
    }
    let json = std::str::from_utf8(json).map_err(|_| RecordError::NotUtf8 { field: "metadata" })?;
    json.parse().map_err(RecordError::Metadata)
}

/// Decodes the unique keys and the stamp from the extensions.
///
/// # Errors
/// [`RecordError`]: the bytes are not extensions.
pub(crate) fn decode_keys_and_stamp(extensions: &[u8]) -> Result<(Keys, Option<Box<Stamp>>), RecordError> {
    if extensions.is_empty() {
        return Ok((Keys::default(), None));
    }
    let extensions = Extensions::read(extensions)?;
    let keys = extensions.keys.map(keys::decode).transpose()?.unwrap_or_default();
    Ok((keys, stamp::decode(&extensions)?.map(Box::new)))
}

/// Appends the extensions to `out`: the stamp and the unique keys.
///
/// # Errors
/// [`RecordError`]: a key is too long, or a vector clock has too many origins.
pub(crate) fn encode_keys_and_stamp(keys: &Keys, stamp: Option<&Stamp>, out: &mut Vec<u8>) -> Result<(), RecordError> {
    stamp::encode(stamp, out)?;
    keys::encode(keys, out)
}
