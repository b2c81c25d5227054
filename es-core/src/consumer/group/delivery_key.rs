use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::EventId;

/// The namespace of all delivery keys.
const NAMESPACE: Uuid = Uuid::from_u128(0x6a3f_2f0e_51c4_5d0a_9f5e_0c5b_7d1a_e201);

/// The idempotency key of a delivery: a UUIDv5 of the group or reactor, the event, and the index of the decoded event.
///
/// Pass it to the external system, which recognizes a repeated delivery by it. It stays the same across restarts, new
/// versions of the event, and machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeliveryKey(Uuid);

impl DeliveryKey {
    /// Returns the key with which the group or reactor `name` delivers an event. `index` is the index, from 0, among
    /// the events into which the upcasters split it.
    #[must_use]
    pub fn of(name: &str, event: EventId, index: u32) -> Self {
        let namespace = Uuid::new_v5(&NAMESPACE, name.as_bytes());
        let content = [event.as_uuid().as_bytes().as_slice(), &index.to_be_bytes()].concat();
        Self(Uuid::new_v5(&namespace, &content))
    }

    /// Returns the UUID.
    #[must_use]
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl fmt::Display for DeliveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_changes_and_differs_from_that_of_every_other_delivery() {
        let event = EventId::from_uuid(Uuid::from_u128(7));
        let key = DeliveryKey::of("mailer", event, 0);
        // A constant, because external systems store keys for years.
        assert_eq!(key.to_string(), "83e51dcf-8afb-52e7-8fcd-4a24ff73f534");
        let others = [
            DeliveryKey::of("mailer", event, 1),
            DeliveryKey::of("printer", event, 0),
            DeliveryKey::of("mailer", EventId::from_uuid(Uuid::from_u128(8)), 0),
        ];
        assert!(!others.contains(&key));
    }
}
