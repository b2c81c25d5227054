//! The messages that forward a command to the home of its stream: [`ForwardedCommand`] and [`CommandAnswer`].

use std::time::Duration;

use bytes::Bytes;
use es_core::aggregate::Outcome;
use es_core::model::{CorrelationId, Version};
use es_core::store::Home;
use es_core::{CommandId, EventId};

use crate::token::Token;

/// The maximum length of a command and of a rejection, as JSON, in bytes.
pub(crate) const MAX_CONTENT_BYTES: usize = 1024 * 1024;

/// A command that a node forwards to the home of its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardedCommand {
    /// The category of the aggregate.
    pub category: String,
    /// The id of the aggregate, as in the name of its stream.
    pub id: String,
    /// The path of the Rust type of the command.
    pub command_type: String,
    /// The command as JSON.
    pub command: Bytes,
    /// The id under which the command is executed once.
    pub command_id: CommandId,
    /// The correlation id of its events.
    pub correlation_id: Option<CorrelationId>,
    /// The event that caused the command.
    pub causation_id: Option<EventId>,
    /// The time for which the caller waits.
    pub wait: Duration,
}

/// The answer to a [`ForwardedCommand`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandAnswer {
    /// What happened.
    pub outcome: CommandOutcome,
    /// What the answering node has. A node that waits for it has the events of the command.
    pub token: Token,
}

/// What happened to a [`ForwardedCommand`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandOutcome {
    /// The command was executed, now or before.
    Executed {
        /// The kind of the result.
        outcome: Outcome,
        /// The version of the aggregate after it.
        version: Option<Version>,
    },
    /// The domain rejected the command. Nothing was written.
    Rejected {
        /// The rejection as JSON.
        rejection: Bytes,
    },
    /// Another node decides. Nothing was written.
    NotOwner {
        /// The home, as far as the answering node knows.
        home: Home,
    },
    /// The command was not executed for another reason. Nothing was written.
    Refused {
        /// The reason.
        reason: String,
    },
    /// The node failed. The command may have been executed.
    Failed {
        /// The reason.
        reason: String,
    },
}

impl CommandOutcome {
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }
}
