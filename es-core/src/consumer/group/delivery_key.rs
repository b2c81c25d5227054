use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::EventId;

/// The namespace of all delivery keys.
const NAMESPACE: Uuid = Uuid::from_u128(0x6a3f_2f0e_51c4_5d0a_9f5e_0c5b_7d1a_e201);

/// What a delivery is called, each time it is made: a UUIDv5 of who delivers, the event, and its place among the events
/// that its upcasters made of it.
///
/// Give it to the system outside as the key under which it recognizes a repeat. It depends on nothing that a restart, a
/// new version of the event, or another machine changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeliveryKey(Uuid);

impl DeliveryKey {
    /// The key under which the group or reactor `name` delivers an event; `index` counts, from 0, the events that its
    /// upcasters made of it.
    #[must_use]
    pub fn of(name: &str, event: EventId, index: u32) -> Self {
        let namespace = Uuid::new_v5(&NAMESPACE, name.as_bytes());
        let content = [event.as_uuid().as_bytes().as_slice(), &index.to_be_bytes()].concat();
        Self(Uuid::new_v5(&namespace, &content))
    }

    /// The UUID.
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
    fn a_key_never_changes_and_is_of_one_delivery_only() {
        let event = EventId::from_uuid(Uuid::from_u128(7));
        let key = DeliveryKey::of("mailer", event, 0);
        // NOTE: written down, because other systems hold keys of years ago.
        assert_eq!(key.to_string(), "83e51dcf-8afb-52e7-8fcd-4a24ff73f534");
        let others = [
            DeliveryKey::of("mailer", event, 1),
            DeliveryKey::of("printer", event, 0),
            DeliveryKey::of("mailer", EventId::from_uuid(Uuid::from_u128(8)), 0),
        ];
        assert!(!others.contains(&key));
    }
}
