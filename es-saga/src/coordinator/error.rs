//! The errors of the coordinator and of operators.

use es_core::aggregate::LoadError;
use es_core::model::NameError;
use es_core::schema::EncodeEventError;
use es_core::{CommitError, StoreError};

use crate::graph::DecodeInputError;
use crate::instance::VerbRefused;

/// A coordinator could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SagaStartError {
    /// Steps of a saga are not registered. Register an instance of each with [`SagaCoordinator::step`].
    ///
    /// [`SagaCoordinator::step`]: crate::SagaCoordinator::step
    #[error("saga {saga:?} needs steps that are not registered: {}; register them before the start", .steps.join(", "))]
    MissingSteps {
        /// The name of the saga.
        saga: String,
        /// The names of the steps.
        steps: Vec<String>,
    },
    /// There are unfinished instances of a saga that is not registered. Register it, or abandon the instances.
    #[error(
        "unfinished saga {instance:?} is not registered, and neither are its steps {}; register saga {saga:?} and its \
         steps, or abandon its instances", .steps.join(", ")
    )]
    UnknownSaga {
        /// The name of the saga.
        saga: String,
        /// The id of an unfinished instance.
        instance: String,
        /// The names of its steps that are not registered.
        steps: Vec<String>,
    },
    /// Two definitions or two steps have the same name.
    #[error("two registrations of the {kind} {name:?}; register it once")]
    Duplicate {
        /// `saga` or `step`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The caller is outside of a tokio runtime.
    #[error("no tokio runtime found; start a saga coordinator from within a tokio runtime")]
    NoRuntime,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A saga was not created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The id cannot be part of a stream name.
    #[error("invalid id of a saga")]
    Name(#[from] NameError),
    /// The saga exists with another input. Choose another id.
    #[error("saga {saga:?} exists with another input; choose another id")]
    Exists {
        /// The id.
        saga: String,
    },
    /// The input cannot be stored.
    #[error("could not encode the input of a saga")]
    Input(#[from] serde_json::Error),
    /// The event cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeEventError),
    /// The saga cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The commit failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// A saga did not complete, or could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecuteSagaError {
    /// It was not created.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// It ended without an output, or is stuck.
    #[error("saga {saga:?} is {phase}: {reason}")]
    NotCompleted {
        /// The id.
        saga: String,
        /// The name of the phase.
        phase: &'static str,
        /// The reason.
        reason: String,
    },
    /// The saga cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The output does not have the type of the definition.
    #[error(transparent)]
    Output(#[from] DecodeInputError),
    /// The output does not have the type of the caller.
    #[error("could not decode the output of a saga")]
    Decode(#[from] serde_json::Error),
    /// The coordinator was shut down. The saga continues at the next start.
    #[error("the saga coordinator was shut down; the saga continues at its next start")]
    Stopped,
}

/// An action of an operator failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperateError {
    /// The action is not possible. Nothing was written.
    #[error(transparent)]
    Refused(#[from] VerbRefused),
    /// The id cannot be part of a stream name.
    #[error("invalid id of a saga")]
    Name(#[from] NameError),
    /// The saga cannot be loaded. It can only be abandoned.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The event cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeEventError),
    /// The commit failed, after several attempts if the saga changed at the same time.
    #[error(transparent)]
    Commit(#[from] CommitError),
}
