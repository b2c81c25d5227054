//! [`Execute`]: a command to one aggregate, as a [unit of work](super::unit) of one.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use serde::Serialize;

use crate::aggregate::repository::Repository;
use crate::aggregate::repository::command_id::{Binding, FirstResult, ResultRow};
use crate::aggregate::repository::error::{ExecuteError, InfrastructureError, LoadError};
use crate::aggregate::repository::load::Past;
use crate::aggregate::repository::loaded::Loaded;
use crate::aggregate::repository::options::{Options, Precondition};
use crate::aggregate::repository::unit::{Commands, Job, One, run};
use crate::aggregate::{Aggregate, Command, Decide, Evolve};
use crate::model::{CommandId, Dot, NameError};
use crate::model::{Context, ExpectedRevision, Metadata, OneOrder, Position, Revision, StreamId, Timestamp, Version};
use crate::store::Query;

/// The result of a command.
#[derive(Debug, Clone)]
pub struct Executed<A: Aggregate> {
    /// The events that the command produced, in order.
    pub events: Vec<A::Event>,
    /// The state after the events.
    pub state: A,
    /// The revision of the aggregate after the events, or `None` if it has no events.
    pub revision: Option<Revision>,
    /// The position of the last event of the aggregate, or `None` if it has no events. To read its own write, a caller
    /// waits until a view has reached this position.
    pub position: Option<Position>,
    /// The kind of the result.
    pub outcome: Outcome,
    version: Option<Version>,
}

/// The kind of the result of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The command produced events, or was accepted without events.
    Done,
    /// The command produced no events, because the state already was as it requests.
    Unchanged,
    /// The command was executed before under the same command id. The result is the first one, and nothing was written.
    Repeated,
}

impl<A: Aggregate> Executed<A> {
    pub(super) fn new(loaded: Loaded<A>, events: Vec<A::Event>, outcome: Outcome) -> Self {
        let version = loaded.version();
        let Loaded { state, revision, position, .. } = loaded;
        Self { events, state, revision, position, outcome, version }
    }

    /// Returns the version of the aggregate after the events, or `None` if it has no events.
    #[must_use]
    pub const fn version(&self) -> Option<Version> {
        self.version
    }
}

/// A command that is executed when it is awaited. Its methods set options.
#[must_use = "a command does nothing until it is awaited"]
pub struct Execute<'a, A: Aggregate, C> {
    command: One<'a, A, C>,
    options: Options,
}

impl<A: Aggregate, C> fmt::Debug for Execute<'_, A, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execute").field("command", &self.command).field("options", &self.options).finish()
    }
}

impl<'a, A: Aggregate, C> Execute<'a, A, C> {
    pub(crate) fn new(repository: &'a Repository<A>, id: A::Id, command: C) -> Self {
        Self { command: One::new(repository, id, command), options: Options::default() }
    }

    /// Executes the command only if the last event of the aggregate has this revision. Otherwise it fails with a
    /// conflict and is not retried.
    ///
    /// The aggregate's consistency level must have [one order](OneOrder) of events; for other levels, use
    /// [`at_version`](Self::at_version).
    pub fn at_revision(self, revision: Revision) -> Self
    where
        A: Aggregate<Level: OneOrder>,
    {
        self.expecting(ExpectedRevision::Exact(revision))
    }

    /// Executes the command only if the aggregate has this version. Otherwise it fails with a conflict and is not
    /// retried.
    pub fn at_version(mut self, version: Version) -> Self {
        self.command.precondition = Precondition::Version(version);
        self
    }

    /// Executes the command only if the aggregate meets this expectation. Otherwise it fails with a conflict and is not
    /// retried.
    ///
    /// The aggregate's consistency level must have [one order](OneOrder) of events; otherwise each node has different
    /// revisions, and an aggregate that is new on one node may exist on another.
    pub fn expecting(mut self, expected: ExpectedRevision) -> Self
    where
        A: Aggregate<Level: OneOrder>,
    {
        self.command.precondition = Precondition::Revision(expected);
        self
    }

    /// Executes the command at most once under this id. If it is executed again, even after a restart, it returns its
    /// first result. A rejection or a failure is not a result.
    ///
    /// The id is bound to the command: its type, its content and the time that [`occurred_at`](Self::occurred_at) sets.
    /// Another command to the aggregate under the same id fails with
    /// [`CommandIdReused`](InfrastructureError::CommandIdReused). Metadata, context and preconditions may differ.
    ///
    /// The store keeps a digest of the command. It covers the path of the Rust type and the names and values that
    /// `Serialize` writes: after a type is moved or changed, a repeat of an older command is another command. Use
    /// `BTreeSet` instead of `HashSet` in a command, because a `HashSet` has no stable order.
    pub fn with_id(mut self, id: CommandId) -> Self
    where
        C: Serialize,
    {
        self.options.binding = Some(Binding::new(id, &self.command));
        self
    }

    /// Executes the command at most once under this id, like [`with_id`](Self::with_id), and binds the id to `content`
    /// instead of the content of the command. Use it for a command that a repeated request does not reproduce, such as
    /// one with encrypted fields, and give the parts of the request that a repeat has, too.
    ///
    /// The row of the command keeps an 8-byte digest of `content` without a key. Give a fingerprint of personal data,
    /// not the data.
    pub fn with_id_of(mut self, id: CommandId, content: &(impl Serialize + ?Sized)) -> Self {
        self.options.binding = Some(Binding::to_content(id, &[std::any::type_name::<C>()], content));
        self
    }

    /// Sets the time in the domain at which the command takes effect. The default is the time of the call.
    pub fn occurred_at(mut self, time: Timestamp) -> Self {
        self.options.occurred_at = Some(time);
        self
    }

    /// Sets the metadata of every event.
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.options.metadata = metadata;
        self
    }

    /// Executes the command in this context instead of that of the current task.
    pub fn in_context(mut self, context: Context) -> Self {
        self.options.context = Some(context);
        self
    }

    /// Executes the command only if no event after the position `after` matches `query`; `None` covers the whole log.
    /// Otherwise it fails with a conflict and is not retried.
    ///
    /// If an item of the query has tags that events of the aggregate declare, older events must have them. Otherwise
    /// the execution fails with [`InfrastructureError::Tags`](crate::aggregate::InfrastructureError::Tags), as
    /// [`QueryItem::of_events`](crate::store::QueryItem::of_events) does. Events of other types are not checked.
    ///
    /// The aggregate's consistency level must have [one order](OneOrder) of events; otherwise another node may append a
    /// matching event at the same time.
    pub fn append_if_none(mut self, query: impl Into<Query>, after: Option<Position>) -> Self
    where
        A: Aggregate<Level: OneOrder>,
    {
        self.options.conditions = self.options.conditions.append_if_none(query, after);
        self
    }
}

impl<A: Aggregate, C> Execute<'_, A, C> {
    /// Executes the command at most once for the conflict of two events, on all nodes together.
    pub(super) fn answering(mut self, earlier: Dot, later: Dot) -> Result<Self, NameError> {
        self.options.binding = Some(Binding::of_answer(earlier, later)?);
        Ok(self)
    }
}

impl<'a, A: Decide<C>, C: Command + 'a> IntoFuture for Execute<'a, A, C> {
    type Output = Result<Executed<A>, ExecuteError<A::Rejection>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<A: Decide<C>, C: Command> Execute<'_, A, C> {
    async fn run(self) -> Result<Executed<A>, ExecuteError<A::Rejection>> {
        let Self { command, options } = self;
        let repository = command.repository;
        let mut targets = Vec::with_capacity(1);
        command.targets(&mut targets)?;
        let job = Job {
            store: &*repository.loader.store,
            targets,
            time: options.occurred_at.unwrap_or_else(|| repository.clock.now()),
            options: &options,
            retry: repository.retry,
            lock_wait: repository.lock_wait,
            ids: repository.ids(),
            metrics: &repository.metrics,
        };
        run(&command, job).await.map_err(ExecuteError::from)
    }
}

impl<A: Evolve> Repository<A> {
    /// Returns the result of a command that was executed before under the same id.
    pub(super) async fn first_result(
        &self,
        id: &A::Id,
        stream: &StreamId,
        row: &ResultRow,
        first: &FirstResult,
    ) -> Result<Executed<A>, InfrastructureError> {
        let (events, last) = match first.events.is_empty() {
            true => (Vec::new(), first.last),
            false => {
                let found = self.loader.events(stream, &first.events).await?;
                let (events, last) = found.ok_or_else(|| row.removed(stream))?;
                (events, Some(last))
            }
        };
        let loaded = match last {
            Some(revision) => match self.loader.load_past(id, stream, Past::Revision(revision)).await {
                Err(LoadError::Deleted { .. }) => return Err(row.removed(stream)),
                loaded => loaded?,
            },
            None => Loaded::initial(id),
        };
        Ok(Executed::new(loaded, events, Outcome::Repeated))
    }
}
