//! [`Keys`]: the unique keys that an event claims and releases.

use serde::{Deserialize, Serialize};

use crate::model::UniqueKey;

/// The change of a unique key by an event, on behalf of the stream of the event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum KeyChange {
    /// The stream holds the key from now on. Refused when another stream holds it; has no effect when the stream holds it already.
    Claim(UniqueKey),
    /// The stream holds the key no longer. Refused when another stream holds it; has no effect when no stream holds it.
    Release(UniqueKey),
}

impl KeyChange {
    /// Returns the key.
    #[must_use]
    pub const fn key(&self) -> &UniqueKey {
        match self {
            Self::Claim(key) | Self::Release(key) => key,
        }
    }
}

/// The unique keys that an event claims and releases, in order.
///
/// They are part of the event: a store keeps them with it, and a [scavenge](crate::retention) removes them with it. An event
/// without keys holds no memory for them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Keys(Vec<KeyChange>);

impl Keys {
    /// Returns no keys.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a change after the others.
    pub fn push(&mut self, change: KeyChange) {
        self.0.push(change);
    }

    /// Returns the number of changes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether no key is claimed or released.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the changes in order.
    pub fn iter(&self) -> std::slice::Iter<'_, KeyChange> {
        self.0.iter()
    }

    /// Returns the number of bytes in the scopes and values of all keys.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.iter().map(|change| change.key().scope().len() + change.key().value().len()).sum()
    }
}

impl<'a> IntoIterator for &'a Keys {
    type Item = &'a KeyChange;
    type IntoIter = std::slice::Iter<'a, KeyChange>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<KeyChange> for Keys {
    fn from_iter<I: IntoIterator<Item = KeyChange>>(changes: I) -> Self {
        Self(changes.into_iter().collect())
    }
}
