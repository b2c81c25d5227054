//! Ids over UUIDs: [`EventId`], [`LogId`] and [`CorrelationId`].

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Defines a type of id over a UUID.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Returns a new unique id: a UUIDv7, which begins with the time in milliseconds. Ids do not order events;
            /// [`Position`](crate::Position) and [`Revision`](crate::Revision) do.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "each id is unique: there is no default")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// Returns the id with this UUID, of any version.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Returns the UUID.
            #[must_use]
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }
    };
}

id! {
    /// Identifies an event. The writer chooses it. A store keeps each id at most once: a commit that is written again
    /// returns its first result.
    EventId
}

id! {
    /// Identifies a log. A copy of a store has the id of its source.
    LogId
}

id! {
    /// Identifies the events, commands and effects of one first cause.
    CorrelationId
}
