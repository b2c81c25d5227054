//! [`UnitOfWork`]: executes commands to several aggregates, of one or several types, in one commit.
//!
//! ```text
//! execute(&rooms, id, Hold { .. })           turns of all streams, in the order of their names
//! execute(&reservations, id, Place { .. })     |
//! .await  ---------------------------------->  v
//!                       +--> for each command: load -> decide -> encode     a rejection or a failure ends the unit:
//!   another writer      |                                      |            nothing is written
//!   was faster: decide  |                                      v
//!   all of it again     +----------------------------------- one commit
//!                                                              |
//!                                                              v
//!                            for each command: fold, cache, snapshot -> (Executed<Room>, Executed<Reservation>)
//! ```
//!
//! [`Execute`](super::Execute) is a unit of one command.

mod batch;
mod commands;
mod error;
mod run;
mod tuple;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub use batch::CommandBatch;
pub(super) use commands::{Commands, One, Target};
pub(super) use error::Stop;
pub use error::{UnitError, UnitRejection};
pub(super) use run::{Job, run};

use crate::aggregate::repository::command_id::{Binding, Identified};
use crate::aggregate::repository::error::InfrastructureError;
use crate::aggregate::repository::metrics::UNIT;
use crate::aggregate::repository::options::{Options, Precondition};
use crate::aggregate::repository::{Repository, RetryPolicy};
use crate::aggregate::{Aggregate, CommandFor};
use crate::model::{
    CommandId, Context, ExpectedRevision, IdSource, Metadata, OneOrder, Position, Revision, SystemClock, SystemEntropy,
    Timestamp, Version,
};
use crate::store::{EventStore, Query};
use commands::Many;
use tuple::{Last, Push};

/// Commands to one or several aggregates that are executed atomically, in one commit.
///
/// Add commands with [`execute`](Self::execute) and [`execute_all`](Self::execute_all), then `.await` the unit. The
/// result of `execute` is an [`Executed`](crate::Executed), that of `execute_all` a `Vec` of them. With several calls,
/// the unit returns a tuple of the results in the order of the calls; with one call, it returns the result itself.
///
/// A tuple has at most eight elements. The ninth call starts a new tuple, whose first element is the tuple of the first
/// eight results. Rejections nest in the same way.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, es_core::Event)]
/// # enum Moved { #[event(name = "in")] In(u64), #[event(name = "out")] Out(u64) }
/// # use es_core::prelude::*;
/// # #[derive(Clone, Debug, Aggregate)]
/// # #[aggregate(category = "account", id = u64, event = Moved)]
/// # struct Account { cents: u64 }
/// # impl Evolve for Account {
/// #     fn initial(_: &u64) -> Self { Self { cents: 100 } }
/// #     fn evolve(&mut self, event: &Moved, _: &EventContext<'_>) {
/// #         match event { Moved::In(cents) => self.cents += cents, Moved::Out(cents) => self.cents -= cents }
/// #     }
/// # }
/// # #[derive(Clone)] struct Deposit { cents: u64 }
/// # #[derive(Clone)] struct Withdraw { cents: u64 }
/// # #[derive(Debug, thiserror::Error)] #[error("too little")] struct TooLittle;
/// # impl Decide<Deposit> for Account {
/// #     type Rejection = std::convert::Infallible;
/// #     fn decide(&self, command: Deposit, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
/// #         Ok(Moved::In(command.cents).into())
/// #     }
/// # }
/// # impl Decide<Withdraw> for Account {
/// #     type Rejection = TooLittle;
/// #     fn decide(&self, command: Withdraw, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, TooLittle> {
/// #         if self.cents < command.cents { return Err(TooLittle) }
/// #         Ok(Moved::Out(command.cents).into())
/// #     }
/// # }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// # use std::sync::Arc;
/// # use es_core::store::memory::MemoryStore;
/// use es_core::aggregate::{UnitError, UnitRejection};
/// use es_core::UnitOfWork;
///
/// let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
/// let accounts = Repository::<Account>::new(Arc::clone(&store));
/// let transfer = async |cents| {
///     UnitOfWork::new(&store)
///         .execute(&accounts, 1, Withdraw { cents })
///         .execute(&accounts, 2, Deposit { cents })
///         .await
/// };
/// let (from, to) = transfer(30).await?;
/// assert_eq!((from.state.cents, to.state.cents), (70, 130));
/// let rejected = transfer(71).await.expect_err("the first account has 70 cents");
/// assert!(matches!(rejected, UnitError::Rejected { index: 0, rejection: UnitRejection::First(TooLittle) }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// - **All or nothing**: the unit writes one [`Commit`](crate::Commit). Each aggregate must be unchanged between its
///   load and the commit. Otherwise *all* commands are decided again on the current states, as often as the retry
///   policy allows.
/// - **No deadlock**: units in one process wait for their turns in the order of the stream names.
/// - **One aggregate twice**: a later command is decided on the state after the earlier ones.
/// - **One store**: all repositories and the unit must share the same `Arc<dyn EventStore>`.
///
/// The retry policy, the wait for locks, the clock and the entropy are those of the first repository.
#[must_use = "a unit of work does nothing until it is awaited"]
pub struct UnitOfWork<'a, P = ()> {
    store: &'a Arc<dyn EventStore>,
    commands: P,
    options: Options,
    retry: Option<RetryPolicy>,
    lock_wait: Option<Duration>,
    ids: Option<IdSource<'a>>,
}

impl<P> fmt::Debug for UnitOfWork<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnitOfWork").field("store", &self.store).field("options", &self.options).finish_non_exhaustive()
    }
}

impl<'a> UnitOfWork<'a> {
    /// Returns a unit of work on this store, without commands.
    pub fn new(store: &'a Arc<dyn EventStore>) -> Self {
        Self { store, commands: (), options: Options::default(), retry: None, lock_wait: None, ids: None }
    }
}

impl<'a, P> UnitOfWork<'a, P> {
    /// Adds a command to one aggregate.
    pub fn execute<A: Aggregate, C: CommandFor<A>>(
        self,
        repository: &'a Repository<A>,
        id: A::Id,
        command: C,
    ) -> UnitOfWork<'a, <P as Push<One<'a, A, C::Accepted>>>::Output>
    where
        P: Push<One<'a, A, C::Accepted>>,
    {
        self.push(repository, One::new(repository, id, command.accepted()))
    }

    /// Adds any number of commands of one type to aggregates of one type.
    pub fn execute_all<A: Aggregate, C: CommandFor<A>>(
        self,
        repository: &'a Repository<A>,
        commands: impl IntoIterator<Item = (A::Id, C)>,
    ) -> UnitOfWork<'a, <P as Push<Many<'a, A, C::Accepted>>>::Output>
    where
        P: Push<Many<'a, A, C::Accepted>>,
    {
        let commands = commands.into_iter().map(|(id, command)| One::new(repository, id, command.accepted()));
        self.push(repository, Many::new(commands.collect()))
    }

    fn push<A, N>(self, repository: &'a Repository<A>, commands: N) -> UnitOfWork<'a, P::Output>
    where
        P: Push<N>,
    {
        UnitOfWork {
            store: self.store,
            commands: self.commands.push(commands),
            options: self.options,
            retry: self.retry.or(Some(repository.retry)),
            lock_wait: self.lock_wait.or(Some(repository.lock_wait)),
            ids: self.ids.or(Some(repository.ids())),
        }
    }

    /// Executes the unit at most once under this id. If it is executed again, even after a restart, it returns its
    /// first results. A rejection or a failure is not a result. The id must be unique for the aggregate of the first
    /// command.
    ///
    /// The id is bound to all commands of the unit: their types, contents, aggregates and order, and the time that
    /// [`occurred_at`](Self::occurred_at) sets. Other commands under the same id fail with
    /// [`CommandIdReused`](InfrastructureError::CommandIdReused). Set the id after all commands; a unit to which a
    /// command is added afterwards fails. [`Execute::with_id`](super::Execute::with_id) describes the digest.
    pub fn with_id(mut self, id: CommandId) -> Self
    where
        P: Identified,
    {
        self.options.binding = Some(Binding::new(id, &self.commands));
        self
    }

    /// Executes the unit at most once under this id, like [`with_id`](Self::with_id), and binds the id to `content`
    /// instead of the contents of the commands. See [`Execute::with_id_of`](super::Execute::with_id_of).
    pub fn with_id_of(mut self, id: CommandId, content: &(impl Serialize + ?Sized)) -> Self
    where
        P: Commands,
    {
        let mut types = Vec::new();
        self.commands.types(&mut types);
        self.options.binding = Some(Binding::to_content(id, &types, content));
        self
    }

    /// Sets the time in the domain at which all commands take effect. The default is the time of the call.
    pub fn occurred_at(mut self, time: Timestamp) -> Self {
        self.options.occurred_at = Some(time);
        self
    }

    /// Sets the metadata of every event.
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.options.metadata = metadata;
        self
    }

    /// Executes the unit in this context instead of that of the current task.
    pub fn in_context(mut self, context: Context) -> Self {
        self.options.context = Some(context);
        self
    }

    /// Executes the unit only if no event after the position `after` matches `query`; `None` covers the whole log.
    /// Otherwise it fails with a conflict and is not retried.
    ///
    /// If an item of the query has tags that events of the aggregate declare, older events must have them. Otherwise
    /// the execution fails with [`InfrastructureError::Tags`](crate::aggregate::InfrastructureError::Tags), as
    /// [`QueryItem::of_events`](crate::store::QueryItem::of_events) does. Events of other types are not checked.
    ///
    /// The condition is checked only on this node. For aggregates whose level has no [one order](OneOrder), other nodes
    /// may append a matching event at the same time.
    pub fn append_if_none(mut self, query: impl Into<Query>, after: Option<Position>) -> Self {
        self.options.conditions = self.options.conditions.append_if_none(query, after);
        self
    }

    /// Replaces the retry policy, which is that of the first repository by default.
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = Some(retry);
        self
    }
}

/// Preconditions on the aggregate of the last added command. They are checked on its stored state, before the unit.
impl<P: Last> UnitOfWork<'_, P> {
    /// Executes the unit only if the last event of the aggregate of the last command has this revision. Otherwise it
    /// fails with a conflict.
    pub fn at_revision(self, revision: Revision) -> Self
    where
        P::Aggregate: Aggregate<Level: OneOrder>,
    {
        self.expecting(ExpectedRevision::Exact(revision))
    }

    /// Executes the unit only if the aggregate of the last command has this version. Otherwise it fails with a
    /// conflict.
    pub fn at_version(mut self, version: Version) -> Self {
        *self.commands.precondition() = Precondition::Version(version);
        self
    }

    /// Executes the unit only if the aggregate of the last command meets this expectation. Otherwise it fails with a
    /// conflict.
    pub fn expecting(mut self, expected: ExpectedRevision) -> Self
    where
        P::Aggregate: Aggregate<Level: OneOrder>,
    {
        *self.commands.precondition() = Precondition::Revision(expected);
        self
    }
}

impl<'a, P: Commands + 'a> IntoFuture for UnitOfWork<'a, P> {
    type Output = Result<P::Results, UnitError<P::Rejection>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<P: Commands> UnitOfWork<'_, P> {
    async fn run(self) -> Result<P::Results, UnitError<P::Rejection>> {
        let mut targets = Vec::new();
        self.commands.targets(&mut targets)?;
        if let Some(target) = targets.iter().find(|target| !Arc::ptr_eq(target.store, self.store)) {
            return Err(InfrastructureError::OtherStore { stream: target.stream.clone() }.into());
        }
        let clock = SystemClock::new();
        let ids = self.ids.unwrap_or(IdSource { clock: &clock, entropy: &SystemEntropy });
        let job = Job {
            store: &**self.store,
            targets,
            time: self.options.occurred_at.unwrap_or_else(|| ids.clock.now()),
            options: &self.options,
            retry: self.retry.unwrap_or_default(),
            lock_wait: self.lock_wait.unwrap_or_default(),
            ids,
            metrics: &UNIT,
        };
        run(&self.commands, job).await.map_err(UnitError::from)
    }
}
