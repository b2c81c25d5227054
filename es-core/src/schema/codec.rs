//! Codecs encode the content of an event as bytes: [`Json`] by default, [`MessagePack`] for smaller records.
//!
//! Each event type chooses its codec. Every record stores its content type, so one stream may mix both codecs, and an
//! event type may change its codec without a migration.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::ContentType;

/// The content of an event could not be encoded. Nothing was written. Change the type so that its codec can encode
/// every value.
#[derive(Debug, thiserror::Error)]
#[error("could not encode as {content_type}")]
pub struct EncodeError {
    /// The content type of the codec.
    pub content_type: ContentType,
    /// The error of the serializer.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// The content of an event could not be decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeContentError {
    /// The payload does not match the type. The type has changed: give the event a new version and an upcaster.
    #[error("could not decode {content_type} as {expected}")]
    Mismatch {
        /// The content type of the record.
        content_type: ContentType,
        /// The expected Rust type.
        expected: &'static str,
        /// The error of the deserializer.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No codec supports this content type.
    #[error("could not decode {found}: expected {} or {}", ContentType::Json, ContentType::MessagePack)]
    UnknownContentType {
        /// The content type of the record.
        found: ContentType,
    },
}

/// Encodes the content of events. Decoding picks the codec from the content type of the record.
pub trait Codec {
    /// The content type that records store for this codec.
    const CONTENT_TYPE: ContentType;

    /// Encodes a value.
    ///
    /// # Errors
    /// [`EncodeError`] for a value that the format cannot represent, such as a map with struct keys in JSON.
    fn encode<T: Serialize + ?Sized>(content: &T) -> Result<Bytes, EncodeError>;
}

/// JSON, the default: readable, and tolerant of added and removed fields.
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

/// MessagePack with field names: about three quarters of the size of JSON, and as tolerant of added and removed fields.
///
/// Positional binary formats are smaller, but an added or removed field makes every existing record unreadable. See
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

/// Decodes a payload with the codec of its content type.
///
/// # Errors
/// - [`DecodeContentError::Mismatch`] if the payload does not decode as `T`, or has bytes after the value.
/// - [`DecodeContentError::UnknownContentType`] if no codec supports the content type.
pub(crate) fn decode<T: DeserializeOwned>(content_type: &ContentType, payload: &[u8]) -> Result<T, DecodeContentError> {
    decode_seed(content_type, payload, std::marker::PhantomData)
}

/// Decodes a payload with a seed, for a variant that is known only at run time.
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
    let trailing = payload.len() as u64 - deserializer.position();
    if trailing > 0 {
        return Err(format!("{trailing} trailing bytes after the content").into());
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
    fn each_codec_round_trips_a_value() {
        let line = Line { product: "Chai".into(), quantity: 3 };
        for (content_type, bytes) in [
            (Json::CONTENT_TYPE, Json::encode(&line).expect("encodes")),
            (MessagePack::CONTENT_TYPE, MessagePack::encode(&line).expect("encodes")),
        ] {
            assert_eq!(decode::<Line>(&content_type, &bytes).expect("decodes"), line);
        }
    }

    #[test]
    fn trailing_bytes_after_the_content_are_an_error() {
        let mut json = Json::encode(&1).expect("encodes").to_vec();
        json.extend_from_slice(b" 2");
        assert!(decode::<u32>(&ContentType::Json, &json).is_err());
        let mut packed = MessagePack::encode(&1).expect("encodes").to_vec();
        packed.push(2);
        assert!(decode::<u32>(&ContentType::MessagePack, &packed).is_err());
    }

    #[test]
    fn the_error_for_an_unknown_content_type_lists_the_known_ones() {
        let error = decode::<u32>(&ContentType::from("text/csv"), b"1").expect_err("no codec reads it");
        assert_eq!(error.to_string(), "could not decode text/csv: expected application/json or application/msgpack");
    }
}
