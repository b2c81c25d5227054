//! [`Decision`]: what a handler answers to a command.

use crate::schema::Events;

/// What a command leads to, as its handler decided: none, one or several events, or "already so".
///
/// ```
/// use es_core::Decision;
/// let one: Decision<&str> = "approved".into();
/// let several: Decision<&str> = ["packed", "shipped"].into();
/// let maybe: Decision<&str> = Some("shipped").into();
/// let none = Decision::<&str>::none();
/// let nothing_to_do = Decision::<&str>::already_so();
/// # assert_eq!((one.events().len(), several.events().len(), maybe.events().len()), (1, 2, 1));
/// # assert!(nothing_to_do.is_already_so() && !none.is_already_so());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Decision<E> {
    events: Events<E>,
    already_so: bool,
}

impl<E> Decision<E> {
    /// No event: the command is accepted and changes nothing.
    pub const fn none() -> Self {
        Self { events: Events::none(), already_so: false }
    }

    /// No event, because what the command asks for is the case already. Not an error: the caller has what it wants.
    pub const fn already_so() -> Self {
        Self { events: Events::none(), already_so: true }
    }

    /// The events, in order.
    #[must_use]
    pub fn events(&self) -> &[E] {
        self.events.as_slice()
    }

    /// Whether the handler said "already so".
    #[must_use]
    pub const fn is_already_so(&self) -> bool {
        self.already_so
    }

    /// The events, in order.
    #[must_use]
    pub fn into_events(self) -> Vec<E> {
        self.events.into_vec()
    }
}

impl<E> From<E> for Decision<E> {
    fn from(event: E) -> Self {
        Self { events: event.into(), already_so: false }
    }
}

impl<E> From<Option<E>> for Decision<E> {
    fn from(event: Option<E>) -> Self {
        Self { events: event.into(), already_so: false }
    }
}

impl<E> From<Vec<E>> for Decision<E> {
    fn from(events: Vec<E>) -> Self {
        Self { events: events.into(), already_so: false }
    }
}

impl<E, const N: usize> From<[E; N]> for Decision<E> {
    fn from(events: [E; N]) -> Self {
        Self { events: events.into(), already_so: false }
    }
}

impl<E> FromIterator<E> for Decision<E> {
    fn from_iter<I: IntoIterator<Item = E>>(events: I) -> Self {
        Self { events: events.into_iter().collect(), already_so: false }
    }
}
