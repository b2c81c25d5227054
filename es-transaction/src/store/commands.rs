//! [`CommandList`]: what a participant of aggregates is asked to do, and the commands that it accepts.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;
use es_core::aggregate::{Aggregate, CommandBatch, CommandFor, Decide, ExecuteError, Heuristic};
use es_core::model::OneOrder;
use es_core::{LoadError, Repository};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The maximum number of commands in the request of a participant. Each command that is added decides on the earlier
/// ones again.
pub const MAX_COMMANDS: usize = 100;

/// Commands to aggregates of one participant, at most [`MAX_COMMANDS`], which are decided in order.
///
/// ```
/// use es_transaction::CommandList;
///
/// #[derive(serde::Serialize)]
/// struct Deposit {
///     cents: u64,
/// }
///
/// let commands = CommandList::new().command("deposit", 7, &Deposit { cents: 500 })?;
/// # assert_eq!(serde_json::to_string(&commands)?, r#"[{"command":"deposit","id":"7","content":{"cents":500}}]"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandList(Vec<NamedCommand>);

/// A command under the name by which the participant knows its type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct NamedCommand {
    command: String,
    /// The id of the aggregate, as its stream name contains it.
    id: String,
    content: Value,
}

impl CommandList {
    /// Returns an empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a command. `name` is the name under which the participant has registered its type.
    ///
    /// # Errors
    /// The error of serde if the command cannot be written as JSON.
    pub fn command(
        mut self,
        name: &str,
        id: impl fmt::Display,
        command: &impl Serialize,
    ) -> Result<Self, serde_json::Error> {
        let content = serde_json::to_value(command)?;
        self.0.push(NamedCommand { command: name.to_owned(), id: id.to_string(), content });
        Ok(self)
    }
}

/// The reason why a command is not part of a batch.
pub(super) enum NotAdded {
    /// The command is refused; a repeat is refused, too.
    Refused(String),
    /// The infrastructure failed.
    Failed(es_core::aggregate::InfrastructureError),
}

/// The command types that a participant accepts, by name.
#[derive(Clone, Default)]
pub(super) struct CommandTypes(BTreeMap<String, Arc<dyn CommandType>>);

impl fmt::Debug for CommandTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl CommandTypes {
    /// Registers a command type. The last of several types with one name counts.
    pub(super) fn register<A, C>(&mut self, name: &str, repository: &Arc<Repository<A>>)
    where
        A: Decide<C::Accepted> + Aggregate<Level: OneOrder>,
        A::Rejection: fmt::Display,
        C: CommandFor<A> + DeserializeOwned + Send + Sync + 'static,
        C::Accepted: 'static,
    {
        let command = Typed::<A, C> { repository: Arc::clone(repository), command: PhantomData };
        self.0.insert(name.to_owned(), Arc::new(command));
    }

    /// Adds the commands of a list to a batch. Returns what all of their aggregates do in doubt.
    pub(super) async fn add(&self, list: &CommandList, batch: &mut CommandBatch) -> Result<Heuristic, NotAdded> {
        if list.0.len() > MAX_COMMANDS {
            let found = list.0.len();
            return Err(NotAdded::Refused(format!("expected at most {MAX_COMMANDS} commands, found {found}")));
        }
        let mut heuristics = Vec::new();
        for NamedCommand { command, id, content } in &list.0 {
            let Some(known) = self.0.get(command) else {
                return Err(NotAdded::Refused(format!("the participant has no command {command:?}")));
            };
            known.add(id, content, batch).await?;
            heuristics.push(known.heuristic());
        }
        let first = heuristics.first().copied().unwrap_or_default();
        Ok(if heuristics.iter().all(|heuristic| *heuristic == first) { first } else { Heuristic::Never })
    }
}

#[async_trait]
trait CommandType: Send + Sync {
    fn heuristic(&self) -> Heuristic;

    /// Decodes a command and adds it to a batch.
    async fn add(&self, id: &str, content: &Value, batch: &mut CommandBatch) -> Result<(), NotAdded>;
}

struct Typed<A, C> {
    repository: Arc<Repository<A>>,
    command: PhantomData<fn() -> C>,
}

#[async_trait]
impl<A, C> CommandType for Typed<A, C>
where
    A: Decide<C::Accepted> + Aggregate<Level: OneOrder>,
    A::Rejection: fmt::Display,
    C: CommandFor<A> + DeserializeOwned + Send + Sync + 'static,
    C::Accepted: 'static,
{
    fn heuristic(&self) -> Heuristic {
        A::HEURISTIC
    }

    async fn add(&self, id: &str, content: &Value, batch: &mut CommandBatch) -> Result<(), NotAdded> {
        let refused = |reason: String| NotAdded::Refused(reason);
        let id = A::parse_id(id).map_err(|error| refused(error.to_string()))?;
        let command = C::deserialize(content).map_err(|error| {
            refused(format!("expected the content of the command {:?}: {error}", std::any::type_name::<C>()))
        })?;
        match batch.add(&self.repository, &id, command).await {
            Ok(()) => Ok(()),
            Err(ExecuteError::Rejected(rejection)) => Err(refused(rejection.to_string())),
            Err(ExecuteError::Conflict(conflict)) => Err(refused(conflict.to_string())),
            Err(ExecuteError::Locked(locked)) => Err(refused(locked.to_string())),
            Err(ExecuteError::NotOwner(error)) => Err(refused(error.to_string())),
            Err(ExecuteError::Failed(error)) => match error {
                es_core::aggregate::InfrastructureError::Load(LoadError::Name(error)) => {
                    Err(refused(error.to_string()))
                }
                error => Err(NotAdded::Failed(error)),
            },
        }
    }
}
