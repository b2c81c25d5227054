//! Encodes values and reads them back, so that nothing is committed that cannot be read.
//!
//! ```text
//!   value --digest--> A         encode --> bytes --> decode --> value --digest--> B        refused unless A == B
//! ```
//!
//! The [digests](super::value_digest) compare the values and not the bytes: a codec may write two different values as
//! the same bytes, such as `Some(None)` and `None` as `null`, and a `HashMap` may write one value as different bytes.
//! A field that serde skips, and what `#[serde(with)]` drops before the codec sees it, are not part of a digest.

use bytes::Bytes;
use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned};

use crate::model::ContentType;
use crate::schema::codec::{self, Codec, DecodeContentError, EncodeError};
use crate::schema::value_digest::{MAX_VALUE_DEPTH, Walk};
use crate::schema::value_node::Difference;
use crate::schema::variant::{Content, VariantSeed};

/// Encodes a value and decodes it again. Returns the bytes and the decoded value.
///
/// # Errors
/// [`EncodeError`] if the value cannot be encoded, or the decoded value differs from it.
pub(crate) fn encode_and_decode<C: Codec, T: Serialize + DeserializeOwned>(
    value: &T,
) -> Result<(Bytes, T), EncodeError> {
    let digest = digest(value)?;
    let bytes = C::encode_unchecked(value)?;
    let decoded = codec::decode(&C::CONTENT_TYPE, &bytes).map_err(|error| unreadable::<C>(value, error))?;
    check_unchanged::<C>(value, digest, &decoded, &bytes)?;
    Ok((bytes, decoded))
}

/// Encodes the variant with this index as its content and decodes it again, like [`encode_and_decode`].
pub(crate) fn encode_and_decode_variant<C: Codec, T: Serialize + for<'de> Deserialize<'de>>(
    value: &T,
    index: u32,
) -> Result<(Bytes, T), EncodeError> {
    let content = Content(value);
    let digest = digest(&content)?;
    let bytes = C::encode_unchecked(&content)?;
    let decoded = codec::decode_seed(&C::CONTENT_TYPE, &bytes, VariantSeed::new(index));
    let decoded = decoded.map_err(|error| unreadable::<C>(&content, error))?;
    check_unchanged::<C>(&content, digest, &Content(&decoded), &bytes)?;
    Ok((bytes, decoded))
}

/// Returns the digest of a value, or `None` if its `Serialize` implementation fails.
fn digest(value: &impl Serialize) -> Result<Option<u64>, EncodeError> {
    let walk = Walk::default();
    let digest = walk.digest(value);
    if walk.is_too_deep() { Err(EncodeError::TooDeep { limit: MAX_VALUE_DEPTH }) } else { Ok(digest) }
}

fn check_unchanged<C: Codec>(
    written: &impl Serialize,
    digest: Option<u64>,
    read: &impl Serialize,
    bytes: &Bytes,
) -> Result<(), EncodeError> {
    let is_unchanged = match digest {
        Some(digest) => Walk::default().digest(read) == Some(digest),
        None => C::encode_unchecked(read).is_ok_and(|again| again == *bytes),
    };
    if is_unchanged {
        return Ok(());
    }
    Err(not_finite::<C>(written).unwrap_or_else(|| {
        let nodes = Walk::default().record(written).zip(Walk::default().record(read));
        let difference = nodes.and_then(|(written, read)| written.first_difference(&read));
        let Difference { path, written, read } = difference.unwrap_or_default();
        EncodeError::Changed { content_type: C::CONTENT_TYPE, path, written, read }
    }))
}

fn unreadable<C: Codec>(value: &impl Serialize, source: DecodeContentError) -> EncodeError {
    let unreadable = EncodeError::Unreadable { content_type: C::CONTENT_TYPE, source };
    not_finite::<C>(value).unwrap_or(unreadable)
}

/// Returns the error for a float that the codec cannot represent, which explains the failure best.
fn not_finite<C: Codec>(value: &impl Serialize) -> Option<EncodeError> {
    if C::CONTENT_TYPE == ContentType::Json { codec::not_finite(value) } else { None }
}
