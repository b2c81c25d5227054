//! [`Events`]: a small list of events, as a handler or an upcaster returns it.

/// None, one or several events; no allocation for none and for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events<E>(List<E>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum List<E> {
    AtMostOne(Option<E>),
    Many(Vec<E>),
}

impl<E> Events<E> {
    /// No event.
    #[must_use]
    pub const fn none() -> Self {
        Self(List::AtMostOne(None))
    }

    /// One event.
    #[must_use]
    pub const fn one(event: E) -> Self {
        Self(List::AtMostOne(Some(event)))
    }

    /// The events in order.
    #[must_use]
    pub fn as_slice(&self) -> &[E] {
        match &self.0 {
            List::AtMostOne(event) => event.as_slice(),
            List::Many(events) => events,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// The events in order.
    #[must_use]
    pub fn into_vec(self) -> Vec<E> {
        match self.0 {
            List::AtMostOne(event) => event.into_iter().collect(),
            List::Many(events) => events,
        }
    }

    /// Replaces each event by what `f` makes of it, in order. Errors end it.
    pub(crate) fn flat_map<T>(self, f: impl Fn(E) -> Events<T>) -> Events<T> {
        match self.0 {
            List::AtMostOne(None) => Events::none(),
            List::AtMostOne(Some(event)) => f(event),
            List::Many(events) => events.into_iter().flat_map(|event| f(event).into_vec()).collect::<Vec<_>>().into(),
        }
    }
}

impl<E> IntoIterator for Events<E> {
    type Item = E;
    type IntoIter = std::iter::Chain<std::option::IntoIter<E>, std::vec::IntoIter<E>>;
    fn into_iter(self) -> Self::IntoIter {
        match self.0 {
            List::AtMostOne(event) => event.into_iter().chain(Vec::new()),
            List::Many(events) => None.into_iter().chain(events),
        }
    }
}

impl<E> From<E> for Events<E> {
    fn from(event: E) -> Self {
        Self::one(event)
    }
}

impl<E> From<Option<E>> for Events<E> {
    fn from(event: Option<E>) -> Self {
        Self(List::AtMostOne(event))
    }
}

impl<E> From<Vec<E>> for Events<E> {
    fn from(events: Vec<E>) -> Self {
        Self(List::Many(events))
    }
}

impl<E, const N: usize> From<[E; N]> for Events<E> {
    fn from(events: [E; N]) -> Self {
        Self(List::Many(events.into()))
    }
}

impl<E> FromIterator<E> for Events<E> {
    fn from_iter<I: IntoIterator<Item = E>>(events: I) -> Self {
        Self(List::Many(events.into_iter().collect()))
    }
}
