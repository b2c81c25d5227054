//! [`ProcessEngine`]: loads an instance, lets it react, and commits the reaction.
//!
//! ```text
//!   load journal, state --react--> events of both, commands, sagas, rows --one commit--> handled
//!    ^                                                                      |
//!    +---------------------------- conflict --------------------------------+
//! ```
//!
//! Each commit expects the revisions of the journal and of the state, so two callers never handle one input twice,
//! whether they are in one process or not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use es_core::aggregate::{Aggregate, LoadError, Loaded};
use es_core::consumer::timer::Timer;
use es_core::model::{Context, ErrorChain, Metadata};
use es_core::store::{Conflict, FailedCheck};
use es_core::{Commit, CommitError, EventStore, Repository, StoreError, StreamId, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::Instrument;

use crate::coordinator::SagaAdmin;
use crate::instance::SagaInstance;
use crate::process::definition::Process;
use crate::process::id::{ProcessId, ProcessKey};
use crate::process::journal::{ConsumedEvent, ProcessEvent, ProcessJournal};
use crate::process::metrics::{AsideKind, ProcessMetrics, ReactionOutcome};
use crate::process::reaction::{PlanFailure, Planner};
use crate::process::rows;
use crate::process::transition::{NoReaction, ProcessInput, Reacted, process_id, react};
use crate::record::{EventStamp, stored_now};

/// The number of attempts while an instance, or an aggregate that it commands, changes at the same time.
const ATTEMPTS: u32 = 20;

/// How long an input waits for the end of a distributed transaction that locks an aggregate, before it is set aside.
const LOCK_WAIT: Duration = Repository::<ProcessJournal>::LOCK_WAIT;

/// The pause before an input that found an aggregate locked is tried again.
const LOCKED_PAUSE: Duration = Duration::from_secs(1);

/// The id of an instance, as the type of its state.
pub(crate) type InstanceId<P> = <<P as Process>::State as Aggregate>::Id;

/// What runs the instances of a process.
pub(crate) struct ProcessEngine<P: Process> {
    pub(crate) process: P,
    pub(crate) planner: Planner,
    pub(crate) journals: Repository<ProcessJournal>,
    pub(crate) states: Repository<P::State>,
    pub(crate) sagas: SagaAdmin,
    pub(crate) metrics: ProcessMetrics,
    /// Wakes the runner.
    pub(crate) changed: Notify,
}

/// An input was not handled.
#[derive(Debug)]
pub(crate) enum HandleError {
    /// The instance does not react to it.
    NoReaction(NoReaction),
    /// The instance is quarantined for this reason.
    Quarantined(String),
    /// The instance cannot be read, or its reaction cannot be committed. A repetition does not help.
    Refused(String),
    /// A distributed transaction locks an aggregate. The input can be handled when it has ended.
    Locked(String),
    /// Another runner has the lease or has moved the cursor.
    Fenced,
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for HandleError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Why an input is not handled now.
pub(crate) enum SetAside<'a> {
    /// The instance cannot react, or cannot be read: it is quarantined. The event becomes pending.
    Failed { reason: &'a str, input: Option<&'a ConsumedEvent> },
    /// The instance has earlier pending events: the event becomes pending.
    Deferred(&'a ConsumedEvent),
    /// A distributed transaction locks an aggregate: the instance is woken after a pause. An event that is not pending
    /// becomes so.
    Locked(Option<&'a ConsumedEvent>),
}

/// An attempt failed.
enum AttemptError {
    Conflict(Conflict),
    Final(HandleError),
}

impl<E: Into<HandleError>> From<E> for AttemptError {
    fn from(error: E) -> Self {
        Self::Final(error.into())
    }
}

/// Returns the error of an instance that cannot be committed.
pub(crate) fn refused(error: &(dyn std::error::Error + 'static)) -> HandleError {
    HandleError::Refused(ErrorChain(error).to_string())
}

/// An instance as it was loaded.
struct LoadedInstance<P: Process> {
    id: ProcessId,
    stream: StreamId,
    timer: Option<Timer>,
    journal: Loaded<ProcessJournal>,
    state: Loaded<P::State>,
}

impl<P: Process> ProcessEngine<P> {
    pub(crate) fn store(&self) -> &Arc<dyn EventStore> {
        &self.planner.store
    }

    /// Returns the name of the process.
    pub(crate) const fn name() -> &'static str {
        <P::State as Aggregate>::CATEGORY
    }

    pub(crate) fn now(&self) -> Timestamp {
        stored_now(&*self.planner.clock)
    }

    pub(crate) fn stamp(&self, context: Context) -> EventStamp<'_> {
        EventStamp { now: self.now(), context, metadata: Metadata::new(), entropy: &*self.planner.entropy }
    }

    /// Lets an instance handle an input. `base` has the conditions and the rows of the caller.
    pub(crate) async fn handle(
        &self,
        id: &InstanceId<P>,
        input: &ProcessInput<'_, P>,
        base: &Commit,
    ) -> Result<(), HandleError> {
        let start = Instant::now();
        let result = self.handle_with_retries(id, input, base).instrument(input.span(Self::name(), id)).await;
        if let Some(outcome) = outcome(&result) {
            self.metrics.record(input.kind(), start.elapsed(), outcome);
        }
        result
    }

    async fn handle_with_retries(
        &self,
        id: &InstanceId<P>,
        input: &ProcessInput<'_, P>,
        base: &Commit,
    ) -> Result<(), HandleError> {
        let mut attempt = 1;
        loop {
            match self.try_handle(id, input, base.clone()).await {
                Ok(()) => return Ok(()),
                Err(AttemptError::Final(error)) => return Err(error),
                Err(AttemptError::Conflict(conflict)) if attempt >= ATTEMPTS => {
                    let reason = conflict.to_string();
                    let is_locked = conflict.failed.iter().any(|check| matches!(check, FailedCheck::Locked { .. }));
                    return Err(if is_locked { HandleError::Locked(reason) } else { HandleError::Refused(reason) });
                }
                Err(AttemptError::Conflict(_)) => {
                    tokio::time::sleep(Duration::from_millis(u64::from(attempt))).await;
                    attempt += 1;
                }
            }
        }
    }

    async fn try_handle(
        &self,
        id: &InstanceId<P>,
        input: &ProcessInput<'_, P>,
        base: Commit,
    ) -> Result<(), AttemptError> {
        let instance = self.load(id).await?;
        let now = self.now();
        let reacted = react(&self.process, &instance.journal.state, &instance.state.state, input, now);
        let reacted = reacted.map_err(HandleError::NoReaction)?;
        let context = match input {
            ProcessInput::Event { record, .. } => Context::caused_by(record),
            _ => Context::with_correlation(instance.id.correlation()),
        };
        let is_end = reacted.changes.ended;
        let lock_wait = lock_wait(&instance, input);
        let commit = self.build(&instance, reacted, context, lock_wait, base).await?;
        match self.store().commit(commit).instrument(tracing::debug_span!("commit")).await {
            Ok(_) => {
                let started_at = instance.journal.state.started_at();
                if started_at.is_none() {
                    self.metrics.count_started();
                }
                if is_end {
                    self.metrics.count_ended(started_at, now);
                }
                Ok(())
            }
            Err(CommitError::Conflict(conflict)) if is_fenced(&conflict) => Err(HandleError::Fenced.into()),
            Err(CommitError::Conflict(conflict)) => Err(AttemptError::Conflict(conflict)),
            Err(CommitError::Store(error)) => Err(error.into()),
            Err(error) => Err(refused(&error).into()),
        }
    }

    /// Loads an instance that is not quarantined.
    async fn load(&self, id: &InstanceId<P>) -> Result<LoadedInstance<P>, HandleError> {
        let process = process_id(Self::name(), id).map_err(|error| HandleError::Refused(error.to_string()))?;
        let stream = ProcessJournal::stream(&process).map_err(|error| refused(&error))?;
        // ORDER: the timer is read before the journal, so that a change in between is a conflict.
        let timer = rows::queue(Self::name()).get(&**self.store(), &stream).await?;
        if let Some(timer) = timer.as_ref().filter(|timer| !timer.note.is_empty()) {
            return Err(HandleError::Quarantined(timer.note.clone()));
        }
        let journal = self.journals.load(&process).await.map_err(load_error)?;
        let state = self.states.load(id).await.map_err(load_error)?;
        Ok(LoadedInstance { id: process, stream, timer, journal, state })
    }

    /// Returns the commit of a reaction.
    async fn build(
        &self,
        instance: &LoadedInstance<P>,
        reacted: Reacted<P>,
        context: Context,
        lock_wait: Duration,
        base: Commit,
    ) -> Result<Commit, HandleError> {
        let Reacted { event, changes, reaction } = reacted;
        let stamp = self.stamp(context);
        let mut after = instance.journal.state.clone();
        after.apply(&event, stamp.now);
        let commit = stamp.append(base, &instance.stream, instance.journal.revision, &[event]);
        let state = <P::State as Aggregate>::parse_id(instance.id.instance())
            .and_then(|id| <P::State as Aggregate>::stream(&id))
            .map_err(|error| refused(&error))?;
        let commit = commit.map_err(|error| refused(&error))?;
        // The state is expected to be unchanged even without new events, because the reaction depends on it.
        let commit = stamp.append(commit, &state, instance.state.revision, &reaction.events);
        let commit = commit.map_err(|error| refused(&error))?;
        let mut commit = with_timer::<P>(commit, &instance.stream, instance.timer.as_ref(), &after)?;
        if changes.ended {
            commit = remove_keys(commit, Self::name(), instance.journal.state.keys())?;
        } else {
            commit = remove_keys(commit, Self::name(), &changes.dissociated)?;
            for key in &changes.associated {
                commit = self.associate(commit, &instance.id, key).await?;
            }
        }
        let mut streams = BTreeSet::from([instance.stream.clone(), state]);
        for command in &reaction.commands {
            let stream = command.stream().map_err(|error| refused(&error))?;
            if !streams.insert(stream) {
                let reason = format!("two writes to one aggregate in one reaction: {}", command.label());
                return Err(HandleError::Refused(reason));
            }
            commit = match context.scope(command.plan(&self.planner, lock_wait, commit)).await {
                Ok(commit) => commit,
                Err(PlanFailure::Store(error)) => return Err(error.into()),
                Err(PlanFailure::Refused(reason)) => return Err(HandleError::Refused(reason)),
                Err(PlanFailure::Locked(reason)) => return Err(HandleError::Locked(reason)),
            };
        }
        for saga in reaction.sagas {
            let created = self.sagas.creation_of(commit, &saga.definition, &saga.instance, saga.input);
            let (id, created) = created.map_err(|error| refused(&error))?;
            let stream = SagaInstance::stream(&id).map_err(|error| refused(&error))?;
            if self.store().revision(&stream).await?.is_some() {
                return Err(HandleError::Refused(format!("saga {:?} exists", id.to_string())));
            }
            commit = created;
        }
        Ok(commit)
    }

    /// Adds a key of an instance to a commit, unless another running instance has it.
    async fn associate(&self, commit: Commit, id: &ProcessId, key: &ProcessKey) -> Result<Commit, HandleError> {
        let (table, row) = (rows::table()?, rows::association_key(Self::name(), key));
        let existing = self.store().row(&table, &row).await?;
        if let Some(holder) = existing.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned()) {
            let holder = ProcessId::new(Self::name(), &holder).map_err(|error| refused(&error))?;
            let stream = ProcessJournal::stream(&holder).map_err(|error| refused(&error))?;
            // An instance that was abandoned while it could not be read may have left its keys.
            if rows::queue(Self::name()).get(&**self.store(), &stream).await?.is_some() {
                return Err(HandleError::Refused(format!("key {:?} belongs to {holder}", key.to_string())));
            }
        }
        let instance = id.instance().as_bytes().to_vec();
        Ok(commit.expect_row(table.clone(), row.clone(), existing).put_row(table, row, instance))
    }

    /// Returns the running instance that has a key.
    pub(crate) async fn holder(&self, key: &ProcessKey) -> Result<Option<InstanceId<P>>, StoreError> {
        let row = self.store().row(&rows::table()?, &rows::association_key(Self::name(), key)).await?;
        let text = row.as_ref().map(|bytes| String::from_utf8_lossy(bytes));
        Ok(text.and_then(|text| <P::State as Aggregate>::parse_id(&text).ok()))
    }

    /// Quarantines an instance, makes an event pending, or wakes the instance later. Needs no readable instance.
    pub(crate) async fn set_aside(
        &self,
        id: &ProcessId,
        aside: &SetAside<'_>,
        base: &Commit,
    ) -> Result<(), HandleError> {
        let stream = ProcessJournal::stream(id).map_err(|error| refused(&error))?;
        let queue = rows::queue(Self::name());
        for _ in 0..ATTEMPTS {
            let timer = queue.get(&**self.store(), &stream).await?;
            let revision = self.store().revision(&stream).await?;
            let is_quarantined = timer.as_ref().is_some_and(|timer| !timer.note.is_empty());
            let (event, next) = match aside {
                SetAside::Deferred(_) if timer.is_none() => {
                    return Err(HandleError::Refused("the instance has ended in the meantime".to_owned()));
                }
                SetAside::Failed { input: None, .. } | SetAside::Locked(None) if is_quarantined => return Ok(()),
                SetAside::Locked(None) if timer.is_none() => return Ok(()),
                SetAside::Failed { reason, input } if !is_quarantined => {
                    let reason = rows::shorten((*reason).to_owned());
                    let next = rows::quarantine_timer(&stream, &reason);
                    (Some(ProcessEvent::Quarantined { reason, input: input.cloned() }), Some(next))
                }
                SetAside::Locked(input) if !is_quarantined => {
                    let event = input.map(|input| ProcessEvent::Deferred { input: input.clone() });
                    (event, Some(Timer::new(stream.clone(), self.now() + LOCKED_PAUSE)))
                }
                SetAside::Failed { input: Some(input), .. }
                | SetAside::Deferred(input)
                | SetAside::Locked(Some(input)) => {
                    (Some(ProcessEvent::Deferred { input: (*input).clone() }), timer.clone())
                }
                SetAside::Failed { input: None, .. } | SetAside::Locked(None) => return Ok(()),
            };
            let stamp = self.stamp(Context::with_correlation(id.correlation()));
            let commit = stamp.append(base.clone(), &stream, revision, event.as_slice());
            let commit = commit.map_err(|error| refused(&error))?;
            let commit = queue.replace(commit, &stream, timer.as_ref(), next.as_ref())?;
            match self.commit_rows(commit).await {
                Err(HandleError::Refused(_)) => {}
                Ok(()) => {
                    match aside {
                        SetAside::Failed { reason, .. } if !is_quarantined => {
                            tracing::error!(process = %id, reason, "process quarantined");
                            self.metrics.count_quarantined();
                        }
                        SetAside::Locked(None) => {}
                        SetAside::Failed { .. } | SetAside::Deferred(_) | SetAside::Locked(Some(_)) => {
                            self.metrics.count_aside(AsideKind::Deferred);
                        }
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::io("quarantine a process", std::io::Error::other("it changes all the time")).into())
    }

    /// Commits rows and events that need no retry. A conflict is [`HandleError::Refused`].
    pub(crate) async fn commit_rows(&self, commit: Commit) -> Result<(), HandleError> {
        match self.store().commit(commit).await {
            Ok(_) => Ok(()),
            Err(CommitError::Conflict(conflict)) if is_fenced(&conflict) => Err(HandleError::Fenced),
            Err(CommitError::Conflict(conflict)) => Err(HandleError::Refused(conflict.to_string())),
            Err(CommitError::Store(error)) => Err(error.into()),
            Err(error) => Err(StoreError::io("write rows of a process", error).into()),
        }
    }
}

/// Returns what became of an input, or `None` if it is offered again.
const fn outcome(result: &Result<(), HandleError>) -> Option<ReactionOutcome> {
    Some(match result {
        Ok(()) => ReactionOutcome::Handled,
        Err(HandleError::NoReaction(NoReaction::Repeated)) => ReactionOutcome::Repeated,
        Err(HandleError::NoReaction(NoReaction::Failed(_)) | HandleError::Refused(_)) => ReactionOutcome::Failed,
        Err(HandleError::NoReaction(_) | HandleError::Quarantined(_)) => ReactionOutcome::Refused,
        Err(HandleError::Locked(_) | HandleError::Fenced | HandleError::Store(_)) => return None,
    })
}

/// Returns how long an input waits for the end of a distributed transaction. One that was set aside for a lock does not
/// wait again: other instances would have to wait with it.
fn lock_wait<P: Process>(instance: &LoadedInstance<P>, input: &ProcessInput<'_, P>) -> Duration {
    let was_set_aside = match input {
        ProcessInput::Event { place, .. } => instance.journal.state.first_pending() == Some(place),
        ProcessInput::Timer { due, .. } => instance.timer.as_ref().is_some_and(|timer| timer.due > *due),
        ProcessInput::Signal { .. } | ProcessInput::Completion { .. } => false,
    };
    if was_set_aside { Duration::ZERO } else { LOCK_WAIT }
}

/// Adds the timer of an instance in its new state to a commit.
fn with_timer<P: Process>(
    commit: Commit,
    stream: &StreamId,
    timer: Option<&Timer>,
    after: &ProcessJournal,
) -> Result<Commit, StoreError> {
    let next = rows::instance_timer(stream, after);
    if next.as_ref() == timer {
        return Ok(commit);
    }
    rows::queue(ProcessEngine::<P>::name()).replace(commit, stream, timer, next.as_ref())
}

/// Adds the removal of keys to a commit.
fn remove_keys<'k>(
    commit: Commit,
    process: &str,
    keys: impl IntoIterator<Item = &'k ProcessKey>,
) -> Result<Commit, StoreError> {
    let table = rows::table()?;
    let remove = |commit: Commit, key| commit.delete_row(table.clone(), rows::association_key(process, key));
    Ok(keys.into_iter().fold(commit, remove))
}

/// Returns whether a conflict means that another runner has the lease, the cursor or the request for a retry.
fn is_fenced(conflict: &Conflict) -> bool {
    conflict.failed.iter().any(|check| match check {
        FailedCheck::Row { table, key, .. } => {
            table.as_str() == "es.leases" || (table.as_str() == rows::TABLE && rows::is_of_runner(key))
        }
        _ => false,
    })
}

fn load_error(error: LoadError) -> HandleError {
    match error {
        LoadError::Store(error) if !matches!(error, StoreError::Damaged { .. }) => HandleError::Store(error),
        error => HandleError::Refused(format!("it cannot be read: {}", ErrorChain(&error))),
    }
}
