//! Codecs: how the content of an event becomes bytes. [`Json`] by default, [`MessagePack`] where size counts.
//!
//! The choice is made for each event type; the content type stands in every record, so that one stream may hold both
//! and a type may change its codec without a migration.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::ContentType;

/// A content could not be encoded. Nothing was written; correct the type so that its codec can write every value.
#[derive(Debug, thiserror::Error)]
#[error("could not encode as {content_type}")]
pub struct EncodeError {
    /// The codec.
    pub content_type: ContentType,
    /// Why.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// A content could not be decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeContentError {
    /// The bytes are not what the type expects. Its shape has changed: give the event a new version and an upcaster.
    #[error("could not decode {content_type} as {expected}")]
    Mismatch {
        /// The codec.
        content_type: ContentType,
        /// The Rust type that was expected.
        expected: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No codec of this program reads this content type.
    #[error("could not decode {found}: expected {} or {}", ContentType::Json, ContentType::MessagePack)]
    UnknownContentType {
        /// The content type in the record.
        found: ContentType,
    },
}

/// How a content is written. What is read is decided by the record: see [`decode`].
pub trait Codec {
    /// What the record says of the content.
    const CONTENT_TYPE: ContentType;

    /// Writes a content.
    ///
    /// # Errors
    /// [`EncodeError`] for a value that the format cannot hold, such as a map with structured keys in JSON.
    fn encode<T: Serialize + ?Sized>(content: &T) -> Result<Bytes, EncodeError>;
}

/// JSON: readable, tolerant of added and removed fields, the default.
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl Codec for Json {
    const CONTENT_TYPE: ContentType = ContentType::Json;

    fn encode<T: Serialize + ?Sized>(content: &T) -> Result<Bytes, EncodeError> {
        match serde_json::to_vec(content) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) => Err(EncodeError { content_type: Self::CONTENT_TYPE, source: error.into() }),
        }
    }
}

/// MessagePack with the names of fields: about three quarters of the size of JSON and as tolerant of change.
///
/// Positional binary formats are smaller still, but a field added or removed breaks every record already written; see
/// <https://msgpack.org>.
#[derive(Debug, Clone, Copy)]
pub struct MessagePack;

impl Codec for MessagePack {
    const CONTENT_TYPE: ContentType = ContentType::MessagePack;

    fn encode<T: Serialize + ?Sized>(content: &T) -> Result<Bytes, EncodeError> {
        match rmp_serde::to_vec_named(content) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) => Err(EncodeError { content_type: Self::CONTENT_TYPE, source: error.into() }),
        }
    }
}

/// Reads a content in whichever codec it was written.
///
/// # Errors
/// [`DecodeContentError`] when the bytes are not what `T` expects or no codec reads them.
pub(crate) fn decode<T: DeserializeOwned>(content_type: &ContentType, payload: &[u8]) -> Result<T, DecodeContentError> {
    decode_seed(content_type, payload, std::marker::PhantomData)
}

/// [`decode`] with a seed, for content whose type is known only at run time.
pub(crate) fn decode_seed<'de, S: serde::de::DeserializeSeed<'de>>(
    content_type: &ContentType,
    payload: &'de [u8],
    seed: S,
) -> Result<S::Value, DecodeContentError> {
    let result: Result<S::Value, Box<dyn std::error::Error + Send + Sync>> = match content_type {
        ContentType::Json => decode_json(payload, seed).map_err(Into::into),
        ContentType::MessagePack => decode_msgpack(payload, seed),
        found @ ContentType::Other(_) => return Err(DecodeContentError::UnknownContentType { found: found.clone() }),
    };
    result.map_err(|source| DecodeContentError::Mismatch {
        content_type: content_type.clone(),
        expected: std::any::type_name::<S::Value>(),
        source,
    })
}

fn decode_json<'de, S: serde::de::DeserializeSeed<'de>>(
    payload: &'de [u8],
    seed: S,
) -> Result<S::Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(payload);
    let value = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

fn decode_msgpack<'de, S: serde::de::DeserializeSeed<'de>>(
    payload: &'de [u8],
    seed: S,
) -> Result<S::Value, Box<dyn std::error::Error + Send + Sync>> {
    let mut deserializer = rmp_serde::Deserializer::new(std::io::Cursor::new(payload));
    let value = seed.deserialize(&mut deserializer)?;
    let rest = payload.len() as u64 - deserializer.position();
    if rest > 0 {
        return Err(format!("expected the end behind the content, found {rest} more bytes").into());
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Line {
        product: String,
        quantity: u32,
    }

    #[test]
    fn what_a_codec_writes_is_read_back() {
        let line = Line { product: "Chai".into(), quantity: 3 };
        for (content_type, bytes) in [
            (Json::CONTENT_TYPE, Json::encode(&line).expect("encodes")),
            (MessagePack::CONTENT_TYPE, MessagePack::encode(&line).expect("encodes")),
        ] {
            assert_eq!(decode::<Line>(&content_type, &bytes).expect("decodes"), line);
        }
    }

    #[test]
    fn bytes_behind_the_content_are_refused() {
        let mut json = Json::encode(&1).expect("encodes").to_vec();
        json.extend_from_slice(b" 2");
        assert!(decode::<u32>(&ContentType::Json, &json).is_err());
        let mut packed = MessagePack::encode(&1).expect("encodes").to_vec();
        packed.push(2);
        assert!(decode::<u32>(&ContentType::MessagePack, &packed).is_err());
    }

    #[test]
    fn an_unknown_content_type_says_what_is_known() {
        let error = decode::<u32>(&ContentType::from("text/csv"), b"1").expect_err("no codec reads it");
        assert_eq!(error.to_string(), "could not decode text/csv: expected application/json or application/msgpack");
    }
}
