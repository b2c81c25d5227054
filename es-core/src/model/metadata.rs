//! [`Metadata`]: JSON values by key, without loss of precision.
//!
//! ```text
//!   API: with(key, value) ----+
//!   JSON: serde, FromStr -----+--> MetadataValue: the canonical JSON text of a value --> the same text, everywhere
//! ```
//!
//! The canonical text has no whitespace outside of strings, the keys of objects in order, and each number as it was
//! written. It is not decoded as a float, so no digit is lost. It is the text that [`serde_json::Value`] has for the
//! values that it can represent.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::ser::{self, SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// The maximum number of levels of a value in metadata: an array of numbers has two.
pub(crate) const MAX_METADATA_DEPTH: usize = 32;

/// The prefix of the object keys that serde_json uses for its own values. An object with such a key would be read back
/// as another value, or would be unreadable. Found by fuzzing.
const RESERVED_KEYS: &str = "$serde_json::private::";

/// Metadata of an event: JSON values by key, in the order of the keys.
///
/// Numbers keep every digit. An object that has a key twice is refused when it is parsed.
///
/// ```
/// use es_core::model::Metadata;
/// let metadata = Metadata::new().with("user", "ada").with("attempt", 2);
/// assert_eq!(metadata.get_str("user"), Some("ada"));
/// assert_eq!(metadata.get("attempt").and_then(|attempt| attempt.parse::<u32>().ok()), Some(2));
///
/// let parsed: Metadata = r#"{ "n": 12345678901234567890123, "p": 1.10 }"#.parse()?;
/// assert_eq!(parsed.to_string(), r#"{"n":12345678901234567890123,"p":1.10}"#);
/// assert!(r#"{"k": 1, "k": 2}"#.parse::<Metadata>().is_err());
/// # Ok::<(), es_core::model::MetadataError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata(BTreeMap<String, MetadataValue>);

/// A JSON value in [`Metadata`]. Two values are equal if their canonical texts are: `1.0` differs from `1.00`.
///
/// A float that is NaN or infinite and a value of more than
/// [`MAX_METADATA_DEPTH`](crate::store::MAX_METADATA_DEPTH) levels can be converted, but each store refuses to commit
/// them.
#[derive(Clone, PartialEq, Eq)]
pub struct MetadataValue(ValueText);

#[derive(Clone, PartialEq, Eq)]
enum ValueText {
    /// A string, without quotation marks and escapes.
    Text(String),
    /// The canonical text of any other value.
    Json(Box<str>),
    /// A value that no store accepts, and the reason.
    Invalid(Cow<'static, str>),
}

/// A text is not valid metadata. Correct it and try again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The text is not JSON, or not an object.
    #[error("expected metadata in JSON")]
    Json(#[from] serde_json::Error),
    /// An object has a key twice, so that one of the values would be lost.
    #[error("key {key:?} occurs twice in one object; rename or remove one")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A nested object has a key that serde_json reserves.
    #[error("keys that begin with {RESERVED_KEYS:?} belong to serde_json, found {key:?}; choose another key")]
    ReservedKey {
        /// The key.
        key: String,
    },
    /// The value has more than [`MAX_METADATA_DEPTH`](crate::store::MAX_METADATA_DEPTH) levels.
    #[error("expected at most {MAX_METADATA_DEPTH} levels of metadata, found more levels; store it flat")]
    TooDeep,
}

impl Metadata {
    /// Returns empty metadata.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`. Replaces an earlier value.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<MetadataValue>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    /// Returns the value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&MetadataValue> {
        self.0.get(key)
    }

    /// Returns the value of a key if it is a string.
    #[must_use]
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// Returns `true` if there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the entries in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &MetadataValue)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Adds the entry of a parsed object.
    fn insert(&mut self, key: String, value: MetadataValue) -> Result<(), MetadataError> {
        match self.0.entry(key) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(value);
                Ok(())
            }
            std::collections::btree_map::Entry::Occupied(entry) => {
                Err(MetadataError::DuplicateKey { key: entry.key().clone() })
            }
        }
    }
}

impl MetadataValue {
    /// Returns the value if it is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.0 {
            ValueText::Text(text) => Some(text),
            ValueText::Json(_) | ValueText::Invalid(_) => None,
        }
    }

    /// Decodes the value, for example as `u64`, as `f64`, or as a type of the domain. A [`Value`] rounds numbers that a
    /// float cannot represent.
    ///
    /// # Errors
    /// An error of serde_json if the value does not match the type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.to_json()?)
    }

    /// Returns the reason why no store accepts the value, if there is one.
    pub(crate) fn invalid(&self) -> Option<&str> {
        match &self.0 {
            ValueText::Invalid(reason) => Some(reason),
            ValueText::Text(_) | ValueText::Json(_) => None,
        }
    }

    /// Returns the length of the text, in bytes.
    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            ValueText::Text(text) => text.len(),
            ValueText::Json(text) => text.len(),
            ValueText::Invalid(reason) => reason.len(),
        }
    }

    fn to_json(&self) -> Result<Cow<'_, str>, serde_json::Error> {
        match &self.0 {
            ValueText::Text(text) => serde_json::to_string(text).map(Cow::Owned),
            ValueText::Json(text) => Ok(Cow::Borrowed(text)),
            ValueText::Invalid(reason) => Err(ser::Error::custom(reason)),
        }
    }

    fn of_raw(raw: &RawValue) -> Result<Self, MetadataError> {
        let text = raw.get();
        match text.as_bytes().first() {
            Some(b'"') => Ok(Self(ValueText::Text(serde_json::from_str(text)?))),
            Some(b'{' | b'[') => {
                let mut canonical = String::with_capacity(text.len());
                write_canonical(raw, MAX_METADATA_DEPTH, &mut canonical)?;
                Ok(Self(ValueText::Json(canonical.into())))
            }
            // A number, `true`, `false` or `null` has one spelling, or keeps its own.
            _ => Ok(Self(ValueText::Json(text.into()))),
        }
    }

    /// Returns the value with this JSON text, or one that no store accepts.
    fn of_json(text: &str) -> Self {
        match text.parse() {
            Ok(value) => value,
            Err(error) => Self::invalid_for(&error),
        }
    }

    /// Returns a value that no store accepts. The reason completes the message of the store.
    fn invalid_for(error: &MetadataError) -> Self {
        let reason = match error {
            MetadataError::TooDeep => "more levels".into(),
            MetadataError::ReservedKey { .. } => format!("a key that begins with {RESERVED_KEYS:?}").into(),
            error => error.to_string().into(),
        };
        Self(ValueText::Invalid(reason))
    }

    fn of_float(is_finite: bool, text: impl FnOnce() -> String) -> Self {
        if is_finite {
            return Self(ValueText::Json(text().into()));
        }
        Self(ValueText::Invalid("NaN or an infinite number, which JSON does not have; store it as a string".into()))
    }
}

/// Appends the canonical text of a value.
fn write_canonical(raw: &RawValue, levels: usize, out: &mut String) -> Result<(), MetadataError> {
    let below = levels.checked_sub(1).ok_or(MetadataError::TooDeep)?;
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'{') => {
            let mut fields = BTreeMap::new();
            for (key, field) in serde_json::from_str::<RawFields<'_>>(text)?.0 {
                if key.starts_with(RESERVED_KEYS) {
                    return Err(MetadataError::ReservedKey { key });
                }
                if fields.contains_key(&key) {
                    return Err(MetadataError::DuplicateKey { key });
                }
                fields.insert(key, field);
            }
            out.push('{');
            for (index, (key, field)) in fields.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&serde_json::to_string(&key)?);
                out.push(':');
                write_canonical(field, below, out)?;
            }
            out.push('}');
        }
        Some(b'[') => {
            out.push('[');
            for (index, item) in serde_json::from_str::<Vec<&RawValue>>(text)?.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, below, out)?;
            }
            out.push(']');
        }
        Some(b'"') => out.push_str(&serde_json::to_string(&serde_json::from_str::<String>(text)?)?),
        _ => out.push_str(text),
    }
    Ok(())
}

/// The fields of a JSON object in the order of the text, including repeated ones.
struct RawFields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for RawFields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RawFieldsVisitor;

        impl<'de> Visitor<'de> for RawFieldsVisitor {
            type Value = RawFields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<RawFields<'de>, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(RawFields(fields))
            }
        }

        deserializer.deserialize_map(RawFieldsVisitor)
    }
}

impl FromStr for Metadata {
    type Err = MetadataError;

    /// Parses a JSON object.
    fn from_str(text: &str) -> Result<Self, MetadataError> {
        let mut metadata = Self::new();
        for (key, value) in serde_json::from_str::<RawFields<'_>>(text)?.0 {
            metadata.insert(key, MetadataValue::of_raw(value)?)?;
        }
        Ok(metadata)
    }
}

impl FromStr for MetadataValue {
    type Err = MetadataError;

    /// Parses a JSON value.
    fn from_str(text: &str) -> Result<Self, MetadataError> {
        Self::of_raw(serde_json::from_str(text)?)
    }
}

impl fmt::Display for Metadata {
    /// Writes the JSON object, or fails if a value cannot be stored.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl fmt::Display for MetadataValue {
    /// Writes the JSON text, or the reason why the value cannot be stored.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.to_json(), &self.0) {
            (Ok(json), _) => f.write_str(&json),
            (Err(_), ValueText::Invalid(reason)) => f.write_str(reason),
            (Err(_), _) => Err(fmt::Error),
        }
    }
}

impl fmt::Debug for MetadataValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl Serialize for MetadataValue {
    /// Serializes the canonical text in JSON, and the decoded value in binary formats. Fails if a binary format would
    /// lose digits of a number.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = match &self.0 {
            ValueText::Text(text) => return serializer.serialize_str(text),
            ValueText::Json(text) => text,
            ValueText::Invalid(reason) => return Err(ser::Error::custom(reason)),
        };
        if serializer.is_human_readable() {
            return serde_json::from_str::<&RawValue>(text).map_err(ser::Error::custom)?.serialize(serializer);
        }
        let value: Value = serde_json::from_str(text).map_err(ser::Error::custom)?;
        let written = value.to_string();
        if written != **text {
            return Err(ser::Error::custom(format_args!("only JSON keeps every digit of {text}; use the codec JSON")));
        }
        value.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MetadataVisitor;

        impl<'de> Visitor<'de> for MetadataVisitor {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of metadata")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Metadata, M::Error> {
                let mut metadata = Metadata::new();
                while let Some((key, value)) = map.next_entry()? {
                    metadata.insert(key, value).map_err(de::Error::custom)?;
                }
                Ok(metadata)
            }
        }

        deserializer.deserialize_map(MetadataVisitor)
    }
}

impl<'de> Deserialize<'de> for MetadataValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let raw = Box::<RawValue>::deserialize(deserializer)?;
            return Self::of_raw(&raw).map_err(de::Error::custom);
        }
        let value = Self::from(Value::deserialize(deserializer)?);
        value.invalid().map_or(Ok(()), |reason| Err(de::Error::custom(reason)))?;
        Ok(value)
    }
}

impl<K: Into<String>, V: Into<MetadataValue>> FromIterator<(K, V)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        Self(entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl From<Value> for MetadataValue {
    fn from(value: Value) -> Self {
        match value {
            Value::String(text) => Self(ValueText::Text(text)),
            // ORDER: check the depth before encoding, because encoding uses stack space in proportion to the depth.
            value if !is_nested_at_most(MAX_METADATA_DEPTH, &value) => Self::invalid_for(&MetadataError::TooDeep),
            value => Self::of_json(&value.to_string()),
        }
    }
}

fn is_nested_at_most(levels: usize, value: &Value) -> bool {
    let Some(below) = levels.checked_sub(1) else { return false };
    match value {
        Value::Array(items) => items.iter().all(|item| is_nested_at_most(below, item)),
        Value::Object(fields) => fields.values().all(|field| is_nested_at_most(below, field)),
        _ => true,
    }
}

/// Implements the conversion from types whose `Display` is their JSON text.
macro_rules! from_json_text {
    ($($type:ty)*) => {$(
        impl From<$type> for MetadataValue {
            fn from(value: $type) -> Self {
                Self(ValueText::Json(value.to_string().into()))
            }
        }
    )*};
}

from_json_text! { bool i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize }

macro_rules! from_float {
    ($($type:ty)*) => {$(
        impl From<$type> for MetadataValue {
            fn from(value: $type) -> Self {
                Self::of_float(value.is_finite(), || serde_json::to_string(&value).unwrap_or_default())
            }
        }
    )*};
}

from_float! { f32 f64 }

macro_rules! from_text {
    ($($type:ty)*) => {$(
        impl From<$type> for MetadataValue {
            fn from(text: $type) -> Self {
                Self(ValueText::Text(text.into()))
            }
        }
    )*};
}

from_text! { &str String &String Box<str> Cow<'_, str> char }

impl<T: Into<MetadataValue>> From<Option<T>> for MetadataValue {
    fn from(value: Option<T>) -> Self {
        value.map_or_else(|| Self(ValueText::Json("null".into())), Into::into)
    }
}

impl<T: Into<MetadataValue>> From<Vec<T>> for MetadataValue {
    fn from(items: Vec<T>) -> Self {
        let mut text = "[".to_owned();
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            let item = item.into();
            match item.to_json() {
                Ok(json) => text.push_str(&json),
                Err(_) => return item,
            }
        }
        text.push(']');
        Self::of_json(&text)
    }
}

impl<T: Into<MetadataValue>, const N: usize> From<[T; N]> for MetadataValue {
    fn from(items: [T; N]) -> Self {
        Vec::from(items).into()
    }
}

#[cfg(test)]
#[path = "metadata_tests.rs"]
mod tests;
