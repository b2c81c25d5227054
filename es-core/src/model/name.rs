//! Names: streams, categories, event types, tags, tables and unique keys.
//!
//! A name is a UTF-8 string of 1 to [`MAX_NAME_BYTES`] bytes without control characters. Spaces, `/`, `:` and accents
//! occur in real logs and are allowed. Control characters are never allowed, so that a store can use one as a
//! separator.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::reserved::{is_reserved, reserved_table_prefix};

/// The maximum length of a name, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 512;

/// A string is not a valid name. Correct it and try again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The string is empty.
    #[error("a {kind} must have 1 to {MAX_NAME_BYTES} bytes, found an empty text")]
    Empty {
        /// The kind of name, for example `stream id`.
        kind: &'static str,
    },
    /// The string is longer than [`MAX_NAME_BYTES`].
    #[error("a {kind} must have 1 to {MAX_NAME_BYTES} bytes, found {found} bytes; shorten it or store a digest of it")]
    TooLong {
        /// The kind of name.
        kind: &'static str,
        /// The length of the string in bytes.
        found: usize,
    },
    /// The string contains a control character.
    #[error("a {kind} must not have control characters, found {found:?} at byte {at} of {text:?}; remove it")]
    Control {
        /// The kind of name.
        kind: &'static str,
        /// The string.
        text: String,
        /// The control character.
        found: char,
        /// The byte offset of the character.
        at: usize,
    },
    /// The string begins with a prefix that is reserved for the framework. Choose another name.
    #[error("names that begin with {prefix:?} belong to the framework, found {kind} {text:?}; choose another name")]
    Framework {
        /// The kind of name.
        kind: &'static str,
        /// The string.
        text: String,
        /// The reserved prefix.
        prefix: &'static str,
    },
    /// The string contains a character that this kind of name does not allow.
    #[error("a {kind} must not have {found:?}, found one at byte {at} of {text:?}")]
    Reserved {
        /// The kind of name.
        kind: &'static str,
        /// The string.
        text: String,
        /// The character.
        found: char,
        /// The byte offset of the character.
        at: usize,
    },
    /// The text is not the id of an aggregate as its stream name contains it. Write it as `found` says. If the domain
    /// created the id, correct its `Display` and `FromStr` so that each is the inverse of the other.
    #[error("expected an id of category {category:?}, found {text:?}{}", other_spelling(.found.as_deref()))]
    Id {
        /// The category of the aggregate.
        category: &'static str,
        /// The text.
        text: String,
        /// The spelling of the id that the text is parsed as, or `None` if it is not an id.
        found: Option<String>,
    },
}

fn other_spelling(found: Option<&str>) -> String {
    found.map(|found| format!(", which is another spelling of {found:?}; use that one")).unwrap_or_default()
}

fn check(kind: &'static str, text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { kind });
    }
    check_length_and_characters(kind, text)
}

fn check_length_and_characters(kind: &'static str, text: &str) -> Result<(), NameError> {
    if text.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong { kind, found: text.len() });
    }
    // Most names are ASCII, whose bytes are checked at once.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Ok(());
    }
    match text.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, found)) => Err(NameError::Control { kind, text: text.to_owned(), found, at }),
        None => Ok(()),
    }
}

/// Defines a name type: a validated, ordered string that is cheap to clone.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            #[doc = concat!("Validates a string and returns it as a ", $kind, ".")]
            ///
            /// # Errors
            /// [`NameError`] if the string is not a valid name: see [the module](crate::model).
            pub fn new(text: impl AsRef<str>) -> Result<Self, NameError> {
                let text = text.as_ref();
                $check($kind, text)?;
                Ok(Self(text.into()))
            }

            /// Returns the name as a string slice.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;
            fn try_from(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }
    };
}

name! {
    /// The name of a stream, which contains the ordered events of one entity, for example `order-10248`.
    ///
    /// The part before the first `-` is the [`Category`] of the stream.
    StreamId, "stream id", check
}

name! {
    /// The kind of a stream: the part of its name before the first `-`, for example `order` for `order-10248`.
    ///
    /// A stream without a `-` is its own category. A stream that begins with `-` has the empty category, which is the
    /// only empty name. A category never contains a `-`.
    Category, "category", check_category
}

name! {
    /// The subject of personal data: the person to whom it belongs, for example `7c9e6679`.
    ///
    /// It stays in the log when the subject is erased, so it must not be personal data itself: use a random number.
    SubjectId, "subject id", check
}

name! {
    /// The wire name of an event type, for example `order-placed`. Every record contains it, so it must never change.
    EventType, "event type", check
}

name! {
    /// A label on an event by which queries find it. By convention it has the form `key:value`, for example
    /// `customer:VINET`.
    Tag, "tag", check
}

name! {
    /// Identifies a command to an aggregate, for example by the id of a request. An aggregate executes at most one
    /// command with the same id.
    CommandId, "command id", check
}

name! {
    /// The name of a side table of a store, whose rows change together with events (snapshots, command results,
    /// checkpoints).
    ///
    /// Names that begin with `es.` or `node.` are reserved for the framework.
    Table, "table", check_table
}

fn check_table(kind: &'static str, text: &str) -> Result<(), NameError> {
    match reserved_table_prefix(text) {
        Some(prefix) => Err(NameError::Framework { kind, text: text.to_owned(), prefix }),
        None => check(kind, text),
    }
}

fn check_category(kind: &'static str, text: &str) -> Result<(), NameError> {
    check_length_and_characters(kind, text)?;
    match text.find('-') {
        Some(at) => Err(NameError::Reserved { kind, text: text.to_owned(), found: '-', at }),
        None => Ok(()),
    }
}

impl StreamId {
    /// Returns the stream id of one aggregate: `{category}-{id}`.
    ///
    /// # Errors
    /// [`NameError`] if the category is not a valid [`Category`], the id is empty, or the result is not a valid stream
    /// id.
    ///
    /// ```
    /// use es_core::StreamId;
    /// let stream = StreamId::of("order", 10248)?;
    /// assert_eq!(stream, "order-10248");
    /// assert_eq!((stream.category_str(), stream.id_str()), ("order", Some("10248")));
    /// assert!(StreamId::of("order", "").is_err() && StreamId::of("web-order", 1).is_err());
    /// # Ok::<(), es_core::model::NameError>(())
    /// ```
    pub fn of(category: &str, id: impl fmt::Display) -> Result<Self, NameError> {
        check_category("category", category)?;
        let text = format!("{category}-{id}");
        if text.len() == category.len() + 1 {
            return Err(NameError::Empty { kind: "stream's id" });
        }
        Self::new(text)
    }

    /// Returns the part before the first `-`, or the whole name if it has none.
    #[must_use]
    pub fn category(&self) -> Category {
        Category(self.category_str().into())
    }

    /// Returns the [`category`](Self::category) as a string slice, without allocating.
    #[must_use]
    pub fn category_str(&self) -> &str {
        self.0.split_once('-').map_or(&self.0, |(category, _)| category)
    }

    /// Returns the part after the first `-`, or `None` if the name has none.
    #[must_use]
    pub fn id_str(&self) -> Option<&str> {
        self.0.split_once('-').map(|(_, id)| id)
    }
}

impl Tag {
    /// Returns the tag `{key}:{value}`.
    ///
    /// # Errors
    /// [`NameError`] if the result is not a valid tag.
    pub fn of(key: &str, value: impl fmt::Display) -> Result<Self, NameError> {
        Self::new(format!("{key}:{value}"))
    }
}

impl StreamId {
    pub(crate) fn well_known(text: &'static str) -> Self {
        debug_assert!(check("stream id", text).is_ok());
        Self(text.into())
    }
}

impl SubjectId {
    /// Returns `true` if the name begins with `es.`. Such a subject is no person: its key is a secret of one node, as
    /// that of fingerprints.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        is_reserved(self.as_str())
    }
}

impl Category {
    pub(crate) fn well_known(text: &'static str) -> Self {
        debug_assert!(check_category("category", text).is_ok());
        Self(text.into())
    }
}

impl EventType {
    pub(crate) fn well_known(text: &'static str) -> Self {
        debug_assert!(check("event type", text).is_ok());
        Self(text.into())
    }
}

impl Table {
    /// Returns a table with any valid name, including the reserved ones.
    pub(crate) fn any(text: &str) -> Result<Self, NameError> {
        check("table", text)?;
        Ok(Self(text.into()))
    }

    /// Returns a table whose name consists of validated parts.
    pub(crate) fn well_known(text: impl AsRef<str>) -> Self {
        debug_assert!(check("table", text.as_ref()).is_ok());
        Self(text.as_ref().into())
    }
}

/// A value that at most one stream can hold at a time within its scope, for example the e-mail address of a customer.
///
/// An event [claims](crate::NewEvent::claiming) and [releases](crate::NewEvent::releasing) it for its stream. A store
/// keeps the text of the key only in these events; its index contains a keyed hash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct UniqueKey {
    scope: KeyPart,
    value: KeyPart,
}

name! {
    /// The scope or the value of a [`UniqueKey`].
    KeyPart, "part of a unique key", check
}

impl UniqueKey {
    /// Returns the key `value` within `scope`, for example `("customer-email", "ada@example.org")`.
    ///
    /// Values are compared byte by byte: normalize case and accents first.
    ///
    /// # Errors
    /// [`NameError`] if the scope or the value is not a valid name.
    pub fn new(scope: impl AsRef<str>, value: impl AsRef<str>) -> Result<Self, NameError> {
        Ok(Self { scope: KeyPart::new(scope)?, value: KeyPart::new(value)? })
    }

    /// Returns the scope within which the value is unique.
    #[must_use]
    pub fn scope(&self) -> &str {
        self.scope.as_str()
    }

    /// Returns the value.
    #[must_use]
    pub fn value(&self) -> &str {
        self.value.as_str()
    }
}

impl fmt::Display for UniqueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.scope, self.value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_real_logs_are_allowed() {
        for text in ["order-1", "A_SUBMITTED", "Münster / Köln: Straße 5", "a", &"x".repeat(MAX_NAME_BYTES)] {
            assert_eq!(StreamId::new(text).as_ref().map(StreamId::as_str), Ok(text));
        }
    }

    #[test]
    fn an_invalid_name_is_rejected_with_its_reason() {
        assert_eq!(Tag::new(""), Err(NameError::Empty { kind: "tag" }));
        let long = "é".repeat(MAX_NAME_BYTES / 2 + 1);
        assert_eq!(EventType::new(&long), Err(NameError::TooLong { kind: "event type", found: MAX_NAME_BYTES + 2 }));
        let error = StreamId::new("a\u{0}b").expect_err("a control character");
        assert_eq!(
            error.to_string(),
            "a stream id must not have control characters, found '\\0' at byte 1 of \"a\\0b\"; remove it"
        );
        assert!(StreamId::new("a\u{85}b").is_err(), "C1 control characters are control characters");
    }

    #[test]
    fn the_category_ends_before_the_first_dash() {
        let category = |text| StreamId::new(text).map(|s| s.category().as_str().to_owned());
        assert_eq!(category("order-10-a").as_deref(), Ok("order"));
        assert_eq!(category("settings").as_deref(), Ok("settings"));
        assert_eq!(category("-odd").as_deref(), Ok(""));
        assert!(Category::new("a-b").is_err());
        assert!(Category::new("").is_ok());
    }

    #[test]
    fn deserialization_validates_names() {
        assert!(serde_json::from_str::<StreamId>("\"a\\u0007\"").is_err());
        assert_eq!(serde_json::to_string(&StreamId::new("a b").expect("valid")).expect("serializes"), "\"a b\"");
    }
}
