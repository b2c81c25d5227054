//! [`Plan`]: a command that is decided on and not committed, so that several of them can share one commit.

use std::fmt;
use std::time::Duration;

use crate::aggregate::repository::Repository;
use crate::aggregate::repository::command_id::{FirstResult, ResultRow};
use crate::aggregate::repository::error::{ExecuteError, InfrastructureError};
use crate::aggregate::repository::execute::{Executed, Outcome};
use crate::aggregate::repository::load::Loaded;
use crate::aggregate::repository::options::{Demand, Options};
use crate::aggregate::repository::unit::Stop;
use crate::aggregate::{Aggregate, Command, CommandContext, Decide, Decision, Evolve};
use crate::model::{
    CommitPart, Context, EventData, EventId, ExpectedRevision, IdSource, NewEvent, Position, RecordedEvent, Revision,
    StreamId, Timestamp, to_stored_precision,
};
use crate::schema::Event;
use crate::store::{Commit, Committed, Conflict, FailedCheck};

/// A command that is decided on and not committed: its events, and the state that they were decided on.
///
/// ```text
/// let plan = repository.plan(&id, command).await?;                            // load, decide, encode
/// let committed = store.commit(Commit::new().with(&plan).put_row(..)).await?; // with whatever must change with it
/// let executed = plan.complete(&committed)?;                                  // fold the result, keep snapshot and cache
/// ```
///
/// After a conflict, make a new plan: it decides again on the present state. One commit takes at most one plan for each stream,
/// because plans do not see each other; a [`UnitOfWork`](crate::UnitOfWork) takes any number.
#[must_use = "a plan changes nothing until it is committed"]
pub struct Plan<'a, A: Aggregate> {
    repository: &'a Repository<A>,
    stream: StreamId,
    /// The state in the store when the command was decided.
    stored: Loaded<A>,
    /// The revision of the state after this command, as far as it is known before the commit.
    revision: Option<Revision>,
    decision: Decision<A>,
    events: Vec<NewEvent>,
    /// The last event of the stream, in the commit, that belongs to the state after this command; `None` if there is none.
    last: Option<EventId>,
}

impl<A: Aggregate> fmt::Debug for Plan<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("stream", &self.stream).field("events", &self.events).finish_non_exhaustive()
    }
}

impl<A: Aggregate> Plan<'_, A> {
    /// The stream of the aggregate.
    #[must_use]
    pub const fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// What the handler decided.
    pub const fn decision(&self) -> &Decision<A> {
        &self.decision
    }
}

impl<A: Evolve> Plan<'_, A> {
    /// Returns the result of the command after its commit: folds the recorded events into the state, takes a snapshot if one is
    /// due, and caches the state.
    ///
    /// # Errors
    /// - [`InfrastructureError::NotCommitted`]: `committed` does not contain the events of this plan.
    /// - [`InfrastructureError::Load`]: a recorded event cannot be decoded. The commit is written nevertheless.
    pub fn complete(self, committed: &Committed) -> Result<Executed<A>, InfrastructureError> {
        let Self { repository, stream, stored: mut loaded, decision, last, .. } = self;
        if let Some(last) = last {
            fold(&mut loaded, &stream, last, committed)?;
            repository.snapshot_if_due(&stream, &mut loaded, Duration::ZERO);
            repository.loader.cache(&stream, &loaded);
        }
        let outcome = if decision.is_unchanged() { Outcome::Unchanged } else { Outcome::Done };
        Ok(Executed::new(loaded, decision.into_events(), outcome))
    }
}

/// Applies the recorded events of a stream up to and including the event `last`.
fn fold<A: Evolve>(
    loaded: &mut Loaded<A>,
    stream: &StreamId,
    last: EventId,
    committed: &Committed,
) -> Result<(), InfrastructureError> {
    let events = committed.events.iter().filter(|record| record.stream == *stream);
    let count = events.clone().position(|record| record.data.id == last).map(|index| index + 1);
    let count = count.ok_or_else(|| InfrastructureError::NotCommitted { stream: stream.clone() })?;
    for record in events.take(count) {
        // The stream may have been written and deleted since the load found no events. The commit expected no stream, so its
        // first event begins the stream again.
        if loaded.revision.is_none() {
            loaded.begins = record.revision;
        }
        loaded.take(record.into())?;
    }
    Ok(())
}

impl Commit {
    /// Adds the events of a plan, and the condition that its aggregate has not changed since the plan was made.
    #[must_use]
    pub fn with<A: Aggregate>(self, plan: &Plan<'_, A>) -> Self {
        append_all(self, plan, plan.events.iter().cloned())
    }
}

/// Adds events of a plan to a commit, with everything that must change with them.
fn append_all<A: Aggregate>(commit: Commit, plan: &Plan<'_, A>, events: impl Iterator<Item = NewEvent>) -> Commit {
    let stream = &plan.stream;
    let commit = commit.expect(stream.clone(), ExpectedRevision::unchanged(plan.stored.revision));
    events.fold(commit, |commit, event| commit.append(stream.clone(), event))
}

impl<A: Evolve> Repository<A> {
    /// Loads an aggregate and decides on a command, without a commit. See [`Plan`].
    ///
    /// It takes no turn: another command to the aggregate may be executed before the plan is committed. Then the commit conflicts.
    ///
    /// # Errors
    /// [`ExecuteError`]: a rejection by the domain, or a failure of the infrastructure.
    pub async fn plan<C: Command>(&self, id: &A::Id, command: C) -> Result<Plan<'_, A>, ExecuteError<A::Rejection>>
    where
        A: Decide<C>,
    {
        let options = Options::default();
        let mut draft = Draft::new(&options, self.clock.now(), None, self.ids());
        let plan = self.plan_after(id, &A::stream(id)?, command, Demand::None, &mut draft).await;
        plan.map_err(ExecuteError::from)
    }

    /// Decides on a command after the commands that the draft contains already.
    pub(super) async fn plan_after<C: Command>(
        &self,
        id: &A::Id,
        stream: &StreamId,
        command: C,
        demand: Demand,
        draft: &mut Draft<'_>,
    ) -> Result<Plan<'_, A>, Stop<A::Rejection>>
    where
        A: Decide<C>,
    {
        // 1 load
        let stored = self.load_stream(id, stream).await?;
        demand.check(stream, &stored)?;
        let after_draft = draft.apply_to(&stored, stream)?;
        // 2 decide
        let present = after_draft.as_ref().unwrap_or(&stored);
        let context = CommandContext::new(id, present.revision, draft.time);
        let decision = present.state.decide(command, &context);
        let decision = decision.map_err(|rejection| Stop::Rejected { index: draft.commands, rejection })?;
        // 3 encode
        let events = decision.events().iter().map(|event| draft.encode(event));
        let mut events = events.collect::<Result<Vec<NewEvent>, _>>()?;
        match events.first_mut() {
            Some(first) => first.data.keys = decision.keys().clone(),
            None if decision.keys().is_empty() => {}
            None => return Err(InfrastructureError::KeysWithoutEvent { stream: stream.clone() }.into()),
        }
        let revision = match events.len() as u64 {
            0 => present.revision,
            count => Some(Revision::new(present.next().get().saturating_add(count - 1))),
        };
        let last = events.last().map(|event| event.data.id).or_else(|| draft.last_event(stream));
        Ok(Plan { repository: self, stream: stream.clone(), stored, revision, decision, events, last })
    }
}

/// What a commit will contain, while its commands are decided one after the other.
pub struct Draft<'a> {
    options: &'a Options,
    /// When the commands take effect.
    time: Timestamp,
    ids: IdSource<'a>,
    context: Option<Context>,
    commit: Commit,
    /// How many commands it contains.
    commands: usize,
    /// The results of the commands, if they are to be stored.
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

    /// Moves the events of a plan into the commit.
    pub(super) fn add<A: Aggregate>(&mut self, plan: &mut Plan<'_, A>) {
        if let Some(results) = &mut self.results {
            let events = plan.events.iter().map(|event| event.data.id).collect();
            results.push(FirstResult { stream: plan.stream.clone(), events, last: plan.revision });
        }
        let events = std::mem::take(&mut plan.events);
        self.commit = append_all(std::mem::take(&mut self.commit), plan, events.into_iter());
        self.commands += 1;
    }

    /// Returns the commit, with the results of its commands in their row; `None` if there is nothing to write.
    pub(super) fn into_commit(self, row: Option<&ResultRow>) -> Result<Option<Commit>, InfrastructureError> {
        match row.zip(self.results) {
            Some((row, results)) => Ok(Some(row.write(self.commit, results)?)),
            None if self.commit.events().is_empty() && self.options.conditions == Commit::new() => Ok(None),
            None => Ok(Some(self.commit)),
        }
    }

    /// The last event of a stream in the commit.
    fn last_event(&self, stream: &StreamId) -> Option<EventId> {
        self.events_of(stream).last().map(|event| event.data.id)
    }

    fn events_of<'s>(&'s self, stream: &'s StreamId) -> impl Iterator<Item = &'s NewEvent> {
        self.commit.events().iter().filter(move |(of, _)| of == stream).map(|(_, event)| event)
    }

    /// Returns the state after the events that the commit has for the stream; `None` if it has none. Position and recorded time of
    /// these events are not known yet: the state is good for a decision only.
    fn apply_to<A: Evolve, R>(&self, stored: &Loaded<A>, stream: &StreamId) -> Result<Option<Loaded<A>>, Stop<R>> {
        let mut events = self.events_of(stream).peekable();
        if events.peek().is_none() {
            return Ok(None);
        }
        let mut expectations = self.commit.expectations().iter().filter(|(of, _)| of == stream);
        if let Some((_, expected)) = expectations.find(|(_, expected)| !expected.is_met_by(stored.revision)) {
            // Another writer was faster between two loads of this stream.
            let failed = FailedCheck::Revision { stream: stream.clone(), expected: *expected, actual: stored.revision };
            return Err(Stop::Lost(Conflict { failed: vec![failed] }));
        }
        let mut loaded = stored.clone();
        for event in events {
            let record = self.provisional(event, stream, loaded.next());
            loaded.take((&record).into())?;
        }
        Ok(Some(loaded))
    }

    /// The record of an event that is not committed yet.
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

    fn encode(&mut self, event: &impl Event) -> Result<NewEvent, InfrastructureError> {
        let ids = self.ids;
        let context = *self.context.get_or_insert_with(|| {
            Context::current().unwrap_or_else(|| Context::with_correlation(ids.correlation_id()))
        });
        let data = EventData {
            metadata: self.options.metadata.clone(),
            correlation_id: Some(context.correlation_id),
            causation_id: context.causation_id,
            ..event.encode()?.into_data(ids.event_id())
        };
        Ok(NewEvent { data, occurred_at: self.options.occurred_at })
    }
}
