//! Names: streams, categories, event types, tags, tables and unique keys.
//!
//! A name is any UTF-8 text of 1 to [`MAX_NAME_BYTES`] bytes without control characters. Spaces, `/`, `:` and
//! accents occur in real logs and are allowed; a control character never is, so that a store may use one as a
//! separator.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::reserved::reserved_table_prefix;

/// The longest name, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 512;

/// A text that cannot be a name. Nothing was written; correct the text and try again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a {kind} must have 1 to {MAX_NAME_BYTES} bytes, found an empty text")]
    Empty {
        /// What the text was to name, for example `stream id`.
        kind: &'static str,
    },
    /// The text is longer than [`MAX_NAME_BYTES`].
    #[error("a {kind} must have 1 to {MAX_NAME_BYTES} bytes, found {found} bytes; shorten it or store a digest of it")]
    TooLong {
        /// What the text was to name.
        kind: &'static str,
        /// Its length in bytes.
        found: usize,
    },
    /// The text has a control character.
    #[error("a {kind} must not have control characters, found {found:?} at byte {at} of {text:?}; remove it")]
    Control {
        /// What the text was to name.
        kind: &'static str,
        /// The whole text.
        text: String,
        /// The character.
        found: char,
        /// Where it stands, in bytes from the start.
        at: usize,
    },
    /// The text begins with a prefix that belongs to the framework. Choose another name.
    #[error("names that begin with {prefix:?} belong to the framework, found {kind} {text:?}; choose another name")]
    Framework {
        /// What the text was to name.
        kind: &'static str,
        /// The whole text.
        text: String,
        /// The prefix.
        prefix: &'static str,
    },
    /// The text has a character that this kind of name must not have.
    #[error("a {kind} must not have {found:?}, found one at byte {at} of {text:?}")]
    Reserved {
        /// What the text was to name.
        kind: &'static str,
        /// The whole text.
        text: String,
        /// The character.
        found: char,
        /// Where it stands, in bytes from the start.
        at: usize,
    },
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
    match text.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, found)) => Err(NameError::Control { kind, text: text.to_owned(), found, at }),
        None => Ok(()),
    }
}

/// Defines a name type: a checked, cheaply cloned, ordered text.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            #[doc = concat!("Checks a text and makes it a ", $kind, ".")]
            ///
            /// # Errors
            /// [`NameError`] when the text breaks the rules of [the module](crate::model): correct the text.
            pub fn new(text: impl AsRef<str>) -> Result<Self, NameError> {
                let text = text.as_ref();
                $check($kind, text)?;
                Ok(Self(text.into()))
            }

            /// The text.
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
    /// Which stream: one entity's own ordered events, for example `order-10248`.
    ///
    /// What stands before the first `-` is the stream's [`Category`].
    StreamId, "stream id", check
}

name! {
    /// The kind of a stream: what stands before the first `-` of its name, for example `order` of `order-10248`.
    ///
    /// A stream without a `-` is its own category; a stream that begins with `-` has the empty category, the only
    /// name that may be empty. A category never has a `-` itself.
    Category, "category", check_category
}

name! {
    /// The wire name of an event type, for example `order-placed`. It is written into every record and never changes.
    EventType, "event type", check
}

name! {
    /// A label on an event by which it can be found, by convention `key:value`, for example `customer:VINET`.
    Tag, "tag", check
}

name! {
    /// Identifies a command to an aggregate, for example the id of a request. A command is executed at most once under one id.
    CommandId, "command id", check
}

name! {
    /// A side table of a store: rows that change together with events (snapshots, command results, checkpoints).
    ///
    /// Names that begin with `es.` or `node.` belong to the framework.
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
    /// The stream of one aggregate: `{category}-{id}`.
    ///
    /// # Errors
    /// [`NameError`] when the two together break the rules of a stream id.
    ///
    /// ```
    /// use es_core::StreamId;
    /// let stream = StreamId::of("order", 10248)?;
    /// assert_eq!(stream, "order-10248");
    /// # Ok::<(), es_core::model::NameError>(())
    /// ```
    pub fn of(category: &str, id: impl fmt::Display) -> Result<Self, NameError> {
        Self::new(format!("{category}-{id}"))
    }

    /// What stands before the first `-`; the whole name where there is none.
    #[must_use]
    pub fn category(&self) -> Category {
        Category(self.category_str().into())
    }

    /// [`category`](Self::category) as a text, without an allocation.
    #[must_use]
    pub fn category_str(&self) -> &str {
        self.0.split_once('-').map_or(&self.0, |(category, _)| category)
    }

    /// What stands after the first `-`; `None` where there is none.
    #[must_use]
    pub fn id_str(&self) -> Option<&str> {
        self.0.split_once('-').map(|(_, id)| id)
    }
}

impl Tag {
    /// The tag `{key}:{value}`.
    ///
    /// # Errors
    /// [`NameError`] when the two together break the rules of a tag.
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

impl EventType {
    pub(crate) fn well_known(text: &'static str) -> Self {
        debug_assert!(check("event type", text).is_ok());
        Self(text.into())
    }
}

impl Table {
    /// Returns a table with any name, also one that belongs to the framework.
    pub(crate) fn any(text: &str) -> Result<Self, NameError> {
        check("table", text)?;
        Ok(Self(text.into()))
    }

    /// A table whose name is made of parts that were checked.
    pub(crate) fn well_known(text: impl AsRef<str>) -> Self {
        debug_assert!(check("table", text.as_ref()).is_ok());
        Self(text.as_ref().into())
    }
}

/// A value that at most one stream may hold at a time within its scope, for example the e-mail address of a customer.
///
/// An event [claims](crate::NewEvent::claiming) and [releases](crate::NewEvent::releasing) it for its stream. A store keeps its text
/// only with these events, and beside them a keyed hash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct UniqueKey {
    scope: KeyPart,
    value: KeyPart,
}

name! {
    /// One half of a [`UniqueKey`].
    KeyPart, "part of a unique key", check
}

impl UniqueKey {
    /// The key `value` within `scope`, for example `("customer-email", "ada@example.org")`.
    ///
    /// Values are compared byte by byte: bring them to one form (case, accents) before.
    ///
    /// # Errors
    /// [`NameError`] when either part is not a name.
    pub fn new(scope: impl AsRef<str>, value: impl AsRef<str>) -> Result<Self, NameError> {
        Ok(Self { scope: KeyPart::new(scope)?, value: KeyPart::new(value)? })
    }

    /// Within which the value is unique.
    #[must_use]
    pub fn scope(&self) -> &str {
        self.scope.as_str()
    }

    /// The value that is unique within the scope.
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
    fn what_is_refused_names_the_place() {
        assert_eq!(Tag::new(""), Err(NameError::Empty { kind: "tag" }));
        let long = "é".repeat(MAX_NAME_BYTES / 2 + 1);
        assert_eq!(EventType::new(&long), Err(NameError::TooLong { kind: "event type", found: MAX_NAME_BYTES + 2 }));
        let error = StreamId::new("a\u{0}b").expect_err("a control character is refused");
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
    fn a_name_from_outside_is_checked() {
        assert!(serde_json::from_str::<StreamId>("\"a\\u0007\"").is_err());
        assert_eq!(serde_json::to_string(&StreamId::new("a b").expect("valid")).expect("serializes"), "\"a b\"");
    }
}
