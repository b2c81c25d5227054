//! [`OrSet`].

use std::borrow::Borrow;
use std::collections::BTreeMap;

use es_core::{Crdt, EventContext};
use serde::{Deserialize, Serialize};

use crate::dots::Dots;
use crate::map::ObservedReset;

/// A set in which an item remains if one node adds it while another one removes it (observed-remove set, add-wins).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(serialize = "T: Serialize", deserialize = "T: Deserialize<'de> + Ord"))]
pub struct OrSet<T> {
    #[serde(with = "crate::pairs")]
    items: BTreeMap<T, Dots>,
}

impl<T> Default for OrSet<T> {
    fn default() -> Self {
        Self { items: BTreeMap::new() }
    }
}

impl<T> Crdt for OrSet<T> {}

impl<T: Ord> OrSet<T> {
    /// Returns an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an item.
    pub fn insert(&mut self, item: T, at: &EventContext<'_>) {
        self.items.entry(item).or_default().replace(at);
    }

    /// Removes an item, as far as the node of the event had seen that it was added.
    pub fn remove<Q: Ord + ?Sized>(&mut self, item: &Q, at: &EventContext<'_>)
    where
        T: Borrow<Q>,
    {
        let Some(dots) = self.items.get_mut(item) else { return };
        dots.remove_seen(at);
        if dots.is_empty() {
            self.items.remove(item);
        }
    }

    /// Removes all items that the node of the event had seen.
    pub fn clear(&mut self, at: &EventContext<'_>) {
        self.items.retain(|_, dots| {
            dots.remove_seen(at);
            !dots.is_empty()
        });
    }

    /// Returns `true` if the set has an item.
    #[must_use]
    pub fn contains<Q: Ord + ?Sized>(&self, item: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.items.contains_key(item)
    }

    /// Returns the items in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &T> {
        self.items.keys()
    }

    /// Returns the number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns `true` if the set has no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl<T: Ord> ObservedReset for OrSet<T> {
    fn reset(&mut self, at: &EventContext<'_>) {
        self.clear(at);
    }
}
