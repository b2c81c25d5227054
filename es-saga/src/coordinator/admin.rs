//! [`SagaAdmin`]: creates, lists and operates sagas, with or without a running coordinator.

use std::sync::Arc;

use es_core::aggregate::{Aggregate, LoadError};
use es_core::consumer::timer::Timer;
use es_core::model::{Clock, Entropy, NameError, SystemClock, SystemEntropy};
use es_core::{Commit, CommitError, EventStore, Evolve, Repository, StoreError, StreamId, Timestamp};

use crate::coordinator::error::{CreateError, OperateError};
use crate::coordinator::record::{Recorder, stored_now};
use crate::coordinator::wake::{Slot, idle_timer};
use crate::graph::Saga;
use crate::id::SagaId;
use crate::instance::{Operate, OperatorNote, Phase, SagaEvent, SagaInstance, SagaVerb, Transition, VerbRefused};
use crate::step::Stored;

/// The number of attempts of an action while the saga changes at the same time.
const ATTEMPTS: usize = 20;

/// Creates, lists and operates sagas of a store. It needs no code of the sagas.
#[derive(Debug, Clone)]
pub struct SagaAdmin {
    store: Arc<dyn EventStore>,
    repository: Arc<Repository<SagaInstance>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// An unfinished saga in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedSaga {
    /// The id.
    pub id: SagaId,
    /// The time at which it has something to do: in the past while it runs, the end of the year 9999 or later while it
    /// waits for a person.
    pub due: Timestamp,
    /// The reason why the program cannot run it, if there is one.
    pub quarantine: Option<String>,
    timer: Timer,
    slot: Slot,
}

impl SagaAdmin {
    /// Returns the admin interface of the sagas of a store.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>) -> Self {
        let repository = Arc::new(Repository::new(Arc::clone(&store)).without_cache());
        Self { store, repository, clock: Arc::new(SystemClock::new()), entropy: Arc::new(SystemEntropy) }
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
        let definition = &saga.definition;
        let id = SagaId::new(&definition.shape.name, instance).map_err(|_| NameError::Empty { kind: "saga id" })?;
        let (stream, now) = (SagaInstance::stream(&id)?, stored_now(&*self.clock));
        let deadline = definition.deadline.and_then(|deadline| {
            chrono::TimeDelta::from_std(deadline).ok().and_then(|deadline| now.checked_add_signed(deadline))
        });
        let input = serde_json::to_value(input)?;
        let shape = definition.shape.clone();
        let mut state = SagaInstance::initial(&id);
        let created = state.transition(Transition::Create { shape, input, deadline }, now);
        // The instance is new, so the transition fits.
        let events = created.unwrap_or_default();
        let recorder = Recorder { id: &id, stream: &stream, revision: None, now, entropy: &*self.entropy };
        let commit = recorder.add(commit, &events)?;
        // A graph without nodes is completed at once.
        let timer = (!state.phase().is_final()).then(|| Timer::new(stream.clone(), now));
        let commit = Slot::of(&stream).queue().replace(commit, &stream, None, timer.as_ref());
        Ok((id, commit.map_err(CommitError::Store)?))
    }

    /// Returns the state of an instance. An instance that was never created is [`Phase::Missing`].
    ///
    /// # Errors
    /// [`LoadError`] if the instance cannot be read.
    pub async fn status(&self, id: &SagaId) -> Result<SagaInstance, LoadError> {
        Ok(self.repository.load(id).await?.state)
    }

    /// Returns at most `limit` unfinished sagas after the saga `after` of an earlier call. The order is that of their
    /// due times within each of a few partitions.
    ///
    /// # Errors
    /// [`StoreError`] if the rows cannot be read.
    pub async fn unfinished(
        &self,
        after: Option<&UnfinishedSaga>,
        limit: usize,
    ) -> Result<Vec<UnfinishedSaga>, StoreError> {
        let mut found = Vec::new();
        let first = after.map_or(0, |after| after.slot.index());
        for slot in Slot::all().skip(first) {
            let after = after.filter(|after| after.slot == slot).map(|after| &after.timer);
            let left = limit.saturating_sub(found.len());
            if left == 0 {
                break;
            }
            let timers = slot.queue().scan(&*self.store, after, left).await?;
            found.extend(timers.into_iter().filter_map(|timer| {
                let id = SagaInstance::id_of(&timer.stream)?;
                let quarantine = Some(timer.note.clone()).filter(|note| !note.is_empty());
                Some(UnfinishedSaga { id, due: timer.due, quarantine, timer, slot })
            }));
        }
        Ok(found)
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
        let events = state.operate(Operate { verb, note }, now)?;
        let recorder = Recorder { id, stream: &stream, revision: loaded.revision, now, entropy: &*self.entropy };
        let commit = recorder.add(Commit::new(), &events)?;
        let is_idle = state.next(now).is_empty();
        let next = if is_idle { idle_timer(&stream, &state) } else { Some(Timer::new(stream.clone(), now)) };
        // A coordinator that runs the saga sees the change by the revision, and one that does not by the timer.
        let commit = queue.replace(commit, &stream, timer.as_ref(), next.as_ref()).map_err(CommitError::Store)?;
        self.store.commit(commit).await?;
        Ok(state.phase())
    }

    /// Returns random bytes, for the id of an owner of leases.
    pub(super) fn random_bytes(&self) -> [u8; 16] {
        (u128::from(self.entropy.next_u64()) << 64 | u128::from(self.entropy.next_u64())).to_be_bytes()
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
        let recorder = Recorder { id, stream, revision, now, entropy: &*self.entropy };
        let commit = recorder.add(Commit::new(), &[SagaEvent::Abandoned(note)])?;
        let commit = Slot::of(stream).queue().replace(commit, stream, timer.as_ref(), None);
        self.store.commit(commit.map_err(CommitError::Store)?).await?;
        Ok(Phase::Abandoned)
    }
}
