//! [`Handlers`]: executes the commands that other nodes forward.

use std::any::type_name;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use es_core::aggregate::{InfrastructureError, Owned};
use es_core::model::{Context, ErrorChain};
use es_core::{Command, Decide, ExecuteError, Repository};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::command::{CommandOutcome, ForwardedCommand, MAX_CONTENT_BYTES};

/// A category, and the path of the type of a command.
type CommandKey = (&'static str, &'static str);

/// The commands that a node accepts from other nodes.
#[derive(Default)]
pub(crate) struct Handlers(RwLock<BTreeMap<CommandKey, Arc<dyn Handler>>>);

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handlers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(handlers.keys()).finish()
    }
}

/// Executes commands of one type.
#[async_trait]
trait Handler: Send + Sync {
    async fn execute(&self, command: &ForwardedCommand) -> CommandOutcome;
}

impl Handlers {
    /// Accepts commands of type `C`.
    pub(crate) fn accept<A, C>(&self, repository: Arc<Repository<A>>)
    where
        A: Owned + Decide<C, Rejection: Serialize>,
        C: Command + Serialize + DeserializeOwned + 'static,
    {
        let handler = RepositoryHandler { repository, command: PhantomData::<fn(C)> };
        let mut handlers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        handlers.insert((A::CATEGORY, type_name::<C>()), Arc::new(handler));
    }

    /// Executes a command, if the node accepts it.
    pub(crate) async fn execute(&self, command: &ForwardedCommand) -> CommandOutcome {
        let key = (command.category.as_str(), command.command_type.as_str());
        let handler = {
            let handlers = self.0.read().unwrap_or_else(PoisonError::into_inner);
            handlers.iter().find(|((category, name), _)| (*category, *name) == key).map(|(_, handler)| handler.clone())
        };
        let Some(handler) = handler else {
            return CommandOutcome::refused(format!(
                "this node accepts no command {:?} to aggregates of the category {:?}; call \
                 `ForwardingRepository::accept` on every node",
                command.command_type, command.category
            ));
        };
        if command.command.len() > MAX_CONTENT_BYTES {
            let found = command.command.len();
            return CommandOutcome::refused(format!("expected at most {MAX_CONTENT_BYTES} bytes, found {found}"));
        }
        let failed = || CommandOutcome::Failed { reason: "the command was not decided in time".to_owned() };
        tokio::time::timeout(command.wait, handler.execute(command)).await.unwrap_or_else(|_| failed())
    }
}

struct RepositoryHandler<A, C> {
    repository: Arc<Repository<A>>,
    command: PhantomData<fn(C)>,
}

#[async_trait]
impl<A, C> Handler for RepositoryHandler<A, C>
where
    A: Owned + Decide<C, Rejection: Serialize>,
    C: Command + Serialize + DeserializeOwned + 'static,
{
    async fn execute(&self, forwarded: &ForwardedCommand) -> CommandOutcome {
        let id = match A::parse_id(&forwarded.id) {
            Ok(id) => id,
            Err(error) => return CommandOutcome::refused(error.to_string()),
        };
        let command: C = match serde_json::from_slice(&forwarded.command) {
            Ok(command) => command,
            Err(error) => return CommandOutcome::refused(format!("the content of the command is invalid: {error}")),
        };
        // A retry counts once, here and on the nodes that become the home later.
        let mut execute = self.repository.execute(&id, command).with_id(forwarded.command_id.clone());
        if let Some(correlation_id) = forwarded.correlation_id {
            execute = execute.in_context(Context { correlation_id, causation_id: forwarded.causation_id });
        }
        match execute.await {
            Ok(executed) => CommandOutcome::Executed { outcome: executed.outcome, version: executed.version() },
            Err(error) => outcome_of(error),
        }
    }
}

fn outcome_of<R: Serialize>(error: ExecuteError<R>) -> CommandOutcome {
    match error {
        ExecuteError::Rejected(rejection) => match serde_json::to_vec(&rejection) {
            Ok(rejection) if rejection.len() <= MAX_CONTENT_BYTES => {
                CommandOutcome::Rejected { rejection: rejection.into() }
            }
            Ok(rejection) => CommandOutcome::refused(format!(
                "the command is rejected, but the rejection has {} bytes, more than {MAX_CONTENT_BYTES}",
                rejection.len()
            )),
            Err(error) => CommandOutcome::refused(format!(
                "the command is rejected, but the rejection cannot be encoded as JSON: {error}"
            )),
        },
        ExecuteError::NotOwner(error) => CommandOutcome::NotOwner { home: error.home },
        ExecuteError::Conflict(conflict) => CommandOutcome::refused(conflict.to_string()),
        ExecuteError::Locked(locked) => CommandOutcome::refused(locked.to_string()),
        ExecuteError::Failed(error) => {
            let reason = ErrorChain(&error).to_string();
            if may_be_executed(&error) { CommandOutcome::Failed { reason } } else { CommandOutcome::Refused { reason } }
        }
    }
}

/// Returns `true` if the command may have been executed in spite of the error.
pub(super) const fn may_be_executed(error: &InfrastructureError) -> bool {
    use InfrastructureError as E;
    // The others are found before the commit, or are its refusal.
    !matches!(
        error,
        E::Encode(_)
            | E::Invalid(_)
            | E::Rejected(_)
            | E::Tags(_)
            | E::KeysWithoutEvent { .. }
            | E::IdConflict(_)
            | E::CommandIdReused { .. }
            | E::UnboundCommand { .. }
            | E::OtherStore { .. }
    )
}
