//! [`Change`]: an event of the membership.

use std::collections::BTreeSet;

use bytes::Bytes;
use es_core::model::{Dot, EventType, OriginId, VectorClock};
use es_core::{NewEvent, StoreError};
use serde::{Deserialize, Serialize};

/// The maximum length of the name of a member, in bytes. A DNS name has at most 253.
pub(crate) const MAX_MEMBER_BYTES: usize = 255;
/// The maximum number of members or origins that one event names.
const MAX_NAMED: usize = 4_096;

/// An event of the membership. Its name is the type of the event, and its fields are the content, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Change {
    /// The members before the first change: those that the node of the event had declared.
    GroupFounded { members: BTreeSet<String> },
    /// A node becomes a member, or a departure is cancelled.
    MemberJoined { member: String },
    /// A member leaves that is up.
    MemberLeaving { member: String },
    /// A member leaves that is down.
    MemberRetiring { member: String },
    /// Every remaining member has acknowledged a departure. `origins` have no further event.
    DepartureCompleted { member: String, departure: Dot, origins: BTreeSet<OriginId> },
    /// Every member has all events of these origins, which have no further one.
    OriginsRetired { origins: VectorClock },
}

impl Change {
    /// Decodes an event.
    ///
    /// # Errors
    /// A description of the invalid event.
    pub(crate) fn decode(event_type: &EventType, payload: &[u8]) -> Result<Self, String> {
        let content: serde_json::Value = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
        let tagged = serde_json::Value::Object([(event_type.to_string(), content)].into_iter().collect());
        let change: Self = serde_json::from_value(tagged).map_err(|error| error.to_string())?;
        change.check().map(|()| change)
    }

    /// Returns the event.
    pub(crate) fn encode(&self) -> Result<NewEvent, StoreError> {
        let failed = |error| StoreError::io("encode an event of the membership", error);
        let Ok(serde_json::Value::Object(tagged)) = serde_json::to_value(self) else {
            return Err(failed(std::io::Error::other("the content is not JSON")));
        };
        let Some((name, content)) = tagged.into_iter().next() else {
            return Err(failed(std::io::Error::other("the event has no content")));
        };
        let event_type = EventType::new(name).map_err(|error| failed(std::io::Error::other(error)))?;
        Ok(NewEvent::json(event_type, Bytes::from(content.to_string())))
    }

    fn check(&self) -> Result<(), String> {
        let names = match self {
            Self::GroupFounded { members } => members.iter().collect(),
            Self::MemberJoined { member }
            | Self::MemberLeaving { member }
            | Self::MemberRetiring { member }
            | Self::DepartureCompleted { member, .. } => vec![member],
            Self::OriginsRetired { .. } => Vec::new(),
        };
        let count = match self {
            Self::DepartureCompleted { origins, .. } => origins.len(),
            Self::OriginsRetired { origins } => origins.iter().len(),
            _ => names.len(),
        };
        if count > MAX_NAMED {
            return Err(format!("expected at most {MAX_NAMED} members or origins, found {count}"));
        }
        match names.into_iter().find(|name| !is_valid_name(name)) {
            Some(name) => Err(format!("invalid name of a member {name:?}")),
            None => Ok(()),
        }
    }
}

/// Returns `true` if a member can have this name.
pub(crate) fn is_valid_name(name: &str) -> bool {
    (1..=MAX_MEMBER_BYTES).contains(&name.len()) && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes() -> Vec<Change> {
        let dot = Dot { origin: OriginId::new(0xa1), sequence: 7.try_into().expect("from 1") };
        let member = || "n3".to_owned();
        vec![
            Change::GroupFounded { members: ["n1".to_owned(), member()].into() },
            Change::MemberJoined { member: member() },
            Change::MemberLeaving { member: member() },
            Change::MemberRetiring { member: member() },
            Change::DepartureCompleted { member: member(), departure: dot, origins: [dot.origin].into() },
            Change::OriginsRetired { origins: [dot].into_iter().collect() },
        ]
    }

    /// The events are stored, so their names and contents must not change.
    #[test]
    fn a_change_is_an_event_with_a_name_and_json() {
        let changes = changes();
        let encoded = changes.iter().map(|change| {
            let event = change.encode().expect("encoded");
            assert_eq!(Change::decode(&event.data.event_type, &event.data.payload), Ok(change.clone()));
            format!("{} {}", event.data.event_type, String::from_utf8_lossy(&event.data.payload))
        });
        let expected = [
            r#"group-founded {"members":["n1","n3"]}"#,
            r#"member-joined {"member":"n3"}"#,
            r#"member-leaving {"member":"n3"}"#,
            r#"member-retiring {"member":"n3"}"#,
            r#"departure-completed {"departure":"00000000000000a1.7","member":"n3","origins":["00000000000000a1"]}"#,
            r#"origins-retired {"origins":{"00000000000000a1":7}}"#,
        ];
        assert!(encoded.eq(expected));
    }

    #[test]
    fn an_invalid_change_is_refused() {
        let decode = |name: &str, payload: &str| {
            Change::decode(&EventType::new(name).expect("a name"), payload.as_bytes()).is_err()
        };
        assert!(decode("member-joined", "{}") && decode("member-joined", "x") && decode("other", r#"{"member":"n3"}"#));
        assert!(decode("member-joined", r#"{"member":""}"#) && decode("member-joined", r#"{"member":"a\nb"}"#));
        assert!(decode("origins-retired", r#"{"origins":{"00000000000000a1":0}}"#));
        let long = format!(r#"{{"member":"{}"}}"#, "x".repeat(MAX_MEMBER_BYTES + 1));
        assert!(decode("member-retiring", &long));
    }
}
