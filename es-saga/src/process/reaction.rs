//! [`Reaction`]: what a process does in answer to an input.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use es_core::aggregate::InfrastructureError;
use es_core::aggregate::{Aggregate, Command, Decide, Plan};
use es_core::model::{Clock, Entropy, NameError};
use es_core::{Commit, EventStore, ExecuteError, LoadError, Repository, StoreError, StreamId, Timestamp};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::graph::{Definition, Saga};
use crate::process::id::ProcessKey;
use crate::step::Stored;

/// What a process does in answer to an input. All of it is one commit with the record that the input was handled: none
/// of it happens without the others, and none of it happens twice.
///
/// A process has no effect outside of the store. For such an effect, start a saga, or let a
/// [reactor](es_core::consumer::reactor) follow the events of the state.
#[must_use = "a reaction has an effect only when it is returned"]
pub struct Reaction<S: Aggregate> {
    pub(crate) events: Vec<S::Event>,
    pub(crate) timers: BTreeMap<String, Option<Timestamp>>,
    pub(crate) keys: BTreeMap<ProcessKey, bool>,
    pub(crate) waits: BTreeMap<String, bool>,
    pub(crate) commands: Vec<Arc<dyn AnyCommand>>,
    pub(crate) sagas: Vec<SagaStart>,
    pub(crate) ends: bool,
}

impl<S: Aggregate> Clone for Reaction<S>
where
    S::Event: Clone,
{
    fn clone(&self) -> Self {
        Self {
            events: self.events.clone(),
            timers: self.timers.clone(),
            keys: self.keys.clone(),
            waits: self.waits.clone(),
            commands: self.commands.clone(),
            sagas: self.sagas.clone(),
            ends: self.ends,
        }
    }
}

impl<S: Aggregate> fmt::Debug for Reaction<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commands: Vec<String> = self.commands.iter().map(|command| command.label()).collect();
        f.debug_struct("Reaction")
            .field("events", &self.events.len())
            .field("timers", &self.timers)
            .field("keys", &self.keys)
            .field("waits", &self.waits)
            .field("commands", &commands)
            .field("sagas", &self.sagas)
            .field("ends", &self.ends)
            .finish()
    }
}

impl<S: Aggregate> Reaction<S> {
    /// Returns a reaction that changes nothing. The input is recorded as handled.
    pub const fn none() -> Self {
        Self {
            events: Vec::new(),
            timers: BTreeMap::new(),
            keys: BTreeMap::new(),
            waits: BTreeMap::new(),
            commands: Vec::new(),
            sagas: Vec::new(),
            ends: false,
        }
    }

    /// Adds an event to the state.
    pub fn event(mut self, event: S::Event) -> Self {
        self.events.push(event);
        self
    }

    /// Sets the timer with this name, or replaces it. It fires once, at this time or later, also after a restart. Use
    /// it for reminders and deadlines.
    pub fn timer(mut self, name: impl Into<String>, due: Timestamp) -> Self {
        self.timers.insert(name.into(), Some(es_core::__private::to_stored_precision(due)));
        self
    }

    /// Cancels the timer with this name. Has no effect if it is not set.
    pub fn cancel_timer(mut self, name: impl Into<String>) -> Self {
        self.timers.insert(name.into(), None);
        self
    }

    /// Gives the instance a key, by which later events find it. The reaction fails if another running instance has it.
    pub fn associate(mut self, key: ProcessKey) -> Self {
        self.keys.insert(key, true);
        self
    }

    /// Takes a key from the instance. Has no effect if it does not have it.
    pub fn dissociate(mut self, key: ProcessKey) -> Self {
        self.keys.insert(key, false);
        self
    }

    /// Opens a wait, which a caller outside completes with its token; see
    /// [`ProcessContext::token`](crate::process::ProcessContext::token). An open wait stays open with its token.
    pub fn wait(mut self, name: impl Into<String>) -> Self {
        self.waits.insert(name.into(), true);
        self
    }

    /// Closes a wait, so that its token completes nothing more. Has no effect if it is not open.
    pub fn close_wait(mut self, name: impl Into<String>) -> Self {
        self.waits.insert(name.into(), false);
        self
    }

    /// Executes a command on an aggregate of the same store. If the aggregate rejects the command, the reaction fails.
    /// A reaction has at most one command for each aggregate.
    ///
    /// While a distributed transaction locks the aggregate, an event or a timer waits at the instance and is tried
    /// again. A signal or a completion fails after 5 s.
    pub fn execute<A, C>(mut self, id: A::Id, command: C) -> Self
    where
        A: Decide<C>,
        C: Command + 'static,
        A::Rejection: fmt::Display,
    {
        self.commands.push(Arc::new(CommandTo::<A, C> { id, command }));
        self
    }

    /// Starts an instance of a saga. The reaction fails if the instance exists. A coordinator of the store runs it.
    ///
    /// # Errors
    /// [`serde_json::Error`] if the input cannot be stored.
    pub fn start_saga<I: Stored, O: Stored>(
        mut self,
        saga: &Saga<I, O>,
        instance: impl fmt::Display,
        input: &I,
    ) -> Result<Self, serde_json::Error> {
        let (definition, instance) = (Arc::clone(&saga.definition), instance.to_string());
        self.sagas.push(SagaStart { definition, instance, input: serde_json::to_value(input)? });
        Ok(self)
    }

    /// Ends the instance: its timers, keys and waits are removed, and no later event continues it.
    pub const fn end(mut self) -> Self {
        self.ends = true;
        self
    }
}

/// The start of a saga.
#[derive(Clone)]
pub(crate) struct SagaStart {
    pub(crate) definition: Arc<Definition>,
    pub(crate) instance: String,
    pub(crate) input: Value,
}

impl SagaStart {
    /// Returns the id of the saga as a text.
    pub(crate) fn label(&self) -> String {
        format!("{}:{}", self.definition.shape.name, self.instance)
    }
}

impl fmt::Debug for SagaStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.label(), self.input)
    }
}

/// A command was not planned.
pub(crate) enum PlanFailure {
    /// A repetition does not help.
    Refused(String),
    /// A distributed transaction locks the aggregate.
    Locked(String),
    /// The store failed.
    Store(StoreError),
}

/// The pause between two attempts to decide on a command to a locked aggregate.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Decides on a command. If a distributed transaction locks the aggregate, waits for its end for at most this time.
async fn plan_unlocked<'r, A: Decide<C>, C: Command>(
    repository: &'r Repository<A>,
    clock: &dyn Clock,
    wait: Duration,
    id: &A::Id,
    command: &C,
) -> Result<Plan<'r, A>, ExecuteError<A::Rejection>> {
    let until = clock.elapsed() + wait;
    loop {
        match repository.plan(id, command.clone()).await {
            Err(ExecuteError::Locked(_)) if clock.elapsed() < until => tokio::time::sleep(LOCK_PAUSE).await,
            result => return result,
        }
    }
}

/// What a command is decided with.
#[derive(Debug)]
pub(crate) struct Planner {
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

/// A command to an aggregate of any type.
pub(crate) trait AnyCommand: Send + Sync {
    /// Returns the stream of the aggregate and the type of the command.
    fn label(&self) -> String;

    /// Returns the stream of the aggregate.
    fn stream(&self) -> Result<StreamId, NameError>;

    /// Decides on the command and adds its events to a commit. Waits for at most this time if the aggregate is locked.
    fn plan<'a>(
        &'a self,
        planner: &'a Planner,
        lock_wait: Duration,
        commit: Commit,
    ) -> BoxFuture<'a, Result<Commit, PlanFailure>>;

    /// Returns the command, for tests.
    fn as_any(&self) -> &dyn Any;
}

/// A command to an aggregate.
pub(crate) struct CommandTo<A: Aggregate, C> {
    pub(crate) id: A::Id,
    pub(crate) command: C,
}

impl<A, C> AnyCommand for CommandTo<A, C>
where
    A: Decide<C>,
    C: Command + 'static,
    A::Rejection: fmt::Display,
{
    fn label(&self) -> String {
        let name = std::any::type_name::<C>();
        format!("{}-{} {}", A::CATEGORY, self.id, name.rsplit("::").next().unwrap_or(name))
    }

    fn stream(&self) -> Result<StreamId, NameError> {
        A::stream(&self.id)
    }

    fn plan<'a>(
        &'a self,
        planner: &'a Planner,
        lock_wait: Duration,
        commit: Commit,
    ) -> BoxFuture<'a, Result<Commit, PlanFailure>> {
        async move {
            let Planner { store, clock, entropy } = planner;
            let repository = Repository::<A>::new(Arc::clone(store)).without_cache();
            let repository = repository.with_clock(Arc::clone(clock)).with_entropy(Arc::clone(entropy));
            match plan_unlocked(&repository, &**clock, lock_wait, &self.id, &self.command).await {
                Ok(plan) => Ok(commit.with(&plan)),
                Err(ExecuteError::Failed(InfrastructureError::Load(LoadError::Store(error))))
                    if !matches!(error, StoreError::Damaged { .. }) =>
                {
                    Err(PlanFailure::Store(error))
                }
                Err(ExecuteError::Rejected(rejection)) => {
                    Err(PlanFailure::Refused(format!("{} was rejected: {rejection}", self.label())))
                }
                Err(ExecuteError::Conflict(conflict)) => Err(PlanFailure::Refused(conflict.to_string())),
                Err(ExecuteError::Locked(locked)) => Err(PlanFailure::Locked(locked.to_string())),
                Err(ExecuteError::NotOwner(error)) => Err(PlanFailure::Refused(error.to_string())),
                Err(ExecuteError::Failed(error)) => {
                    let error = es_core::model::ErrorChain(&error);
                    Err(PlanFailure::Refused(format!("{} failed: {error}", self.label())))
                }
            }
        }
        .boxed()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
