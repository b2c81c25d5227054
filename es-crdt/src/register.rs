//! [`MvRegister`] and [`LwwRegister`].

use es_core::model::{Dot, HybridTime};
use es_core::{Crdt, EventContext};
use serde::{Deserialize, Serialize};

use crate::map::ObservedReset;

/// A value with its write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Written<T> {
    dot: Dot,
    time: HybridTime,
    value: T,
}

impl<T> Written<T> {
    /// Returns the place in canonical order.
    const fn place(&self) -> (HybridTime, Dot) {
        (self.time, self.dot)
    }
}

/// A register that keeps the values of concurrent writes (multi-value register), until a write that has seen them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MvRegister<T> {
    /// In canonical order.
    writes: Vec<Written<T>>,
}

impl<T> Default for MvRegister<T> {
    fn default() -> Self {
        Self { writes: Vec::new() }
    }
}

impl<T> Crdt for MvRegister<T> {}

impl<T> MvRegister<T> {
    /// Returns a register without a value.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a value, which replaces those that the node of the event had seen.
    pub fn set(&mut self, value: T, at: &EventContext<'_>) {
        self.clear(at);
        let written = Written { dot: at.dot(), time: at.canonical_key().time, value };
        let index = self.writes.partition_point(|other| other.place() <= written.place());
        self.writes.insert(index, written);
    }

    /// Removes the values that the node of the event had seen.
    pub fn clear(&mut self, at: &EventContext<'_>) {
        self.writes.retain(|write| !at.follows(write.dot));
    }

    /// Returns the values in canonical order: none if nothing was written, several if nodes wrote concurrently.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &T> + DoubleEndedIterator {
        self.writes.iter().map(|write| &write.value)
    }
}

impl<T> ObservedReset for MvRegister<T> {
    fn reset(&mut self, at: &EventContext<'_>) {
        self.clear(at);
    }
}

/// A register whose value is the last of concurrent writes in canonical order (last-writer-wins).
///
/// The other value is lost without notice. [`MvRegister`] keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LwwRegister<T>(MvRegister<T>);

impl<T> Default for LwwRegister<T> {
    fn default() -> Self {
        Self(MvRegister::default())
    }
}

impl<T> Crdt for LwwRegister<T> {}

impl<T> LwwRegister<T> {
    /// Returns a register without a value.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a value.
    pub fn set(&mut self, value: T, at: &EventContext<'_>) {
        // The concurrent writes are kept: if the last one is removed by an event that has not seen the others, the last
        // of these remains, in whatever order the events arrive.
        self.0.set(value, at);
    }

    /// Removes the value, as far as the node of the event had seen it.
    pub fn clear(&mut self, at: &EventContext<'_>) {
        self.0.clear(at);
    }

    /// Returns the value, or `None` if nothing was written.
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.0.values().next_back()
    }
}

impl<T> ObservedReset for LwwRegister<T> {
    fn reset(&mut self, at: &EventContext<'_>) {
        self.clear(at);
    }
}
