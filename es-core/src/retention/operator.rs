//! The events of the reserved retention streams, and their encoding.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Revision;
use crate::model::reserved::{
    ERASURES_STREAM as ERASURES, MEMBERSHIP_STREAM, RETENTION_CATEGORY as CATEGORY, STREAM_DELETED, SUBJECT_ERASED,
};
use crate::model::{Category, EventType, StreamId, SubjectId};
use crate::model::{NewEvent, Timestamp};

const RULES: &str = "es.retention-rules";
const DELETIONS: &str = "es.retention-deletions";
const SCAVENGES: &str = "es.retention-scavenges";

/// Returns the stream of the deletions of streams.
pub(crate) fn deletions_stream() -> StreamId {
    StreamId::well_known(DELETIONS)
}

/// Who performed an operator action, and why, as free text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Who performed the action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The reason for the action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The streams that a rule applies to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// One stream.
    Stream(StreamId),
    /// Every stream of a category. A rule for a stream overrides its fields.
    Category(Category),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(stream) => write!(f, "stream {stream:?}"),
            Self::Category(category) => write!(f, "category {category:?}"),
        }
    }
}

/// Limits on the events that a stream keeps. An event is hidden if any limit excludes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The maximum age of an event by the clock of the store, in whole milliseconds.
    #[serde(default, rename = "max_age_ms", with = "millis", skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// The maximum number of events, at least 1. The newest events are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_count: Option<u64>,
    /// The first revision to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncate_before: Option<Revision>,
}

impl Rule {
    /// Returns `true` if no limit is set.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.max_age.is_none() && self.max_count.is_none() && self.truncate_before.is_none()
    }

    /// Returns this rule, with the limits that it does not set taken from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            max_age: self.max_age.or(other.max_age),
            max_count: self.max_count.or(other.max_count),
            truncate_before: self.truncate_before.or(other.truncate_before),
        }
    }
}

/// Serializes a duration as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(age: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
    }
}

/// The kind of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeleteKind {
    /// Hides all present events. The stream may be written again, and continues at the next revision.
    Soft,
    /// Hides all events and closes the stream: it can never be written again.
    Hard,
}

impl fmt::Display for DeleteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Soft => "soft",
            Self::Hard => "hard",
        })
    }
}

/// An operator action, recorded as an event of a reserved stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OperatorEvent {
    /// A rule was set. It replaces the previous rule of the scope.
    RuleSet {
        /// The streams that the rule applies to.
        scope: Scope,
        /// The rule, which sets at least one limit.
        rule: Rule,
        /// Who set it, and why.
        #[serde(flatten)]
        note: Note,
    },
    /// The rule of a scope was cleared.
    RuleCleared {
        /// The scope of the cleared rule.
        scope: Scope,
        /// Who cleared it, and why.
        #[serde(flatten)]
        note: Note,
    },
    /// A stream was deleted.
    StreamDeleted {
        /// The stream.
        stream: StreamId,
        /// The kind of the deletion.
        kind: DeleteKind,
        /// The last deleted revision, or `None` if the stream had no event. A store rejects the event unless this is
        /// the last revision of the stream.
        through: Option<Revision>,
        /// Who deleted it, and why.
        #[serde(flatten)]
        note: Note,
    },
    /// The key of the personal data of a subject was destroyed, or is destroyed next.
    SubjectErased {
        /// The subject.
        subject: SubjectId,
        /// Who erased it, and why.
        #[serde(flatten)]
        note: Note,
    },
    /// A scavenge started. It removes the events that are hidden at the position of this event.
    ScavengePoint {
        /// The time that decides which events are too old.
        at: Timestamp,
        /// Who started it, and why.
        #[serde(flatten)]
        note: Note,
    },
}

impl OperatorEvent {
    const RULE_SET: &'static str = "es.retention-rule-set";
    const RULE_CLEARED: &'static str = "es.retention-rule-cleared";
    const SCAVENGE_POINT: &'static str = "es.scavenge-point";

    /// Returns the event type and the name of the reserved stream.
    const fn place(&self) -> (&'static str, &'static str) {
        match self {
            Self::RuleSet { .. } => (Self::RULE_SET, RULES),
            Self::RuleCleared { .. } => (Self::RULE_CLEARED, RULES),
            Self::StreamDeleted { .. } => (STREAM_DELETED, DELETIONS),
            Self::SubjectErased { .. } => (SUBJECT_ERASED, ERASURES),
            Self::ScavengePoint { .. } => (Self::SCAVENGE_POINT, SCAVENGES),
        }
    }

    /// Encodes the event. Returns its reserved stream and the event to write to it.
    #[must_use]
    pub(crate) fn encode(&self) -> (StreamId, NewEvent) {
        let (event_type, stream) = self.place();
        // Serialization of these names and numbers cannot fail. If it did, the store would reject the empty payload.
        let payload = serde_json::to_vec(self).unwrap_or_default();
        let event = NewEvent::json(EventType::well_known(event_type), payload);
        (StreamId::well_known(stream), event)
    }

    /// Decodes an event of a reserved stream.
    ///
    /// # Errors
    /// A description of what was found instead, if the event type, the stream or the payload is not valid.
    pub fn read(stream: &StreamId, event_type: &EventType, payload: &[u8]) -> Result<Self, String> {
        let event = match event_type.as_str() {
            Self::RULE_SET => {
                #[derive(Deserialize)]
                struct RuleSet {
                    scope: Scope,
                    rule: Rule,
                    #[serde(flatten)]
                    note: Note,
                }
                serde_json::from_slice(payload).map(|RuleSet { scope, rule, note }| Self::RuleSet { scope, rule, note })
            }
            Self::RULE_CLEARED => {
                #[derive(Deserialize)]
                struct RuleCleared {
                    scope: Scope,
                    #[serde(flatten)]
                    note: Note,
                }
                serde_json::from_slice(payload).map(|RuleCleared { scope, note }| Self::RuleCleared { scope, note })
            }
            SUBJECT_ERASED => {
                #[derive(Deserialize)]
                struct SubjectErased {
                    subject: SubjectId,
                    #[serde(flatten)]
                    note: Note,
                }
                serde_json::from_slice(payload)
                    .map(|SubjectErased { subject, note }| Self::SubjectErased { subject, note })
            }
            STREAM_DELETED | Self::SCAVENGE_POINT => serde_json::from_slice(payload),
            other => return Err(format!("the unknown event type {other:?}")),
        };
        let event = event.map_err(|error| format!("an invalid payload: {error}"))?;
        if event.place() != (event_type.as_str(), stream.as_str()) {
            return Err(format!("an event of type {event_type:?} with another payload or in another stream"));
        }
        event.check().map(|()| event)
    }

    fn check(&self) -> Result<(), String> {
        let is_kept = |category: &str| [CATEGORY, MEMBERSHIP_STREAM].contains(&category);
        let is_for_reserved = match self {
            Self::RuleSet { scope: Scope::Stream(stream), .. } | Self::StreamDeleted { stream, .. } => {
                is_kept(stream.category_str())
            }
            Self::RuleSet { scope: Scope::Category(category), .. } => is_kept(category.as_str()),
            Self::RuleCleared { .. } | Self::SubjectErased { .. } | Self::ScavengePoint { .. } => false,
        };
        match self {
            _ if is_for_reserved => {
                Err("a rule or a deletion for a stream of the retention or of the membership".into())
            }
            Self::RuleSet { rule, .. } if rule.is_empty() => {
                Err("a rule without a limit; clear the rule instead".into())
            }
            Self::RuleSet { rule: Rule { max_count: Some(0), .. }, .. } => {
                Err("a max_count of 0; delete the stream instead".into())
            }
            Self::StreamDeleted { kind: DeleteKind::Soft, through: None, .. } => {
                Err("a soft delete of a stream without events".into())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(name: &str) -> StreamId {
        StreamId::new(name).expect("valid")
    }

    fn read_back(event: &OperatorEvent) -> Result<OperatorEvent, String> {
        let (stream, written) = event.encode();
        OperatorEvent::read(&stream, &written.data.event_type, &written.data.payload)
    }

    #[test]
    fn every_operator_event_round_trips() {
        let note = Note { by: Some("ada".into()), reason: None };
        let rule = Rule { max_age: Some(Duration::from_millis(1500)), max_count: Some(3), truncate_before: None };
        let through = Some(Revision::new(4));
        for event in [
            OperatorEvent::RuleSet { scope: Scope::Stream(stream("a-1")), rule, note: note.clone() },
            OperatorEvent::RuleCleared {
                scope: Scope::Category(Category::new("a").expect("valid")),
                note: Note::default(),
            },
            OperatorEvent::StreamDeleted { stream: stream("a-1"), kind: DeleteKind::Soft, through, note: note.clone() },
            OperatorEvent::StreamDeleted { stream: stream("a-1"), kind: DeleteKind::Hard, through: None, note },
            OperatorEvent::ScavengePoint { at: Timestamp::UNIX_EPOCH, note: Note::default() },
        ] {
            assert_eq!(read_back(&event).as_ref(), Ok(&event));
        }
    }

    #[test]
    fn invalid_operator_events_are_rejected() {
        let set = |scope, rule| read_back(&OperatorEvent::RuleSet { scope, rule, note: Note::default() });
        let one = Rule { max_count: Some(1), ..Rule::default() };
        assert!(set(Scope::Stream(stream("a-1")), Rule::default()).is_err());
        assert!(set(Scope::Stream(stream("a-1")), Rule { max_count: Some(0), ..one }).is_err());
        assert!(set(Scope::Stream(stream(RULES)), one).is_err());
        assert!(set(Scope::Category(Category::new(CATEGORY).expect("valid")), one).is_err());
        assert!(set(Scope::Category(Category::new(MEMBERSHIP_STREAM).expect("valid")), one).is_err());
        let soft = |name, through| {
            read_back(&OperatorEvent::StreamDeleted {
                stream: stream(name),
                kind: DeleteKind::Soft,
                through,
                note: Note::default(),
            })
        };
        assert!(soft("a-1", None).is_err());
        assert!(soft(SCAVENGES, Some(Revision::FIRST)).is_err());
        let (_, event) = OperatorEvent::ScavengePoint { at: Timestamp::UNIX_EPOCH, note: Note::default() }.encode();
        assert!(OperatorEvent::read(&stream(RULES), &event.data.event_type, &event.data.payload).is_err());
        assert!(OperatorEvent::read(&stream(RULES), &EventType::new("x").expect("valid"), b"{}").is_err());
    }
    #[test]
    fn a_scope_and_a_kind_are_shown_by_name() {
        assert_eq!(Scope::Stream(stream("a-1")).to_string(), "stream \"a-1\"");
        assert_eq!(Scope::Category(Category::new("a").expect("valid")).to_string(), "category \"a\"");
        assert_eq!([DeleteKind::Soft, DeleteKind::Hard].map(|kind| kind.to_string()), ["soft", "hard"]);
    }
}
