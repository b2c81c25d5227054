//! [`KeyValueEntry`]: the aggregate of one key.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use es_core::model::NameError;
use es_core::{Aggregate, CommandContext, Decide, Decision, Event, EventContext, Evolve};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::register::MvRegister;

/// The values of one key of a [`KeyValueMap`](crate::KeyValueMap). Every node declares this aggregate, once for all
/// maps: `ReplicaOptions::aggregate::<KeyValueEntry>()` of es-replication, or `NodeBuilder::aggregate` of es-node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Aggregate)]
#[aggregate(
    category = "key_value", id = EntryId, event = EntryEvent,
    consistency = "eventual", conflict = "crdt", snapshot(every = 100)
)]
pub struct KeyValueEntry {
    values: MvRegister<Value>,
}

/// The id of an entry. Its text is `{map}:{key}`. In both parts, `%` and control characters are percent-encoded, as is
/// `:` in the first one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntryId {
    pub(super) map: Arc<str>,
    pub(super) key: String,
}

/// What happened to a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
pub enum EntryEvent {
    /// A value was put. It replaces the values that its node had.
    #[event(name = "value-put")]
    Put(Value),
    /// The values that its node had were removed.
    #[event(name = "value-removed")]
    Removed,
}

/// Puts a value.
#[derive(Debug, Clone)]
pub(super) struct Put {
    pub(super) value: Value,
    /// Whether the key must never have had a value.
    pub(super) must_be_new: bool,
}

/// Removes the values.
#[derive(Debug, Clone)]
pub(super) struct Remove;

/// The key has had a value.
#[derive(Debug)]
pub(super) struct NotNew;

impl KeyValueEntry {
    /// Returns the values in canonical order.
    pub(super) fn values(&self) -> impl Iterator<Item = &Value> {
        self.values.values()
    }
}

impl Evolve for KeyValueEntry {
    fn initial(_: &EntryId) -> Self {
        Self { values: MvRegister::new() }
    }

    fn evolve(&mut self, event: &EntryEvent, at: &EventContext<'_>) {
        match event {
            EntryEvent::Put(value) => self.values.set(value.clone(), at),
            EntryEvent::Removed => self.values.clear(at),
        }
    }
}

impl Decide<Put> for KeyValueEntry {
    type Rejection = NotNew;

    fn decide(&self, put: Put, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, NotNew> {
        if put.must_be_new && at.revision().is_some() { Err(NotNew) } else { Ok(EntryEvent::Put(put.value).into()) }
    }
}

impl Decide<Remove> for KeyValueEntry {
    type Rejection = NotNew;

    fn decide(&self, _: Remove, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, NotNew> {
        let has_value = self.values().next().is_some();
        Ok(if has_value { EntryEvent::Removed.into() } else { Decision::unchanged() })
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_escaped(f, &self.map, |c| c == ':')?;
        f.write_str(":")?;
        write_escaped(f, &self.key, |_| false)
    }
}

impl FromStr for EntryId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parse = || {
            let (map, key) = text.split_once(':')?;
            Some(Self { map: unescaped(map)?.into(), key: unescaped(key)? })
        };
        parse().ok_or_else(|| NameError::Id { category: KeyValueEntry::CATEGORY, text: text.to_owned(), found: None })
    }
}

/// Writes a text with `%`, control characters and `is_escaped` ones percent-encoded. The encoding of a prefix is the
/// prefix of the encoding.
fn write_escaped(f: &mut fmt::Formatter<'_>, text: &str, is_escaped: impl Fn(char) -> bool) -> fmt::Result {
    for c in text.chars() {
        if c == '%' || c.is_control() || is_escaped(c) {
            c.encode_utf8(&mut [0; 4]).bytes().try_for_each(|byte| write!(f, "%{byte:02X}"))?;
        } else {
            fmt::Write::write_char(f, c)?;
        }
    }
    Ok(())
}

/// Returns the text that [`write_escaped`] writes like this.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let (digits, after) = rest.split_first_chunk::<2>()?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(map: &str, key: &str) -> EntryId {
        EntryId { map: map.into(), key: key.to_owned() }
    }

    #[test]
    fn the_name_of_a_stream_is_readable_and_has_one_spelling() {
        let text = |map, key| KeyValueEntry::stream(&id(map, key)).map(String::from);
        assert_eq!(text("settings", "color").as_deref(), Ok("key_value-settings:color"));
        assert_eq!(text("a:b", "c:d/é -").as_deref(), Ok("key_value-a%3Ab:c:d/é -"));
        assert_eq!(text("", "").as_deref(), Ok("key_value-:"));
        assert_eq!(text("a", "%\n\u{85}").as_deref(), Ok("key_value-a:%25%0A%C2%85"));
        for other in ["a", "a:%", "a:%4", "a:%41", "a:%0a", "a:%+1", "a:%FF", "a:%3A"] {
            assert!(KeyValueEntry::parse_id(other).is_err(), "{other}");
        }
    }

    proptest! {
        #[test]
        fn every_key_comes_back_from_its_stream(map: String, key: String, other: String) {
            let stream = KeyValueEntry::stream(&id(&map, &key)).expect("short enough");
            prop_assert_eq!(KeyValueEntry::id_of(&stream), Some(id(&map, &key)));
            let has_prefix = |text: &str| id(&map, text).to_string().starts_with(&id(&map, &key).to_string());
            prop_assert!(has_prefix(&[key.as_str(), &other].concat()));
            prop_assert_eq!(has_prefix(&other), other.starts_with(&key));
        }
    }
}
