//! Conversions of forwarded commands and their answers.

use std::time::Duration;

use es_core::aggregate::Outcome;
use es_core::model::{CorrelationId, OriginId, Version};
use es_core::store::Home;
use es_core::{CommandId, EventId};

use crate::command::{CommandAnswer, CommandOutcome, ForwardedCommand};
use crate::wire::error::{DecodeError, EncodeError};
use crate::wire::event::{decode_uuid, encode_uuid, name};
use crate::wire::proto;

/// The numbers of the kinds of results.
const OUTCOMES: [(u32, Outcome); 3] = [(1, Outcome::Done), (2, Outcome::Unchanged), (3, Outcome::Repeated)];

impl From<ForwardedCommand> for proto::WireForward {
    fn from(command: ForwardedCommand) -> Self {
        let ForwardedCommand { category, id, command_type, command, command_id, correlation_id, causation_id, wait } =
            command;
        Self {
            category,
            id,
            command_type,
            command,
            command_id: command_id.to_string(),
            correlation_id: correlation_id.map(|id| encode_uuid(id.as_uuid())),
            causation_id: causation_id.map(|id| encode_uuid(id.as_uuid())),
            wait_seconds: wait.as_secs(),
            wait_nanos: wait.subsec_nanos(),
        }
    }
}

impl TryFrom<proto::WireForward> for ForwardedCommand {
    type Error = DecodeError;

    fn try_from(command: proto::WireForward) -> Result<Self, DecodeError> {
        if command.wait_nanos >= 1_000_000_000 {
            let expected = "less than a second in nanoseconds";
            return Err(DecodeError::field("the wait of a command", expected, command.wait_nanos));
        }
        let correlation_id = command.correlation_id.map(|id| decode_uuid("a correlation id", &id)).transpose()?;
        let causation_id = command.causation_id.map(|id| decode_uuid("a causation id", &id)).transpose()?;
        Ok(Self {
            category: command.category,
            id: command.id,
            command_type: command.command_type,
            command: command.command,
            command_id: name("a command id", CommandId::new(&command.command_id))?,
            correlation_id: correlation_id.map(CorrelationId::from_uuid),
            causation_id: causation_id.map(EventId::from_uuid),
            wait: Duration::new(command.wait_seconds, command.wait_nanos),
        })
    }
}

/// Converts an answer for sending.
pub(super) fn encode_answer(answer: CommandAnswer) -> Result<proto::WireAnswer, EncodeError> {
    use proto::WireOutcome;
    let CommandAnswer { outcome, token } = answer;
    let outcome = match outcome {
        CommandOutcome::Executed { outcome, version } => {
            let number = OUTCOMES.iter().find(|(_, known)| *known == outcome).map_or(1, |(number, _)| *number);
            let version = version.map(|version| version.to_string());
            WireOutcome::Executed(proto::WireExecuted { outcome: number, version })
        }
        CommandOutcome::Rejected { rejection } => WireOutcome::Rejected(rejection),
        CommandOutcome::NotOwner { home: Home::Origin(origin) } => WireOutcome::HomeOrigin(origin.get()),
        CommandOutcome::NotOwner { home: Home::Node(node) } => WireOutcome::HomeNode(node),
        CommandOutcome::Refused { reason } => WireOutcome::Refused(reason),
        CommandOutcome::Failed { reason } => WireOutcome::Failed(reason),
    };
    let token = serde_json::to_string(&token).map_err(|_| EncodeError::Token)?;
    Ok(proto::WireAnswer { token, outcome: Some(outcome) })
}

impl TryFrom<proto::WireAnswer> for CommandAnswer {
    type Error = DecodeError;

    fn try_from(answer: proto::WireAnswer) -> Result<Self, DecodeError> {
        use proto::WireOutcome;
        let token = serde_json::from_str(&answer.token);
        let token = token.map_err(|_| DecodeError::field("the token of an answer", "a token", &answer.token))?;
        let outcome = match answer.outcome {
            Some(WireOutcome::Executed(proto::WireExecuted { outcome, version })) => {
                let found = OUTCOMES.iter().find(|(number, _)| *number == outcome);
                let found = found.ok_or_else(|| DecodeError::field("the kind of a result", "1 to 3", outcome))?;
                let version = version.map(|text| text.parse::<Version>()).transpose();
                let version = version.map_err(|error| DecodeError::field("a version", "a version", error.found))?;
                CommandOutcome::Executed { outcome: found.1, version }
            }
            Some(WireOutcome::Rejected(rejection)) => CommandOutcome::Rejected { rejection },
            Some(WireOutcome::HomeOrigin(origin)) => {
                CommandOutcome::NotOwner { home: Home::Origin(OriginId::new(origin)) }
            }
            Some(WireOutcome::HomeNode(node)) => CommandOutcome::NotOwner { home: Home::Node(node) },
            Some(WireOutcome::Refused(reason)) => CommandOutcome::Refused { reason },
            Some(WireOutcome::Failed(reason)) => CommandOutcome::Failed { reason },
            None => return Err(DecodeError::field("the answer to a command", "an outcome", "none")),
        };
        Ok(Self { outcome, token })
    }
}
