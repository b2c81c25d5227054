//! [`OrMap`].

use std::borrow::Borrow;
use std::collections::BTreeMap;

use es_core::{Crdt, EventContext};
use serde::{Deserialize, Serialize};

use crate::dots::Dots;

/// A state of which an event can remove the changes that its node had seen. The values of an [`OrMap`] are such states.
pub trait ObservedReset: Default {
    /// Removes the changes that the node of the event had seen.
    fn reset(&mut self, at: &EventContext<'_>);
}

/// A map of states in which an entry remains if one node updates it while another one removes it (observed-remove map).
/// The value then has the updates that the removal had not seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(
    serialize = "K: Serialize, V: Serialize",
    deserialize = "K: Deserialize<'de> + Ord, V: Deserialize<'de>"
))]
pub struct OrMap<K, V> {
    #[serde(with = "crate::pairs")]
    entries: BTreeMap<K, Entry<V>>,
}

/// A value with its updates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Entry<V> {
    updates: Dots,
    value: V,
}

impl<K, V> Default for OrMap<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new() }
    }
}

impl<K, V: Crdt> Crdt for OrMap<K, V> {}

impl<K: Ord, V: ObservedReset> OrMap<K, V> {
    /// Returns an empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the value of a key, which is created if it is missing.
    pub fn update(&mut self, key: K, at: &EventContext<'_>, change: impl FnOnce(&mut V)) {
        let entry = self.entries.entry(key).or_default();
        entry.updates.replace(at);
        change(&mut entry.value);
    }

    /// Removes a key, as far as the node of the event had seen its updates.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q, at: &EventContext<'_>)
    where
        K: Borrow<Q>,
    {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.remove_seen(at);
        if entry.updates.is_empty() {
            self.entries.remove(key);
        }
    }

    /// Removes all keys, as far as the node of the event had seen their updates.
    pub fn clear(&mut self, at: &EventContext<'_>) {
        self.entries.retain(|_, entry| {
            entry.remove_seen(at);
            !entry.updates.is_empty()
        });
    }

    /// Returns the value of a key.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// Returns the keys and values in the order of the keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.value))
    }

    /// Returns the number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns `true` if the map has no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<V: ObservedReset> Entry<V> {
    fn remove_seen(&mut self, at: &EventContext<'_>) {
        self.updates.remove_seen(at);
        self.value.reset(at);
    }
}

impl<K: Ord, V: ObservedReset> ObservedReset for OrMap<K, V> {
    fn reset(&mut self, at: &EventContext<'_>) {
        self.clear(at);
    }
}
