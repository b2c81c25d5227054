//! [`LogRecord`]: what a coordinator records of a transaction.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::participant::{Finished, Outcome, Protocol};

/// A record of the log of a coordinator. A transaction without a record is aborted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LogRecord {
    /// All participants are prepared or read-only. Only three-phase commit writes it, before the first pre-commit.
    PreCommitting {
        /// The participants that are prepared, in the order of the plan.
        participants: Vec<RecordedParticipant>,
    },
    /// The outcome is decided.
    Decided {
        /// The outcome.
        outcome: Outcome,
        /// The protocol.
        protocol: Protocol,
        /// The participants that are told, in the order of the plan.
        participants: Vec<RecordedParticipant>,
    },
    /// The answer of a participant contradicts the decision, or the participant has lost its state.
    Finished {
        /// The name of the participant.
        participant: String,
        /// The answer.
        finished: Finished,
    },
    /// All participants have answered. No record follows.
    Ended,
    /// An operator has accepted the damage. No record follows.
    Forgotten,
}

/// A participant in a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RecordedParticipant {
    /// The name.
    pub name: String,
    /// What its [`prepare`](crate::Participant::prepare) returned; `None` if its vote was not received.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub prepared: Option<Value>,
}

/// Reads a value that is present. Without this, null is read as absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_has_one_stable_form() {
        let participants = vec![
            RecordedParticipant { name: "accounts".to_owned(), prepared: Some(json!(null)) },
            RecordedParticipant { name: "bank".to_owned(), prepared: None },
        ];
        let listed = json!([{"name": "accounts", "prepared": null}, {"name": "bank"}]);
        let decided = LogRecord::Decided {
            outcome: Outcome::Committed,
            protocol: Protocol::TwoPhase,
            participants: participants.clone(),
        };
        let finished =
            LogRecord::Finished { participant: "bank".to_owned(), finished: Finished::Heuristic(Outcome::Aborted) };
        for (record, text) in [
            (LogRecord::PreCommitting { participants }, json!({"type": "pre-committing", "participants": listed})),
            (
                decided,
                json!({
                    "type": "decided", "outcome": "committed", "protocol": "two-phase", "participants": listed
                }),
            ),
            (finished, json!({"type": "finished", "participant": "bank", "finished": {"heuristic": "aborted"}})),
            (LogRecord::Ended, json!({"type": "ended"})),
            (LogRecord::Forgotten, json!({"type": "forgotten"})),
        ] {
            assert_eq!(serde_json::to_value(&record).unwrap(), text);
            assert_eq!(serde_json::from_value::<LogRecord>(text).unwrap(), record);
        }
    }
}
