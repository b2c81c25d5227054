//! [`Keys`]: the unique keys that an event claims and releases.

use serde::{Deserialize, Serialize};

use crate::model::UniqueKey;

/// A change that an event makes to a unique key, on behalf of its stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum KeyChange {
    /// The stream claims the key. Rejected if another stream holds it; has no effect if the stream already holds it.
    Claim(UniqueKey),
    /// The stream releases the key. Rejected if another stream holds it; has no effect if no stream holds it.
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
/// Keys are part of the event: a store keeps them with it, and a [scavenge](crate::retention) removes them with it. An
/// event without keys allocates no memory for them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Keys(Vec<KeyChange>);

impl Keys {
    /// Returns an empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Appends a change.
    pub fn push(&mut self, change: KeyChange) {
        self.0.push(change);
    }

    /// Returns the number of changes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if no key is claimed or released.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the changes in order.
    pub fn iter(&self) -> std::slice::Iter<'_, KeyChange> {
        self.0.iter()
    }

    /// Returns the total length of the scopes and values, in bytes.
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
