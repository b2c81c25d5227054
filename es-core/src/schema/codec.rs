//! Codecs encode the content of an event as bytes: [`Json`] by default, [`MessagePack`] for smaller records.
//!
//! Each event type chooses its codec. Every record stores its content type, so one stream may mix both codecs, and an
//! event type may change its codec without a migration.

use bytes::Bytes;
use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer};

use crate::model::{ContentType, ErrorChain};
use crate::schema::value_digest::Walk;

/// A value could not be encoded, or what was encoded could not be read back. Nothing was written. Change the type or
/// the codec so that every value can be read back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The format cannot represent the value, such as a map with struct keys in JSON.
    #[error("could not encode as {content_type}")]
    Format {
        /// The content type of the codec.
        content_type: ContentType,
        /// The error of the serializer.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The value contains a float that JSON cannot represent: it would be written as `null`.
    #[error("{}: {content_type} cannot represent {value}; use the codec MessagePack or another type", place(.path))]
    NotFinite {
        /// The content type of the codec.
        content_type: ContentType,
        /// The path of the float, such as `readings[2].celsius`. Empty if the value is the float.
        path: String,
        /// `NaN`, `inf` or `-inf`.
        value: String,
    },
    /// The value is nested too deep.
    #[error("the value is nested deeper than {limit} levels; store it flat, or split it")]
    TooDeep {
        /// The maximum number of levels.
        limit: u32,
    },
    /// The encoded value cannot be decoded as its own type.
    #[error(
        "the value could not be read back from {content_type}; correct the serde attributes of its type, or use \
         another type{}",
        or_codec(.content_type)
    )]
    Unreadable {
        /// The content type of the codec.
        content_type: ContentType,
        /// The error of the decoder.
        source: DecodeContentError,
    },
    /// The decoded value differs from the encoded one.
    #[error(
        "{}: {written} would be read back from {content_type} as {read}; correct the serde attributes of its type, or \
         use another type{}",
        place(.path), or_codec(.content_type)
    )]
    Changed {
        /// The content type of the codec.
        content_type: ContentType,
        /// The path of the innermost part that differs, such as `lines[2].price`. Empty for the value as a whole.
        path: String,
        /// A short description of the part.
        written: String,
        /// A short description of the part that was read back.
        read: String,
    },
}

fn place(path: &str) -> &str {
    if path.is_empty() { "the value" } else { path }
}

fn or_codec(content_type: &ContentType) -> &'static str {
    if *content_type == ContentType::Json { " or the codec MessagePack" } else { "" }
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
    /// - [`EncodeError::Format`] for a value that the format cannot represent, such as a map with struct keys in JSON.
    /// - [`EncodeError::NotFinite`] for a float that the format cannot represent.
    fn encode<T: Serialize + ?Sized>(content: &T) -> Result<Bytes, EncodeError>;

    /// Encodes a value without a check for floats that the format cannot represent. For callers that read it back.
    ///
    /// # Errors
    /// [`EncodeError::Format`].
    #[doc(hidden)]
    fn encode_unchecked<T: Serialize + ?Sized>(content: &T) -> Result<Bytes, EncodeError> {
        Self::encode(content)
    }
}

/// JSON, the default: readable, and tolerant of added and removed fields.
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl Codec for Json {
    const CONTENT_TYPE: ContentType = ContentType::Json;

    fn encode<T: Serialize + ?Sized>(content: &T) -> Result<Bytes, EncodeError> {
        let bytes = Self::encode_unchecked(content)?;
        // serde_json writes a float that is not finite as `null`.
        let walk = Walk::human_readable();
        let _ = walk.digest(content);
        if walk.has_not_finite() { not_finite(content).map_or(Ok(bytes), Err) } else { Ok(bytes) }
    }

    fn encode_unchecked<T: Serialize + ?Sized>(content: &T) -> Result<Bytes, EncodeError> {
        let bytes = serde_json::to_vec(content);
        let bytes =
            bytes.map_err(|error| EncodeError::Format { content_type: ContentType::Json, source: error.into() });
        bytes.map(Into::into)
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
            Err(error) => Err(EncodeError::Format { content_type: Self::CONTENT_TYPE, source: error.into() }),
        }
    }
}

/// Returns the error for the first float of a JSON value that is not finite, if there is one.
pub(crate) fn not_finite<T: Serialize + ?Sized>(content: &T) -> Option<EncodeError> {
    let node = Walk::human_readable().record(content)?;
    let (path, value) = node.first_not_finite()?;
    Some(EncodeError::NotFinite { content_type: ContentType::Json, path, value: value.to_owned() })
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
pub(crate) fn decode_seed<'de, S: DeserializeSeed<'de> + Copy>(
    content_type: &ContentType,
    payload: &'de [u8],
    seed: S,
) -> Result<S::Value, DecodeContentError> {
    let result: Result<S::Value, Box<dyn std::error::Error + Send + Sync>> = match content_type {
        ContentType::Json => decode_json(payload, seed),
        ContentType::MessagePack => decode_msgpack(payload, seed),
        found @ ContentType::Other(_) => return Err(DecodeContentError::UnknownContentType { found: found.clone() }),
    };
    result.map_err(|source| DecodeContentError::Mismatch {
        content_type: content_type.clone(),
        expected: std::any::type_name::<S::Value>(),
        source,
    })
}

fn decode_json<'de, S: DeserializeSeed<'de> + Copy>(
    payload: &'de [u8],
    seed: S,
) -> Result<S::Value, Box<dyn std::error::Error + Send + Sync>> {
    let mut deserializer = serde_json::Deserializer::from_slice(payload);
    let Ok(value) = seed.deserialize(&mut deserializer) else {
        return with_path(&mut serde_json::Deserializer::from_slice(payload), seed);
    };
    deserializer.end()?;
    Ok(value)
}

fn decode_msgpack<'de, S: DeserializeSeed<'de> + Copy>(
    payload: &'de [u8],
    seed: S,
) -> Result<S::Value, Box<dyn std::error::Error + Send + Sync>> {
    let mut deserializer = rmp_serde::Deserializer::new(std::io::Cursor::new(payload));
    let Ok(value) = seed.deserialize(&mut deserializer) else {
        return with_path(&mut rmp_serde::Deserializer::new(std::io::Cursor::new(payload)), seed);
    };
    let trailing = payload.len() as u64 - deserializer.position();
    if trailing > 0 {
        return Err(format!("{trailing} trailing bytes after the content").into());
    }
    Ok(value)
}

/// Decodes a payload that could not be decoded again, for an error that contains the path of the failure.
fn with_path<'de, D: Deserializer<'de>, S: DeserializeSeed<'de>>(
    deserializer: D,
    seed: S,
) -> Result<S::Value, Box<dyn std::error::Error + Send + Sync>>
where
    D::Error: std::error::Error + Send + Sync + 'static,
{
    let mut track = serde_path_to_error::Track::new();
    let result = seed.deserialize(serde_path_to_error::Deserializer::new(deserializer, &mut track));
    result.map_err(|error| match track.path().to_string() {
        path if path == "." => error.into(),
        path => format!("{path}: {}", ErrorChain(&error)).into(),
    })
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
