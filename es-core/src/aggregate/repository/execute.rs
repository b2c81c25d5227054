//! Executing a command: load, decide, encode, commit, return.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use crate::aggregate::decision::{Decision, KeyChange};
use crate::aggregate::repository::Repository;
use crate::aggregate::repository::command_id::{CommandId, FirstResult, ResultRow};
use crate::aggregate::repository::error::{ExecuteError, MachineryError, conflict_or_failure};
use crate::aggregate::repository::load::{Loaded, Past};
use crate::aggregate::{Aggregate, Command, CommandContext, Decide};
use crate::model::Context;
use crate::model::{CorrelationId, EventId, Metadata, NewEvent, Timestamp};
use crate::model::{ExpectedRevision, Position, Revision};
use crate::model::{OneOrder, StreamId};
use crate::schema::Event;
use crate::store::{Commit, Committed, Conflict, FailedCheck, Query};

/// The result of a command.
#[derive(Debug, Clone)]
pub struct Executed<A: Aggregate> {
    /// The events that it led to, in order.
    pub events: Vec<A::Event>,
    /// The state behind them.
    pub state: A,
    /// The revision of the aggregate behind them; `None` where it has no event at all.
    pub revision: Option<Revision>,
    /// The position of the last event of the aggregate; `None` where it has none. Who waits until a view has reached it
    /// reads his own write.
    pub position: Option<Position>,
    /// What kind of result it is.
    pub outcome: Outcome,
}

/// What kind of result a command has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It led to events, or was accepted without any.
    Done,
    /// It led to no event, because the state already was as it asks for.
    Unchanged,
    /// It was executed before under the same command id: this is the first result, and nothing happened now.
    Repeated,
}

/// A command about to be executed: `.await` it, or first say how.
#[must_use = "a command does nothing until it is awaited"]
pub struct Execute<'a, A: Aggregate, C> {
    repository: &'a Repository<A>,
    id: A::Id,
    command: C,
    expected: ExpectedRevision,
    command_id: Option<CommandId>,
    occurred_at: Option<Timestamp>,
    metadata: Metadata,
    context: Option<Context>,
    conditions: Commit,
}

impl<A: Aggregate, C> fmt::Debug for Execute<'_, A, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execute").field("id", &self.id).field("expected", &self.expected).finish_non_exhaustive()
    }
}

impl<'a, A: Aggregate, C> Execute<'a, A, C> {
    pub(crate) fn new(repository: &'a Repository<A>, id: A::Id, command: C) -> Self {
        Self {
            repository,
            id,
            command,
            expected: ExpectedRevision::Any,
            command_id: None,
            occurred_at: None,
            metadata: Metadata::new(),
            context: None,
            conditions: Commit::new(),
        }
    }

    /// Executes the command only if the last event of the aggregate has this revision; otherwise it fails with a conflict
    /// and is not decided again.
    ///
    /// It is not available for a level without [one order](OneOrder).
    pub fn at_revision(self, revision: Revision) -> Self
    where
        A: Aggregate<Level: OneOrder>,
    {
        self.expecting(ExpectedRevision::Exact(revision))
    }

    /// Executes the command only if the aggregate is as expected; otherwise it fails with a conflict and is not decided
    /// again.
    ///
    /// It is not available for a level without [one order](OneOrder): there, each node has other revisions, and an aggregate
    /// that is new on one node may exist on another.
    pub fn expecting(mut self, expected: ExpectedRevision) -> Self
    where
        A: Aggregate<Level: OneOrder>,
    {
        self.expected = expected;
        self
    }

    /// At most once under this id: executed again, also after a restart, it gives its first result. A refusal or a failure
    /// is not a result.
    pub fn with_id(mut self, id: CommandId) -> Self {
        self.command_id = Some(id);
        self
    }

    /// Takes effect at this time in the business; without it, at the time of the call.
    pub fn occurred_at(mut self, time: Timestamp) -> Self {
        self.occurred_at = Some(time);
        self
    }

    /// Annotates every event.
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// In this context instead of that of the running task.
    pub fn in_context(mut self, context: Context) -> Self {
        self.context = Some(context);
        self
    }

    /// Executes the command only if no event after the position `after` matches `query`, of the whole log for `None`;
    /// otherwise it fails with a conflict and is not decided again.
    ///
    /// It is not available for a level without [one order](OneOrder), because another node may append a matching event at
    /// the same time.
    pub fn append_if_none(mut self, query: impl Into<Query>, after: Option<Position>) -> Self
    where
        A: Aggregate<Level: OneOrder>,
    {
        self.conditions = self.conditions.unless(query, after);
        self
    }
}

/// The future of an [`Execute`].
pub type Executing<'a, A, R> = Pin<Box<dyn Future<Output = Result<Executed<A>, ExecuteError<R>>> + Send + 'a>>;

impl<'a, A: Decide<C>, C: Command + 'a> IntoFuture for Execute<'a, A, C> {
    type Output = Result<Executed<A>, ExecuteError<A::Rejection>>;
    type IntoFuture = Executing<'a, A, A::Rejection>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// What one attempt came to.
enum Attempt<A: Aggregate> {
    Done(Executed<A>),
    /// Another writer was faster; deciding again may succeed.
    Lost(Conflict),
}

impl<A: Decide<C>, C: Command> Execute<'_, A, C> {
    /// Attempts until one succeeds, is refused, fails, or the retry policy ends.
    async fn run(self) -> Result<Executed<A>, ExecuteError<A::Rejection>> {
        let stream = A::stream(&self.id)?;
        let result_row = self.command_id.clone().map(|id| ResultRow::new(&stream, id));
        let time = self.occurred_at.unwrap_or_else(|| self.repository.clock.now());
        let mut pauses = self.repository.retry.pauses();
        loop {
            let turn = self.repository.turns.wait(&stream).await;
            let lost = match self.attempt(&stream, result_row.as_ref(), time).await? {
                Attempt::Done(executed) => return Ok(executed),
                Attempt::Lost(conflict) => conflict,
            };
            drop(turn);
            let Some(pause) = pauses.next() else { return Err(ExecuteError::Conflict(lost)) };
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(
        &self,
        stream: &StreamId,
        result_row: Option<&ResultRow>,
        time: Timestamp,
    ) -> Result<Attempt<A>, ExecuteError<A::Rejection>> {
        if let Some(first) = self.first_result(stream, result_row).await? {
            return Ok(Attempt::Done(first));
        }
        // 1 load
        let loaded = self.repository.load_stream(&self.id, stream).await?;
        self.check_expected(stream, loaded.revision)?;
        // 2 decide
        let context = CommandContext::new(&self.id, loaded.revision, time);
        let decision = loaded.state.decide(self.command.clone(), &context).map_err(ExecuteError::Rejected)?;
        // 3 encode
        let commit = self.commit(stream, &loaded, &decision, result_row, time)?;
        // 4 commit
        let committed = match commit {
            None => Committed { events: Vec::new(), repeated: false },
            Some(commit) => match self.repository.loader.store.commit(commit).await {
                Ok(committed) => committed,
                Err(error) => return self.lost(stream, conflict_or_failure(error)?),
            },
        };
        // 5 return
        Ok(Attempt::Done(self.repository.executed(stream, loaded, decision, &committed)?))
    }

    /// The first result of a command that was executed before under the same id.
    async fn first_result(
        &self,
        stream: &StreamId,
        result_row: Option<&ResultRow>,
    ) -> Result<Option<Executed<A>>, MachineryError> {
        let Some(row) = result_row else { return Ok(None) };
        let loader = &self.repository.loader;
        let Some(first) = row.read(&*loader.store).await? else { return Ok(None) };
        let loaded = match first.revision {
            Some(revision) => loader.load_past(&self.id, stream, Past::Revision(revision)).await?,
            None => Loaded::initial(&self.id),
        };
        let events = match first.revision {
            Some(last) if first.events > 0 => {
                let from = Revision::new((last.get() + 1).saturating_sub(first.events));
                loader.events(stream, from, first.events).await?
            }
            _ => Vec::new(),
        };
        let Loaded { state, revision, position, .. } = loaded;
        Ok(Some(Executed { events, state, revision, position, outcome: Outcome::Repeated }))
    }

    fn check_expected(&self, stream: &StreamId, actual: Option<Revision>) -> Result<(), ExecuteError<A::Rejection>> {
        if self.expected.is_met_by(actual) {
            return Ok(());
        }
        let failed = FailedCheck::Revision { stream: stream.clone(), expected: self.expected, actual };
        Err(ExecuteError::Conflict(Conflict { failed: vec![failed] }))
    }

    /// What is to be written; `None` where the command changes nothing and need not be remembered.
    fn commit(
        &self,
        stream: &StreamId,
        loaded: &Loaded<A>,
        decision: &Decision<A>,
        result_row: Option<&ResultRow>,
        time: Timestamp,
    ) -> Result<Option<Commit>, MachineryError> {
        let events = decision.events();
        if events.is_empty() && result_row.is_none() && self.conditions == Commit::new() {
            return Ok(None);
        }
        let mut commit = self.conditions.clone().expect(stream.clone(), ExpectedRevision::unchanged(loaded.revision));
        let context = self.context.or_else(Context::current);
        let context = context.unwrap_or_else(|| Context::with_correlation(CorrelationId::new()));
        for event in events {
            commit = commit.append(stream.clone(), self.encode(event, context, time)?);
        }
        for change in decision.key_changes().iter().filter(|_| !events.is_empty()) {
            commit = match change {
                KeyChange::Claim(key) => commit.claim(key.clone(), stream.clone()),
                KeyChange::Release(key) => commit.release(key.clone(), stream.clone()),
            };
        }
        if let Some(row) = result_row {
            let count = events.len() as u64;
            let first = FirstResult {
                events: count,
                revision: match count {
                    0 => loaded.revision,
                    _ => Some(Revision::new(loaded.next().get().saturating_add(count - 1))),
                },
            };
            commit = row.write(commit, &first)?;
        }
        Ok(Some(commit))
    }

    fn encode(&self, event: &A::Event, context: Context, time: Timestamp) -> Result<NewEvent, MachineryError> {
        let encoded = event.encode()?;
        Ok(NewEvent {
            id: EventId::new(),
            event_type: encoded.event_type,
            version: encoded.version,
            content_type: encoded.content_type,
            payload: encoded.payload,
            tags: encoded.tags,
            metadata: self.metadata.clone(),
            occurred_at: self.occurred_at.map(|_| time),
            correlation_id: Some(context.correlation_id),
            causation_id: context.causation_id,
        })
    }

    /// A conflict on the aggregate itself, or on the result of the command, can be decided again; others cannot.
    fn lost(&self, stream: &StreamId, conflict: Conflict) -> Result<Attempt<A>, ExecuteError<A::Rejection>> {
        self.repository.loader.forget(stream);
        let can_be_decided_again = self.expected == ExpectedRevision::Any
            && conflict.failed.iter().all(|check| match check {
                FailedCheck::Revision { .. } | FailedCheck::Row { .. } => true,
                FailedCheck::Deleted { .. } | FailedCheck::Match { .. } | FailedCheck::UniqueKey { .. } => false,
            });
        if can_be_decided_again { Ok(Attempt::Lost(conflict)) } else { Err(ExecuteError::Conflict(conflict)) }
    }
}

impl<A: crate::aggregate::Evolve> Repository<A> {
    /// Folds what was committed into the state that was decided on.
    fn executed(
        &self,
        stream: &StreamId,
        mut loaded: Loaded<A>,
        decision: Decision<A>,
        committed: &Committed,
    ) -> Result<Executed<A>, MachineryError> {
        for record in committed.events.iter().filter(|record| record.stream == *stream) {
            // NOTE: the stream may have been written and deleted since it was found to have nothing; what was committed then,
            // expecting no stream, begins it anew.
            if loaded.revision.is_none() {
                loaded.begins = record.revision;
            }
            loaded.take(record)?;
        }
        if !committed.events.is_empty() {
            self.snapshot_if_due(stream, &mut loaded, std::time::Duration::ZERO);
            self.loader.cache(stream, &loaded);
        }
        let outcome = if decision.is_unchanged() { Outcome::Unchanged } else { Outcome::Done };
        let Loaded { state, revision, position, .. } = loaded;
        Ok(Executed { events: decision.into_events(), state, revision, position, outcome })
    }
}
