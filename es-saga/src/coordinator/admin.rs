//! [`SagaAdmin`]: creates and operates sagas, with or without a running coordinator.

use std::sync::Arc;

use es_core::aggregate::{Aggregate, LoadError};
use es_core::consumer::timer::Timer;
use es_core::model::{Clock, Entropy, Metadata, NameError, SystemClock, SystemEntropy};
use es_core::{Commit, CommitError, EventStore, Repository, StreamId, Timestamp};
use serde_json::Value;

use crate::coordinator::error::{CreateError, OperateError};
use crate::coordinator::record::{NewInstance, Recorder};
use crate::coordinator::wake::{Slot, concerns_parent, idle_timer, wake};
use crate::graph::{Definition, Saga};
use crate::id::SagaId;
use crate::instance::{Operate, OperatorNote, Phase, SagaEvent, SagaInstance, SagaVerb, VerbRefused};
use crate::record::stored_now;
use crate::step::Stored;

/// The number of attempts of an action while the saga changes at the same time.
const ATTEMPTS: usize = 20;

/// Creates, lists and operates sagas of a store. It needs no code of the sagas.
#[derive(Debug, Clone)]
pub struct SagaAdmin {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) repository: Arc<Repository<SagaInstance>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// The metadata of instances that are created.
    metadata: Metadata,
}

impl SagaAdmin {
    /// Returns the admin interface of the sagas of a store.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>) -> Self {
        let repository = Arc::new(Repository::new(Arc::clone(&store)).without_cache());
        let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
        Self { store, repository, clock, entropy, metadata: Metadata::new() }
    }

    /// Sets the metadata of instances that are created, such as `traceparent` (W3C Trace Context). All events of an
    /// instance have it, those of its child sagas too, and its steps get it in their [context](crate::StepContext).
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// Replaces the clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Replaces the source of random numbers, from which event ids come.
    #[must_use]
    pub fn with_entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Creates an instance durably. A coordinator of the store runs it. To create an instance that exists, with the
    /// same input, has no effect.
    ///
    /// # Errors
    /// - [`CreateError::Exists`] if the instance exists with another input.
    /// - [`CreateError::Name`], [`CreateError::Input`] or [`CreateError::Encode`] if the id or the input is not valid.
    /// - [`CreateError::Load`] or [`CreateError::Commit`] if the store fails.
    pub async fn create<I: Stored, O: Stored>(
        &self,
        saga: &Saga<I, O>,
        instance: &str,
        input: &I,
    ) -> Result<SagaId, CreateError> {
        let (id, commit) = self.creation(Commit::new(), saga, instance, input)?;
        match self.store.commit(commit).await {
            Ok(_) => Ok(id),
            Err(CommitError::Conflict(conflict)) => {
                let existing = self.repository.load(&id).await?;
                let is_same = *existing.state.input == serde_json::to_value(input)?;
                match existing.revision {
                    Some(_) if is_same => Ok(id),
                    Some(_) => Err(CreateError::Exists { saga: id.to_string() }),
                    None => Err(CommitError::Conflict(conflict).into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Adds the creation of an instance to a commit, for example to that of the event that starts it. The commit
    /// conflicts if the instance exists.
    ///
    /// # Errors
    /// [`CreateError::Name`], [`CreateError::Input`] or [`CreateError::Encode`] if the id or the input is not valid.
    pub fn creation<I: Stored, O: Stored>(
        &self,
        commit: Commit,
        saga: &Saga<I, O>,
        instance: &str,
        input: &I,
    ) -> Result<(SagaId, Commit), CreateError> {
        self.creation_of(commit, &saga.definition, instance, serde_json::to_value(input)?)
    }

    /// Adds the creation of an instance with a stored input to a commit.
    pub(crate) fn creation_of(
        &self,
        commit: Commit,
        definition: &Definition,
        instance: &str,
        input: Value,
    ) -> Result<(SagaId, Commit), CreateError> {
        let id = SagaId::new(&definition.shape.name, instance).map_err(|_| NameError::Empty { kind: "saga id" })?;
        let (stream, now) = (SagaInstance::stream(&id)?, stored_now(&*self.clock));
        let new = NewInstance { definition, id: &id, stream: &stream, input, parent: None, metadata: &self.metadata };
        let commit = new.add(commit, now, &*self.entropy)?;
        Ok((id, commit))
    }

    /// Returns the state of an instance. An instance that was never created is [`Phase::Missing`].
    ///
    /// # Errors
    /// [`LoadError`] if the instance cannot be read.
    pub async fn status(&self, id: &SagaId) -> Result<SagaInstance, LoadError> {
        Ok(self.repository.load(id).await?.state)
    }

    /// Performs an action on an instance and records it. Returns the phase after it.
    ///
    /// A saga that cannot be loaded, or that the program cannot run, can only be abandoned.
    ///
    /// # Errors
    /// - [`OperateError::Refused`] if the action is not possible.
    /// - [`OperateError::Name`] if the id is not valid.
    /// - [`OperateError::Load`], [`OperateError::Encode`] or [`OperateError::Commit`] if the infrastructure fails.
    pub async fn operate(&self, id: &SagaId, verb: SagaVerb, note: OperatorNote) -> Result<Phase, OperateError> {
        let mut attempt = 1;
        loop {
            match self.try_operate(id, verb.clone(), note.clone()).await {
                Err(OperateError::Commit(CommitError::Conflict(_))) if attempt < ATTEMPTS => attempt += 1,
                other => return other,
            }
        }
    }

    async fn try_operate(&self, id: &SagaId, verb: SagaVerb, note: OperatorNote) -> Result<Phase, OperateError> {
        let (stream, now) = (SagaInstance::stream(id)?, stored_now(&*self.clock));
        let queue = Slot::of(&stream).queue();
        // ORDER: the timer is read before the saga, so that a change in between is a conflict.
        let timer = queue.get(&*self.store, &stream).await.map_err(CommitError::Store)?;
        let is_quarantined = timer.as_ref().is_some_and(|timer| !timer.note.is_empty());
        if is_quarantined && verb == SagaVerb::Abandon {
            return self.abandon(id, &stream, timer, note).await;
        }
        let loaded = self.repository.load(id).await?;
        let mut state = loaded.state;
        let events = state.operate(Operate { verb, note: note.clone() }, now)?;
        let mut commit = Commit::new();
        if state.phase() == Phase::Killed {
            commit = self.kill_children(commit, &state, &note, now).await?;
        }
        let (revision, entropy, metadata) = (loaded.revision, &*self.entropy, &state.metadata);
        let recorder = Recorder { correlation: id.correlation(), stream: &stream, revision, now, entropy, metadata };
        commit = recorder.add(commit, &events)?;
        let is_idle = state.next(now).is_empty();
        let next = if is_idle { idle_timer(&stream, &state) } else { Some(Timer::new(stream.clone(), now)) };
        // A coordinator that runs the saga sees the change by the revision, and one that does not by the timer.
        let mut commit = queue.replace(commit, &stream, timer.as_ref(), next.as_ref()).map_err(CommitError::Store)?;
        if let Some(parent) = state.parent().filter(|_| concerns_parent(&state)) {
            commit = wake(&*self.store, commit, parent, now).await.map_err(CommitError::Store)?;
        }
        self.store.commit(commit).await?;
        Ok(state.phase())
    }

    /// Adds the end of the child sagas in progress to a commit, the leaves first. A child saga that cannot be read is
    /// left as it is.
    async fn kill_children(
        &self,
        mut commit: Commit,
        saga: &SagaInstance,
        note: &OperatorNote,
        now: Timestamp,
    ) -> Result<Commit, OperateError> {
        let mut pending: Vec<SagaId> = saga.awaited_children().map(|(_, child)| child.clone()).collect();
        let mut killed = Vec::new();
        while let Some(id) = pending.pop() {
            let stream = SagaInstance::stream(&id)?;
            // ORDER: the timer is read before the saga, so that a change in between is a conflict.
            let timer = Slot::of(&stream).queue().get(&*self.store, &stream).await.map_err(CommitError::Store)?;
            let Ok(loaded) = self.repository.load(&id).await else { continue };
            let mut state = loaded.state;
            let Ok(events) = state.operate(Operate { verb: SagaVerb::Kill, note: note.clone() }, now) else { continue };
            pending.extend(state.awaited_children().map(|(_, child)| child.clone()));
            killed.push((id, stream, timer, loaded.revision, state, events));
        }
        for (id, stream, timer, revision, state, events) in killed.iter().rev() {
            let (entropy, metadata) = (&*self.entropy, &state.metadata);
            let (correlation, revision) = (id.correlation(), *revision);
            let recorder = Recorder { correlation, stream, revision, now, entropy, metadata };
            commit = recorder.add(commit, events)?;
            let queue = Slot::of(stream).queue();
            commit = queue.replace(commit, stream, timer.as_ref(), None).map_err(CommitError::Store)?;
        }
        Ok(commit)
    }

    /// Ends a quarantined saga without loading it.
    async fn abandon(
        &self,
        id: &SagaId,
        stream: &StreamId,
        timer: Option<Timer>,
        note: OperatorNote,
    ) -> Result<Phase, OperateError> {
        let now = stored_now(&*self.clock);
        let revision = self.store.revision(stream).await.map_err(CommitError::Store)?;
        if revision.is_none() {
            return Err(VerbRefused::NoSaga { saga: id.to_string() }.into());
        }
        // It may be unreadable: then the saga of which it is a step is not known.
        let loaded = self.repository.load(id).await.ok().map(|loaded| loaded.state);
        let metadata = loaded.as_ref().map_or_else(Metadata::new, |state| state.metadata().clone());
        let (correlation, entropy, metadata) = (id.correlation(), &*self.entropy, &metadata);
        let recorder = Recorder { correlation, stream, revision, now, entropy, metadata };
        let commit = recorder.add(Commit::new(), &[SagaEvent::Abandoned(note)])?;
        let commit = Slot::of(stream).queue().replace(commit, stream, timer.as_ref(), None);
        let mut commit = commit.map_err(CommitError::Store)?;
        if let Some(parent) = loaded.as_ref().and_then(SagaInstance::parent) {
            commit = wake(&*self.store, commit, parent, now).await.map_err(CommitError::Store)?;
        }
        self.store.commit(commit).await?;
        Ok(Phase::Abandoned)
    }
}
