//! [`Resolution`]: what a reader gets from concurrent values.

/// Chooses what a reader gets from the values that nodes put without knowing of each other.
///
/// It must depend on its arguments only, so that nodes with equal events return equal values.
pub trait Resolution<V>: Send + Sync {
    /// What the reader gets.
    type Output;

    /// Returns what a reader gets for a key. The values are in canonical order, which is the same on every node:
    /// `first`, then `later`, which is empty unless there are siblings. The last one is that of the last writer.
    fn resolve(&self, key: &str, first: V, later: Vec<V>) -> Self::Output;
}

/// Returns the value that is last in canonical order. The other ones are lost with the next put, without notice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LastWriterWins;

/// Returns all values, in canonical order. The application decides, and puts the result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeepSiblings;

/// Merges the values by a function.
///
/// Every put that has seen siblings may have their merge as its value, and may be concurrent with another such put. The
/// function should therefore be commutative, associative and idempotent (the join of a semilattice, a state-based
/// CRDT), such as a union or a maximum.
///
/// ```
/// use std::collections::BTreeSet;
///
/// use es_crdt::{Merge, Resolution};
///
/// let union = Merge(|one: BTreeSet<u8>, other: BTreeSet<u8>| &one | &other);
/// assert_eq!(union.resolve("key", [1, 2].into(), vec![[2, 3].into()]), [1, 2, 3].into());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Merge<F>(pub F);

impl<V> Resolution<V> for LastWriterWins {
    type Output = V;

    fn resolve(&self, _: &str, first: V, mut later: Vec<V>) -> V {
        later.pop().unwrap_or(first)
    }
}

impl<V> Resolution<V> for KeepSiblings {
    type Output = Vec<V>;

    fn resolve(&self, _: &str, first: V, later: Vec<V>) -> Vec<V> {
        std::iter::once(first).chain(later).collect()
    }
}

impl<V, F: Fn(V, V) -> V + Send + Sync> Resolution<V> for Merge<F> {
    type Output = V;

    fn resolve(&self, _: &str, first: V, later: Vec<V>) -> V {
        later.into_iter().fold(first, &self.0)
    }
}
