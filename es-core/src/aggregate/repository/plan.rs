//! [`Plan`]: a decided command that is not yet committed, so that several of them can share one commit.

use std::fmt;
use std::time::Duration;

use crate::aggregate::repository::Repository;
use crate::aggregate::repository::command_id::{FirstResult, ResultRow};
use crate::aggregate::repository::error::{ExecuteError, InfrastructureError, Locked};
use crate::aggregate::repository::execute::{Executed, Outcome};
use crate::aggregate::repository::loaded::Loaded;
use crate::aggregate::repository::options::{Options, Precondition};
use crate::aggregate::repository::unit::Stop;
use crate::aggregate::{Aggregate, Command, CommandContext, Decide, Decision, Evolve};
use crate::model::{
    CommitPart, Context, EventData, EventId, ExpectedRevision, IdSource, NewEvent, Position, RecordedEvent, Revision,
    StreamId, Timestamp, to_stored_precision,
};
use crate::schema::Event;
use crate::store::{Commit, Committed, Conflict, FailedCheck, home};

/// A decided command that is not yet committed: its events, and the state on which it was decided.
///
/// ```text
/// let plan = repository.plan(&id, command).await?;                            // load, decide, encode
/// let committed = store.commit(Commit::new().with(&plan).put_row(..)).await?; // commit with other changes
/// let executed = plan.complete(&committed)?;                                  // fold, take a snapshot, cache
/// ```
///
/// After a conflict, make a new plan, which decides on the current state. A commit accepts at most one plan for each
/// stream, because plans do not see each other's events. A [`UnitOfWork`](crate::UnitOfWork) accepts any number of
/// commands.
#[must_use = "a plan changes nothing until it is committed"]
pub struct Plan<'a, A: Aggregate> {
    repository: &'a Repository<A>,
    stream: StreamId,
    /// The stored state when the command was decided.
    stored: Loaded<A>,
    /// The expected revision of the aggregate after this command.
    revision: Option<Revision>,
    decision: Decision<A>,
    events: Vec<NewEvent>,
    /// The events as a reader will decode them, with their ids.
    decoded: Vec<(EventId, A::Event)>,
    /// The last event of the stream in the commit that belongs to the state after this command, if there is one.
    last: Option<EventId>,
}

impl<A: Aggregate> fmt::Debug for Plan<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("stream", &self.stream).field("events", &self.events).finish_non_exhaustive()
    }
}

impl<A: Aggregate> Plan<'_, A> {
    /// Returns the stream of the aggregate.
    #[must_use]
    pub const fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// Returns the decision of the aggregate.
    pub const fn decision(&self) -> &Decision<A> {
        &self.decision
    }
}

impl<A: Evolve> Plan<'_, A> {
    /// Returns the result of the command after its commit. Folds the events into the state, requests a snapshot if one
    /// is due, and caches the state.
    ///
    /// # Errors
    /// - [`InfrastructureError::NotCommitted`] if `committed` does not contain the events of this plan.
    /// - [`InfrastructureError::Load`] if the store returned the events of the stream with a gap.
    pub fn complete(self, committed: &Committed) -> Result<Executed<A>, InfrastructureError> {
        let Self { repository, stream, stored: mut loaded, decision, decoded, last, .. } = self;
        if let Some(last) = last {
            fold(&mut loaded, &stream, &decoded, last, committed)?;
            // A snapshot contains whole commits. A later command of the commit may have more events of the stream.
            if loaded.read_to == committed.revision(&stream) {
                repository.snapshot_if_due(&stream, &mut loaded, Duration::ZERO);
            }
            repository.loader.cache(&stream, &loaded);
        }
        let outcome = if decision.is_unchanged() { Outcome::Unchanged } else { Outcome::Done };
        Ok(Executed::new(loaded, decoded.into_iter().map(|(_, event)| event).collect(), outcome))
    }
}

/// Applies the recorded events of a stream up to and including the event `last`. Those of an earlier command of the
/// same commit are decoded again; its plan has decoded them before the commit.
fn fold<A: Evolve>(
    loaded: &mut Loaded<A>,
    stream: &StreamId,
    decoded: &[(EventId, A::Event)],
    last: EventId,
    committed: &Committed,
) -> Result<(), InfrastructureError> {
    let events = committed.events.iter().filter(|record| record.stream == *stream);
    let count = events.clone().position(|record| record.data.id == last).map(|index| index + 1);
    let count = count.ok_or_else(|| InfrastructureError::NotCommitted { stream: stream.clone() })?;
    let mut decoded = decoded.iter().peekable();
    for record in events.take(count) {
        // The stream may have been written and deleted after the load found no events. The commit expected no stream,
        // so its first event is the first of the new stream.
        if loaded.read_to.is_none() {
            loaded.begins = record.revision;
        }
        match decoded.next_if(|(id, _)| *id == record.data.id) {
            Some((_, event)) => loaded.apply_decoded(record.into(), event)?,
            None => loaded.apply(record.into())?,
        }
    }
    Ok(())
}

impl Commit {
    /// Adds the events of a plan, and the expectation that its aggregate has not changed since the plan was made.
    #[must_use]
    pub fn with<A: Aggregate>(self, plan: &Plan<'_, A>) -> Self {
        append_events(self, plan, plan.events.iter().cloned())
    }
}

/// Adds the expectations and the events of a plan to a commit.
fn append_events<A: Aggregate>(commit: Commit, plan: &Plan<'_, A>, events: impl Iterator<Item = NewEvent>) -> Commit {
    let stream = &plan.stream;
    let mut commit = commit.expect(stream.clone(), ExpectedRevision::unchanged(plan.stored.read_to));
    if plan.stored.read_to.is_some() {
        // A deleted stream keeps its last revision, so the exact revision alone would also accept a deleted state.
        commit = commit.expect(stream.clone(), ExpectedRevision::StreamExists);
    }
    events.fold(commit, |commit, event| commit.append(stream.clone(), event))
}

impl<A: Evolve> Repository<A> {
    /// Loads an aggregate and decides on a command without committing it. See [`Plan`].
    ///
    /// A plan does not wait for its turn. If another command to the aggregate is executed before the plan is committed,
    /// the commit conflicts.
    ///
    /// # Errors
    /// - [`ExecuteError::Rejected`] if the domain rejects the command.
    /// - [`ExecuteError::Locked`] if a prepared transaction locks the aggregate.
    /// - [`ExecuteError::NotOwner`] if another node decides on the aggregate.
    /// - [`ExecuteError::Failed`] if the infrastructure fails.
    pub async fn plan<C: Command>(&self, id: &A::Id, command: C) -> Result<Plan<'_, A>, ExecuteError<A::Rejection>>
    where
        A: Decide<C>,
    {
        let options = Options::default();
        let mut draft = Draft::new(&options, self.clock.now(), None, self.ids());
        let plan = self.plan_after(id, &A::stream(id)?, command, Precondition::None, &mut draft).await;
        plan.map_err(ExecuteError::from)
    }

    /// Decides on a command after the commands that the draft already contains.
    pub(super) async fn plan_after<C: Command>(
        &self,
        id: &A::Id,
        stream: &StreamId,
        command: C,
        precondition: Precondition,
        draft: &mut Draft<'_>,
    ) -> Result<Plan<'_, A>, Stop<A::Rejection>>
    where
        A: Decide<C>,
    {
        // 1 load
        if let Some(owner) = A::OWNER {
            // Also without events to write: the state here may be older than that of the home.
            home::check(&**self.store(), stream, owner.creator(id)).await?.map_err(Stop::NotOwner)?;
        }
        let stored = self.load_stream(id, stream).await?;
        if let Some(transaction) = &stored.lock {
            return Err(Stop::Locked(Locked { stream: stream.clone(), transaction: transaction.clone() }));
        }
        precondition.check(stream, &stored)?;
        let after_draft = draft.apply_to(&stored, stream)?;
        // 2 decide
        let current = after_draft.as_ref().unwrap_or(&stored);
        let context = CommandContext::new(id, current.revision, draft.time);
        let decision = current.state.decide(command, &context);
        let decision = decision.map_err(|rejection| Stop::Rejected { index: draft.commands, rejection })?;
        // 3 encode, and read back what was encoded
        let mut events = Vec::with_capacity(decision.events().len());
        let mut decoded = Vec::with_capacity(events.capacity());
        for event in decision.events() {
            let (event, read) = draft.encode(event)?;
            decoded.push((event.data.id, read));
            events.push(event);
        }
        match events.first_mut() {
            Some(first) => first.data.keys = decision.keys().clone(),
            None if decision.keys().is_empty() => {}
            None => return Err(InfrastructureError::KeysWithoutEvent { stream: stream.clone() }.into()),
        }
        let revision = match events.len() as u64 {
            0 => current.revision,
            count => Some(Revision::new(current.next().get().saturating_add(count - 1))),
        };
        let last = events.last().map(|event| event.data.id).or_else(|| draft.last_event(stream));
        Ok(Plan { repository: self, stream: stream.clone(), stored, revision, decision, events, decoded, last })
    }
}

/// The commit under construction while its commands are decided in order.
pub struct Draft<'a> {
    options: &'a Options,
    /// The time in the domain at which the commands take effect.
    time: Timestamp,
    ids: IdSource<'a>,
    context: Option<Context>,
    commit: Commit,
    /// The number of commands in the draft.
    commands: usize,
    /// The results of the commands, if they are stored under a command id.
    results: Option<Vec<FirstResult>>,
}

impl fmt::Debug for Draft<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").field("commit", &self.commit).finish_non_exhaustive()
    }
}

impl<'a> Draft<'a> {
    pub(super) fn new(options: &'a Options, time: Timestamp, row: Option<&ResultRow>, ids: IdSource<'a>) -> Self {
        let commit = options.conditions.clone();
        let results = row.map(|_| Vec::new());
        Self { options, time, ids, context: options.context, commit, commands: 0, results }
    }

    /// Returns the conditions of the caller, which the commit has.
    pub(super) const fn conditions(&self) -> &'a Commit {
        &self.options.conditions
    }

    /// Moves the events of a plan into the commit.
    pub(super) fn add<A: Aggregate>(&mut self, plan: &mut Plan<'_, A>) {
        if let Some(results) = &mut self.results {
            let events = plan.events.iter().map(|event| event.data.id).collect();
            results.push(FirstResult::new(plan.stream.clone(), events, plan.revision));
        }
        let events = std::mem::take(&mut plan.events);
        self.commit = append_events(std::mem::take(&mut self.commit), plan, events.into_iter());
        self.commands += 1;
    }

    /// Returns the commit, including the result row if there is one, or `None` if there is nothing to write.
    pub(super) fn into_commit(self, row: Option<&ResultRow>) -> Result<Option<Commit>, InfrastructureError> {
        match row.zip(self.results) {
            Some((row, results)) => Ok(Some(row.write(self.commit, results)?)),
            None if self.commit.events().is_empty() && self.options.conditions == Commit::new() => Ok(None),
            None => Ok(Some(self.commit)),
        }
    }

    /// Returns the id of the last event of a stream in the commit.
    fn last_event(&self, stream: &StreamId) -> Option<EventId> {
        self.events_of(stream).last().map(|event| event.data.id)
    }

    fn events_of<'s>(&'s self, stream: &'s StreamId) -> impl Iterator<Item = &'s NewEvent> {
        self.commit.events().iter().filter(move |(of, _)| of == stream).map(|(_, event)| event)
    }

    /// Returns the stored state with the events of the draft applied, or `None` if the draft has no event for the
    /// stream. The positions and recorded times of these events are not yet known, so the state must only be used for a
    /// decision.
    fn apply_to<A: Evolve, R>(&self, stored: &Loaded<A>, stream: &StreamId) -> Result<Option<Loaded<A>>, Stop<R>> {
        let mut events = self.events_of(stream).peekable();
        if events.peek().is_none() {
            return Ok(None);
        }
        let mut expectations = self.commit.expectations().iter().filter(|(of, _)| of == stream);
        if let Some((_, expected)) = expectations.find(|(_, expected)| !expected.is_met_by(stored.read_to)) {
            // Another writer appended to the stream between two loads of it.
            let failed = FailedCheck::Revision { stream: stream.clone(), expected: *expected, actual: stored.read_to };
            return Err(Stop::Lost(Conflict { failed: vec![failed] }));
        }
        let mut loaded = stored.clone();
        for event in events {
            let record = self.provisional(event, stream, loaded.next());
            loaded.apply((&record).into())?;
        }
        Ok(Some(loaded))
    }

    /// Returns a record of an event that is not yet committed.
    fn provisional(&self, event: &NewEvent, stream: &StreamId, revision: Revision) -> RecordedEvent {
        let time = to_stored_precision(self.time);
        RecordedEvent {
            position: Position::FIRST,
            stream: stream.clone(),
            revision,
            recorded_at: time,
            occurred_at: time,
            part: CommitPart { index: 0, size: 1 },
            data: event.data.clone(),
        }
    }

    /// Encodes an event. Returns it with the event that a reader will decode.
    fn encode<E: Event>(&mut self, event: &E) -> Result<(NewEvent, E), InfrastructureError> {
        let ids = self.ids;
        let context = *self.context.get_or_insert_with(|| {
            Context::current().unwrap_or_else(|| Context::with_correlation(ids.correlation_id()))
        });
        let (encoded, read) = event.encode_and_decode()?;
        let data = EventData {
            metadata: self.options.metadata.clone(),
            correlation_id: Some(context.correlation_id),
            causation_id: context.causation_id,
            ..encoded.into_data(ids.event_id())
        };
        Ok((NewEvent { data, occurred_at: self.options.occurred_at }, read))
    }
}
