//! UUID-based ids: [`EventId`], [`LogId`] and [`CorrelationId`].

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::{ContextV7, Timestamp, Uuid};

use crate::model::clock::since_1970;

/// Returns a new UUIDv7.
fn new_uuid() -> Uuid {
    // A context makes the ids of a thread ascend, also within a millisecond. One for all threads would be a lock.
    thread_local!(static CONTEXT: ContextV7 = const { ContextV7::new() });
    match since_1970() {
        Some(now) => {
            CONTEXT.with(|context| Uuid::new_v7(Timestamp::from_unix(context, now.as_secs(), now.subsec_nanos())))
        }
        // A store refuses to record events while the clock shows a time before 1970.
        None => {
            let mut random = [0; 10];
            random.copy_from_slice(&Uuid::new_v4().as_bytes()[..10]);
            uuid::Builder::from_unix_timestamp_millis(0, &random).into_uuid()
        }
    }
}

/// Defines an id type that wraps a UUID.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Returns a new unique id: a UUIDv7, which begins with the time in milliseconds. Do not order events by
            /// id: use [`Position`](crate::Position) or [`Revision`](crate::Revision).
            #[must_use]
            #[expect(clippy::new_without_default, reason = "each id is unique: there is no default")]
            pub fn new() -> Self {
                Self(new_uuid())
            }

            /// Returns the id with this UUID, which may have any version.
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
    /// Identifies an event. The writer chooses the id. A store contains each id at most once, so a repeated commit
    /// returns its first result.
    EventId
}

id! {
    /// Identifies a log, that is, one history of events. A backup has the log id of its store. A restored backup, and a
    /// repaired store that lost events, have a new one, because they continue with other events. The exception is a
    /// copy that no tool of the store made, such as a copied directory: it has the log id of its source.
    LogId
}

id! {
    /// Identifies a group of events, commands and effects with the same root cause.
    CorrelationId
}
