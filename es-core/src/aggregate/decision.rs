//! [`Decision`]: the result of [`Decide::decide`](crate::Decide::decide) for an accepted command.

use std::fmt;

use crate::aggregate::Aggregate;
use crate::model::{KeyChange, Keys, OneOrder, UniqueKey};
use crate::schema::{Event, Events};

/// The result of an accepted command: any number of events, or "unchanged", and the unique keys that are claimed and
/// released with the events.
///
/// One event, an `Option`, a `Vec`, an array and an iterator of events convert into a decision.
///
/// ```
/// # use es_core::schema::{EncodeEventError, EncodedEvent, EventSchema, RawEvent, DecodeEventError};
/// # use es_core::{Aggregate, Event, Events};
/// # #[derive(Clone, Debug, PartialEq)] enum OrderEvent { Packed, Shipped }
/// # impl Event for OrderEvent {
/// #     const SCHEMA: &'static [EventSchema] = &[];
/// #     fn encode(&self) -> Result<EncodedEvent, EncodeEventError> { unreachable!() }
/// #     fn decode(_: RawEvent<'_>) -> Result<Events<Self>, DecodeEventError> { unreachable!() }
/// # }
/// # #[derive(Clone, Aggregate)] #[aggregate(category = "order", id = u64, event = OrderEvent)] struct Order;
/// use es_core::model::UniqueKey;
/// use es_core::Decision;
///
/// let one: Decision<Order> = OrderEvent::Packed.into();
/// let several: Decision<Order> = [OrderEvent::Packed, OrderEvent::Shipped].into();
/// let maybe: Decision<Order> = Some(OrderEvent::Shipped).into();
/// let none = Decision::<Order>::none();
/// let unchanged = Decision::<Order>::unchanged();
/// let with_key = Decision::<Order>::from(OrderEvent::Shipped).claiming(UniqueKey::new("parcel", "4711")?);
/// # assert_eq!((one.events().len(), several.events().len(), maybe.events().len()), (1, 2, 1));
/// # assert!(unchanged.is_unchanged() && !none.is_unchanged() && none.events().is_empty());
/// # assert_eq!(with_key.keys().len(), 1);
/// # Ok::<(), es_core::model::NameError>(())
/// ```
#[must_use]
pub struct Decision<A: Aggregate> {
    events: Events<A::Event>,
    is_unchanged: bool,
    keys: Keys,
}

impl<A: Aggregate> Decision<A> {
    /// Returns a decision without events.
    pub fn none() -> Self {
        Self { events: Events::none(), is_unchanged: false, keys: Keys::new() }
    }

    /// Returns a decision without events, because the state already is as the command requests. This is not an error:
    /// the caller gets [`Outcome::Unchanged`](crate::Outcome::Unchanged).
    pub fn unchanged() -> Self {
        Self { events: Events::none(), is_unchanged: true, keys: Keys::new() }
    }

    /// Claims a unique key for the aggregate. The claim is stored with the first event of the decision. A decision that
    /// claims or releases a key must have at least one event; otherwise the command fails with
    /// [`KeysWithoutEvent`](crate::aggregate::InfrastructureError::KeysWithoutEvent).
    ///
    /// The command fails with a conflict if another aggregate holds the key. The aggregate's consistency level must
    /// have [one order](OneOrder) of events; otherwise two nodes could claim the same key.
    pub fn claiming(mut self, key: UniqueKey) -> Self
    where
        A: Aggregate<Level: OneOrder>,
    {
        self.keys.push(KeyChange::Claim(key));
        self
    }

    /// Releases a unique key of the aggregate. The release is stored with the first event of the decision, as a
    /// [claim](Self::claiming) is.
    pub fn releasing(mut self, key: UniqueKey) -> Self
    where
        A: Aggregate<Level: OneOrder>,
    {
        self.keys.push(KeyChange::Release(key));
        self
    }

    /// Returns the events in order.
    #[must_use]
    pub fn events(&self) -> &[A::Event] {
        self.events.as_slice()
    }

    /// Returns the claims and releases of unique keys in the order in which they were added.
    #[must_use]
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Returns `true` if the decision is [`unchanged`](Self::unchanged).
    #[must_use]
    pub const fn is_unchanged(&self) -> bool {
        self.is_unchanged
    }

    /// Returns the events in order.
    #[must_use]
    pub fn into_events(self) -> Vec<A::Event> {
        self.events.into_vec()
    }

    fn of(events: Events<A::Event>) -> Self {
        Self { events, ..Self::none() }
    }
}

// Implemented by hand, because a derive would require `Debug`, `Clone` and `PartialEq` of the state `A`.

impl<A: Aggregate<Event: fmt::Debug>> fmt::Debug for Decision<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decision")
            .field("events", &self.events())
            .field("is_unchanged", &self.is_unchanged)
            .field("keys", &self.keys)
            .finish()
    }
}

impl<A: Aggregate<Event: Clone>> Clone for Decision<A> {
    fn clone(&self) -> Self {
        Self { events: self.events.clone(), is_unchanged: self.is_unchanged, keys: self.keys.clone() }
    }
}

impl<A: Aggregate<Event: PartialEq>> PartialEq for Decision<A> {
    fn eq(&self, other: &Self) -> bool {
        self.events == other.events && self.is_unchanged == other.is_unchanged && self.keys == other.keys
    }
}

impl<A: Aggregate<Event: Eq>> Eq for Decision<A> {}

// `E: Event` excludes `Option`, `Vec`, arrays and `Decision` itself, which have their own conversions.
impl<A: Aggregate<Event = E>, E: Event> From<E> for Decision<A> {
    fn from(event: E) -> Self {
        Self::of(event.into())
    }
}

impl<A: Aggregate<Event = E>, E> From<Option<E>> for Decision<A> {
    fn from(event: Option<E>) -> Self {
        Self::of(event.into())
    }
}

impl<A: Aggregate<Event = E>, E> From<Vec<E>> for Decision<A> {
    fn from(events: Vec<E>) -> Self {
        Self::of(events.into())
    }
}

impl<A: Aggregate<Event = E>, E, const N: usize> From<[E; N]> for Decision<A> {
    fn from(events: [E; N]) -> Self {
        Self::of(events.into())
    }
}

impl<A: Aggregate<Event = E>, E> FromIterator<E> for Decision<A> {
    fn from_iter<I: IntoIterator<Item = E>>(events: I) -> Self {
        Self::of(events.into_iter().collect())
    }
}
