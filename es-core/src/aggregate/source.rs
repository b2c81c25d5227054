//! What a projection understands: the events of one type, or of several.

use std::collections::BTreeSet;

use crate::model::EventType;
use crate::schema::Events;
use crate::schema::{DecodeEventError, Event, RawEvent};

/// Events that can be read. Every [`Event`] is; [`OneOf`] joins two.
pub trait ProjectedEvent: Sized + Send + Sync + 'static {
    /// The wire names that it reads, former ones included.
    fn types() -> BTreeSet<EventType>;

    /// Decodes an event of any version.
    ///
    /// # Errors
    /// [`DecodeEventError`]; each variant says what to do.
    fn read(event: RawEvent<'_>) -> Result<Events<Self>, DecodeEventError>;
}

impl<E: Event> ProjectedEvent for E {
    fn types() -> BTreeSet<EventType> {
        let names = E::SCHEMA.iter().flat_map(|schema| std::iter::once(&schema.name).chain(schema.aliases));
        // NOTE: the derive lets no name through that is not one; one written by hand could only never match.
        names.filter_map(|name| EventType::new(name).ok()).collect()
    }

    fn read(event: RawEvent<'_>) -> Result<Events<Self>, DecodeEventError> {
        E::decode(event)
    }
}

/// An event of one of two types, for a projection of several aggregates. It nests: `OneOf<A, OneOf<B, C>>`.
///
/// Where both know a wire name, the first reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OneOf<A, B> {
    /// An event of the first type.
    First(A),
    /// An event of the second type.
    Second(B),
}

impl<A: ProjectedEvent, B: ProjectedEvent> ProjectedEvent for OneOf<A, B> {
    fn types() -> BTreeSet<EventType> {
        let mut types = A::types();
        types.extend(B::types());
        types
    }

    fn read(event: RawEvent<'_>) -> Result<Events<Self>, DecodeEventError> {
        match A::read(event) {
            Err(DecodeEventError::UnknownType { .. }) => Ok(B::read(event)?.into_iter().map(Self::Second).collect()),
            read => Ok(read?.into_iter().map(Self::First).collect()),
        }
    }
}
