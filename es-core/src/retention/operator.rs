//! The events of the reserved streams: what they say, and how they are written.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Revision;
use crate::model::reserved::{RETENTION_CATEGORY as CATEGORY, is_retention_stream as is_reserved};
use crate::model::{Category, EventType, StreamId};
use crate::model::{NewEvent, Timestamp};

const RULES: &str = "es.retention-rules";
const DELETIONS: &str = "es.retention-deletions";
const SCAVENGES: &str = "es.retention-scavenges";

/// Who did something, and why: free texts for those who read the log later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a rule is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// One stream.
    Stream(StreamId),
    /// Every stream of a category that has no rule of its own in this respect.
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

/// Which events of a stream are kept. The fields are limits that hold together: what any of them excludes is hidden.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Those recorded no longer ago than this, to the millisecond, by the clock of the store.
    #[serde(default, rename = "max_age_ms", with = "millis", skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// The newest ones, this many, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_count: Option<u64>,
    /// Those from this revision on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncate_before: Option<Revision>,
}

impl Rule {
    /// Whether nothing is limited.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.max_age.is_none() && self.max_count.is_none() && self.truncate_before.is_none()
    }

    /// This rule, and where it says nothing, the other.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            max_age: self.max_age.or(other.max_age),
            max_count: self.max_count.or(other.max_count),
            truncate_before: self.truncate_before.or(other.truncate_before),
        }
    }
}

/// A duration as whole milliseconds.
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

/// How a stream is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeleteKind {
    /// Everything up to now is hidden. The stream may be written again, and goes on at the next revision.
    Soft,
    /// Everything is hidden, and nothing is ever written to the stream again.
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

/// What an operator did: an event of a reserved stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OperatorEvent {
    /// A rule counts from now on, in place of the one before it.
    RuleSet {
        /// For what.
        scope: Scope,
        /// The rule, which is not empty.
        rule: Rule,
        /// Who and why.
        #[serde(flatten)]
        note: Note,
    },
    /// There is no rule any more.
    RuleCleared {
        /// For what.
        scope: Scope,
        /// Who and why.
        #[serde(flatten)]
        note: Note,
    },
    /// A stream was deleted.
    StreamDeleted {
        /// The stream.
        stream: StreamId,
        /// How.
        kind: DeleteKind,
        /// Up to which revision; `None` where it had no event. A store refuses the event if this is not its last.
        through: Option<Revision>,
        /// Who and why.
        #[serde(flatten)]
        note: Note,
    },
    /// What is hidden at this place in the log goes for good.
    ScavengePoint {
        /// As of when.
        at: Timestamp,
        /// Who and why.
        #[serde(flatten)]
        note: Note,
    },
}

impl OperatorEvent {
    const RULE_SET: &'static str = "es.retention-rule-set";
    const RULE_CLEARED: &'static str = "es.retention-rule-cleared";
    const STREAM_DELETED: &'static str = "es.stream-deleted";
    const SCAVENGE_POINT: &'static str = "es.scavenge-point";

    /// The event type and the reserved stream.
    const fn place(&self) -> (&'static str, &'static str) {
        match self {
            Self::RuleSet { .. } => (Self::RULE_SET, RULES),
            Self::RuleCleared { .. } => (Self::RULE_CLEARED, RULES),
            Self::StreamDeleted { .. } => (Self::STREAM_DELETED, DELETIONS),
            Self::ScavengePoint { .. } => (Self::SCAVENGE_POINT, SCAVENGES),
        }
    }

    /// Encodes the event, and returns it with its reserved stream.
    #[must_use]
    pub(crate) fn encode(&self) -> (StreamId, NewEvent) {
        let (event_type, stream) = self.place();
        // NOTE: the names and numbers of these types can always be written; a store would refuse an empty payload.
        let payload = serde_json::to_vec(self).unwrap_or_default();
        let event = NewEvent::json(EventType::well_known(event_type), payload);
        (StreamId::well_known(stream), event)
    }

    /// Reads what an event of a reserved stream says.
    ///
    /// # Errors
    /// What was expected and what was found, where it is none.
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
            Self::STREAM_DELETED | Self::SCAVENGE_POINT => serde_json::from_slice(payload),
            other => return Err(format!("the event type {other:?}, which these streams do not take")),
        };
        let event = event.map_err(|error| format!("a payload that cannot be read: {error}"))?;
        if event.place() != (event_type.as_str(), stream.as_str()) {
            return Err(format!("an event of type {event_type:?} that is none or has no place there"));
        }
        event.check().map(|()| event)
    }

    fn check(&self) -> Result<(), String> {
        let is_for_reserved = match self {
            Self::RuleSet { scope: Scope::Stream(stream), .. } | Self::StreamDeleted { stream, .. } => {
                is_reserved(stream)
            }
            Self::RuleSet { scope: Scope::Category(category), .. } => *category == CATEGORY,
            Self::RuleCleared { .. } | Self::ScavengePoint { .. } => false,
        };
        match self {
            _ if is_for_reserved => Err("a rule or a deletion for the reserved streams themselves".into()),
            Self::RuleSet { rule, .. } if rule.is_empty() => Err("a rule without a limit; clear it instead".into()),
            Self::RuleSet { rule: Rule { max_count: Some(0), .. }, .. } => {
                Err("a max_count of 0; delete the stream instead".into())
            }
            Self::StreamDeleted { kind: DeleteKind::Soft, through: None, .. } => {
                Err("a soft delete of a stream that has no event".into())
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
    fn what_is_written_is_read_back() {
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
    fn what_makes_no_sense_is_refused() {
        let set = |scope, rule| read_back(&OperatorEvent::RuleSet { scope, rule, note: Note::default() });
        let one = Rule { max_count: Some(1), ..Rule::default() };
        assert!(set(Scope::Stream(stream("a-1")), Rule::default()).is_err());
        assert!(set(Scope::Stream(stream("a-1")), Rule { max_count: Some(0), ..one }).is_err());
        assert!(set(Scope::Stream(stream(RULES)), one).is_err());
        assert!(set(Scope::Category(Category::new(CATEGORY).expect("valid")), one).is_err());
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
}
