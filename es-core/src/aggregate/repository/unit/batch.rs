//! [`CommandBatch`]: commands to aggregates of any types, collected at run time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::aggregate::repository::Repository;
use crate::aggregate::repository::command_id::{FirstResult, ResultRow};
use crate::aggregate::repository::error::{ExecuteError, InfrastructureError};
use crate::aggregate::repository::metrics::UNIT;
use crate::aggregate::repository::options::{Options, Precondition, Preparation};
use crate::aggregate::repository::plan::{Draft, Plan};
use crate::aggregate::repository::retry::RetryPolicy;
use crate::aggregate::repository::unit::commands::{Commands, Target};
use crate::aggregate::repository::unit::error::{Stop, UnitError};
use crate::aggregate::repository::unit::run::{Job, run};
use crate::aggregate::{Aggregate, Command, CommandFor, Decide};
use crate::model::{IdSource, NameError, OneOrder, StreamId, SystemClock, SystemEntropy, TransactionId};
use crate::store::transaction::is_transaction_event;
use crate::store::{Commit, Committed, EventStore, StoreError};

/// Commands to aggregates of any types in one store, collected at run time. They are decided in order, and committed
/// together or prepared together in a distributed transaction.
///
/// A [`UnitOfWork`](crate::UnitOfWork) has typed results and rejections. A batch has none: its commands are not known
/// when it is compiled. The crate es-transaction is built on it.
pub struct CommandBatch {
    store: Arc<dyn EventStore>,
    commands: Vec<Box<dyn AnyCommand>>,
}

impl fmt::Debug for CommandBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streams = self.commands.iter().map(|command| command.target().stream);
        f.debug_list().entries(streams).finish()
    }
}

impl CommandBatch {
    /// Returns a batch without commands, to aggregates of this store.
    #[must_use]
    pub const fn new(store: Arc<dyn EventStore>) -> Self {
        Self { store, commands: Vec::new() }
    }

    /// Returns `true` if the batch has no commands.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Adds a command, and decides on it after the commands that the batch already contains. Nothing is written. The
    /// command is decided again when the batch is committed or prepared, and so are the earlier commands of the batch
    /// at each `add`. If it decides on no events, its aggregate is neither written nor locked while the batch is
    /// prepared: another commit may change it before the outcome.
    ///
    /// # Errors
    /// The batch does not change if this fails.
    ///
    /// - [`ExecuteError::Rejected`] if the domain rejects the command.
    /// - [`ExecuteError::Failed`] if the infrastructure fails, or the repository uses another store than the batch.
    pub async fn add<A, C>(
        &mut self,
        repository: &Arc<Repository<A>>,
        id: &A::Id,
        command: C,
    ) -> Result<(), ExecuteError<A::Rejection>>
    where
        A: Decide<C::Accepted> + Aggregate<Level: OneOrder, Id: Send + Sync>,
        A::Rejection: fmt::Display,
        C: CommandFor<A>,
        C::Accepted: Command + 'static,
    {
        let stream = A::stream(id)?;
        if !Arc::ptr_eq(&self.store, &repository.loader.store) {
            return Err(InfrastructureError::OtherStore { stream }.into());
        }
        let (repository, id, command) = (Arc::clone(repository), id.clone(), command.accepted());
        let added = OwnedCommand { repository, id, stream, command };
        let options = Options::default();
        let ids = added.repository.ids();
        let mut draft = Draft::new(&options, ids.clock.now(), None, ids);
        for command in &self.commands {
            if command.plan(&mut draft).await.is_err() {
                // The commit reports it. Until then, the state that the new command would see is not known.
                self.commands.push(Box::new(added));
                return Ok(());
            }
        }
        match added.decide(&mut draft).await {
            // The commit of the batch waits for the end of the transaction that locks the aggregate.
            Ok(_) | Err(Stop::Locked(_) | Stop::Lost(_)) => {}
            Err(stop) => return Err(stop.into()),
        }
        self.commands.push(Box::new(added));
        Ok(())
    }

    /// Executes the commands in one commit, which also contains the conditions, events and rows of `other`. After a
    /// conflict, all commands are decided again.
    ///
    /// # Errors
    /// [`UnitError`]. A rejection is the text of the domain's error. A failed condition of `other` is a conflict.
    pub async fn commit(&self, other: Commit) -> Result<Committed, UnitError<String>> {
        let lock_wait = self.commands.first().map(|first| first.lock_wait()).unwrap_or_default();
        let options = Options { conditions: other, ..Options::default() };
        let retry = self.commands.first().map(|first| first.retry()).unwrap_or_default();
        self.run(&options, retry, lock_wait).await
    }

    /// Prepares the decided events of the commands in a transaction, in one commit. Each of its streams is locked until
    /// the transaction ends. `details` is what the participant keeps in the events; `rows` adds conditions and rows to
    /// the commit that locks these streams. Nothing is written if the commands decide on no events. It does not wait
    /// for locks.
    ///
    /// # Errors
    /// [`UnitError`]. A rejection is the text of the domain's error. A failed condition of `rows`, or another writer
    /// that was faster, is a conflict, which is not retried.
    pub async fn prepare(
        &self,
        transaction: &TransactionId,
        details: serde_json::Value,
        rows: impl Fn(&[StreamId], Commit) -> Result<Commit, StoreError> + Send + Sync + 'static,
    ) -> Result<Committed, UnitError<String>> {
        let preparation = Some(Preparation { transaction: transaction.clone(), details, rows: Box::new(rows) });
        let options = Options { preparation, ..Options::default() };
        self.run(&options, RetryPolicy::NEVER, Duration::ZERO).await
    }

    async fn run(
        &self,
        options: &Options,
        retry: RetryPolicy,
        lock_wait: Duration,
    ) -> Result<Committed, UnitError<String>> {
        let clock = SystemClock::new();
        let first = self.commands.first();
        let ids = first.map_or(IdSource { clock: &clock, entropy: &SystemEntropy }, |first| first.ids());
        let commands = BatchCommands(&self.commands);
        let mut targets = Vec::with_capacity(self.commands.len());
        commands.targets(&mut targets)?;
        let job =
            Job { store: &*self.store, targets, time: ids.clock.now(), options, retry, lock_wait, ids, metrics: &UNIT };
        run(&commands, job).await.map_err(UnitError::from)
    }
}

/// A command to an aggregate of any type.
#[async_trait]
trait AnyCommand: Send + Sync {
    fn target(&self) -> Target<'_>;

    fn ids(&self) -> IdSource<'_>;

    fn retry(&self) -> RetryPolicy;

    fn lock_wait(&self) -> Duration;

    fn command_type(&self) -> &'static str;

    /// Decides on the command and adds its events to the draft.
    async fn plan<'s>(&'s self, draft: &mut Draft<'_>) -> Result<Box<dyn AnyPlan + 's>, Stop<String>>;

    /// Removes the aggregate from the cache.
    fn evict(&self);
}

/// A plan for an aggregate of any type.
trait AnyPlan: Send {
    /// Folds the committed events.
    fn complete(self: Box<Self>, committed: &Committed) -> Result<(), InfrastructureError>;
}

impl<A: crate::aggregate::Evolve> AnyPlan for Plan<'_, A> {
    fn complete(self: Box<Self>, committed: &Committed) -> Result<(), InfrastructureError> {
        (*self).complete(committed).map(drop)
    }
}

struct OwnedCommand<A: Aggregate, C> {
    repository: Arc<Repository<A>>,
    id: A::Id,
    stream: StreamId,
    command: C,
}

impl<A: Decide<C>, C: Command> OwnedCommand<A, C> {
    async fn decide(&self, draft: &mut Draft<'_>) -> Result<Plan<'_, A>, Stop<A::Rejection>> {
        self.repository.check_tags(draft.conditions()).await?;
        let Self { repository, id, stream, command } = self;
        let mut plan = repository.plan_after(id, stream, command.clone(), Precondition::None, draft).await?;
        draft.add(&mut plan);
        Ok(plan)
    }
}

#[async_trait]
impl<A, C> AnyCommand for OwnedCommand<A, C>
where
    A: Decide<C> + Aggregate<Id: Send + Sync>,
    A::Rejection: fmt::Display,
    C: Command + 'static,
{
    fn target(&self) -> Target<'_> {
        let Repository { turns, loader, .. } = &*self.repository;
        Target { stream: self.stream.clone(), turns, store: &loader.store }
    }

    fn ids(&self) -> IdSource<'_> {
        self.repository.ids()
    }

    fn retry(&self) -> RetryPolicy {
        self.repository.retry
    }

    fn lock_wait(&self) -> Duration {
        self.repository.lock_wait
    }

    fn command_type(&self) -> &'static str {
        std::any::type_name::<C>()
    }

    async fn plan<'s>(&'s self, draft: &mut Draft<'_>) -> Result<Box<dyn AnyPlan + 's>, Stop<String>> {
        let plan = self.decide(draft).await.map_err(|stop| stop.map(|rejection| rejection.to_string()))?;
        Ok(Box::new(plan))
    }

    fn evict(&self) {
        self.repository.loader.evict(&self.stream);
    }
}

/// The commands of a batch.
struct BatchCommands<'a>(&'a [Box<dyn AnyCommand>]);

impl<'a> Commands for BatchCommands<'a> {
    type Plans = Vec<Box<dyn AnyPlan + 'a>>;
    type Results = Committed;
    type Rejection = String;

    fn targets<'s>(&'s self, targets: &mut Vec<Target<'s>>) -> Result<(), NameError> {
        targets.extend(self.0.iter().map(|command| command.target()));
        Ok(())
    }

    fn types(&self, types: &mut Vec<&'static str>) {
        types.extend(self.0.iter().map(|command| command.command_type()));
    }

    async fn plan(&self, draft: &mut Draft<'_>) -> Result<Self::Plans, Stop<String>> {
        let mut plans = Vec::with_capacity(self.0.len());
        for command in self.0 {
            plans.push(command.plan(draft).await?);
        }
        Ok(plans)
    }

    fn complete(plans: Self::Plans, committed: &Committed) -> Result<Committed, InfrastructureError> {
        // Prepared events are not part of the states yet.
        let is_prepared = committed.events.iter().any(|event| is_transaction_event(&event.data.event_type));
        if !is_prepared {
            plans.into_iter().try_for_each(|plan| plan.complete(committed))?;
        }
        Ok(committed.clone())
    }

    async fn first_results(
        &self,
        row: &ResultRow,
        _: &mut (impl Iterator<Item = FirstResult> + Send),
    ) -> Result<Committed, InfrastructureError> {
        Err(row.unusable("a batch of commands has no id"))
    }

    fn evict(&self) {
        self.0.iter().for_each(|command| command.evict());
    }
}
