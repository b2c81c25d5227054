//! [`Events`]: a short list of events, returned by decisions and upcasters.

use smallvec::SmallVec;

/// A list of events. Does not allocate for zero or one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events<E>(SmallVec<[E; 1]>);

impl<E> Events<E> {
    /// Returns an empty list.
    #[must_use]
    pub fn none() -> Self {
        Self(SmallVec::new())
    }

    /// Returns a list of one event.
    #[must_use]
    pub fn one(event: E) -> Self {
        Self(SmallVec::from_buf([event]))
    }

    /// Returns the events in order.
    #[must_use]
    pub fn as_slice(&self) -> &[E] {
        &self.0
    }

    /// Returns the number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if the list is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the events in order.
    #[must_use]
    pub fn into_vec(self) -> Vec<E> {
        self.0.into_vec()
    }

    /// Replaces each event with the events that `f` returns for it, in order.
    pub(crate) fn flat_map<T>(self, f: impl Fn(E) -> Events<T>) -> Events<T> {
        self.into_iter().flat_map(f).collect()
    }
}

impl<E> IntoIterator for Events<E> {
    type Item = E;
    type IntoIter = smallvec::IntoIter<[E; 1]>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<E> From<E> for Events<E> {
    fn from(event: E) -> Self {
        Self::one(event)
    }
}

impl<E> From<Option<E>> for Events<E> {
    fn from(event: Option<E>) -> Self {
        event.into_iter().collect()
    }
}

impl<E> From<Vec<E>> for Events<E> {
    fn from(events: Vec<E>) -> Self {
        Self(events.into())
    }
}

impl<E, const N: usize> From<[E; N]> for Events<E> {
    fn from(events: [E; N]) -> Self {
        events.into_iter().collect()
    }
}

impl<E> FromIterator<E> for Events<E> {
    fn from_iter<I: IntoIterator<Item = E>>(events: I) -> Self {
        Self(events.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_is_stored_without_an_allocation() {
        let lists: [Events<u64>; 4] = [7.into(), Some(7).into(), [7].into(), std::iter::once(7).collect()];
        for events in lists {
            assert!(!events.0.spilled(), "{events:?}");
            assert!(!events.flat_map(|event| Events::one(event + 1)).0.spilled());
        }
    }

    #[test]
    fn flat_map_replaces_each_event_in_order() {
        let doubled: Events<u8> = Events::<u8>::from([1, 2, 3]).flat_map(|event| match event {
            2 => Events::none(),
            _ => [event, event * 10].into(),
        });
        assert_eq!(doubled.as_slice(), [1, 10, 3, 30]);
        assert_eq!(doubled.len(), 4);
        assert_eq!(doubled.into_iter().rev().collect::<Vec<_>>(), [30, 3, 10, 1]);
        assert_eq!(Events::<u8>::from(vec![1, 2]).into_vec(), [1, 2]);
        assert!(Events::<u8>::from(None).is_empty());
    }
}
