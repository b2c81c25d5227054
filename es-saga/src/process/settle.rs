//! Settles one event of the source: the instance handles it, or it is parked, skipped, or pending at its instance.

use es_core::aggregate::{Aggregate, Source};
use es_core::model::{Context, ErrorChain};
use es_core::{Commit, LogRead, Position, RecordedEvent, StoreError};

use crate::instance::OperatorNote;
use crate::process::definition::{Correlation, Mismatch, MismatchPolicy, Process, Target};
use crate::process::engine::{HandleError, InstanceId, ProcessEngine, SetAside};
use crate::process::id::ProcessId;
use crate::process::journal::{ConsumedEvent, ProcessEvent, ProcessJournal};
use crate::process::metrics::AsideKind;
use crate::process::rows::{self, ParkedEvent};
use crate::process::transition::{NoReaction, ProcessInput, Step, guard, process_id, split};

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It does not concern the process. Nothing was written.
    Ignored,
    /// The commit with the caller's rows was written.
    Committed,
}

/// Who offers the event.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Offer<'a> {
    /// The source, also if a parked event is tried again.
    Source,
    /// The source, with an event that originated on another node: only an instance of this node handles it.
    OtherNode,
    /// The instance to which it is pending.
    Pending(&'a ProcessId),
}

impl<P: Process> ProcessEngine<P> {
    /// Settles the event with this index of a record. The rows and conditions of `base` are part of its commit.
    pub(crate) async fn settle(
        &self,
        record: &RecordedEvent,
        index: u32,
        base: &Commit,
        offer: Offer<'_>,
    ) -> Result<Settled, HandleError> {
        let event_type = record.data.event_type.as_str().to_owned();
        let place = ConsumedEvent { position: record.position.get(), index, event_type };
        let decoded = match P::Source::decode(record) {
            Ok(decoded) => decoded,
            Err(error) => {
                let reason = ErrorChain(&error).to_string();
                return self.park(base, place, reason, offer).await;
            }
        };
        let Some(event) = decoded.as_slice().get(index as usize) else { return Ok(Settled::Ignored) };
        let correlation = match guard(|| Ok(self.process.correlate(event, record))) {
            Ok(correlation) => correlation,
            Err(error) => return self.park(base, place, error.to_string(), offer).await,
        };
        let found = match self.target(correlation).await? {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Settled::Ignored),
            Err(mismatch) => return self.mismatch(event, place, mismatch, base, offer).await,
        };
        let (step, id) = found;
        if matches!(offer, Offer::OtherNode) && step == Step::Start {
            return Ok(Settled::Ignored);
        }
        let instance = match process_id(Self::name(), &id) {
            Ok(instance) => instance,
            Err(error) => return self.park(base, place, error.to_string(), offer).await,
        };
        if let Offer::Pending(owner) = offer
            && *owner != instance
        {
            let reason = format!("its pending event at position {} belongs to {instance}", place.position);
            return self.fail(owner, &reason, None, base).await;
        }
        let input = ProcessInput::Event { event, record, place: place.clone(), step };
        let pending = if matches!(offer, Offer::Pending(_)) { None } else { Some(&place) };
        let reason = match self.handle(&id, &input, base).await {
            Ok(()) => return Ok(Settled::Committed),
            Err(HandleError::NoReaction(NoReaction::Mismatch(mismatch))) => {
                return self.mismatch(event, place, mismatch, base, offer).await;
            }
            // An operator may have retried the instance since: the event is then handled with the pending ones.
            Err(HandleError::NoReaction(NoReaction::HasPending) | HandleError::Quarantined(_)) => {
                if matches!(offer, Offer::Pending(_)) {
                    return Ok(Settled::Committed);
                }
                let deferred = self.set_aside(&instance, &SetAside::Deferred(&place), base).await;
                return deferred.map(|()| Settled::Committed);
            }
            Err(HandleError::Locked(reason)) => {
                return self.wait_for_lock(&instance, &reason, pending, base).await;
            }
            Err(HandleError::NoReaction(NoReaction::Failed(error))) => ErrorChain(&*error).to_string(),
            Err(HandleError::Refused(reason)) => reason,
            Err(HandleError::NoReaction(other)) => format!("an event had the outcome {other:?}"),
            Err(error @ (HandleError::Fenced | HandleError::Store(_))) => return Err(error),
        };
        self.fail(&instance, &reason, pending, base).await
    }

    /// Quarantines an instance.
    async fn fail(
        &self,
        id: &ProcessId,
        reason: &str,
        input: Option<&ConsumedEvent>,
        base: &Commit,
    ) -> Result<Settled, HandleError> {
        self.set_aside(id, &SetAside::Failed { reason, input }, base).await.map(|()| Settled::Committed)
    }

    /// Lets an instance try its input again after a pause. An event that is not pending becomes so.
    async fn wait_for_lock(
        &self,
        id: &ProcessId,
        reason: &str,
        input: Option<&ConsumedEvent>,
        base: &Commit,
    ) -> Result<Settled, HandleError> {
        tracing::warn!(process = %id, reason, "a process waits for the end of a distributed transaction");
        self.set_aside(id, &SetAside::Locked(input), base).await.map(|()| Settled::Committed)
    }

    /// Returns the instance to which an event belongs.
    async fn target(
        &self,
        correlation: Correlation<InstanceId<P>>,
    ) -> Result<Result<Option<(Step, InstanceId<P>)>, Mismatch>, StoreError> {
        let Some((step, target)) = split(correlation) else { return Ok(Ok(None)) };
        Ok(match target {
            Target::Id(id) => Ok(Some((step, id))),
            Target::Key(key) => match self.holder(&key).await? {
                Some(id) => Ok(Some((step, id))),
                None => Err(Mismatch::NotStarted),
            },
        })
    }

    /// Parks or skips an event that does not fit. Ignores an event of another node whose instance was not started here.
    async fn mismatch(
        &self,
        event: &<P::Source as Source>::Event,
        place: ConsumedEvent,
        mismatch: Mismatch,
        base: &Commit,
        offer: Offer<'_>,
    ) -> Result<Settled, HandleError> {
        if matches!(offer, Offer::OtherNode) && mismatch == Mismatch::NotStarted {
            return Ok(Settled::Ignored);
        }
        let policy = guard(|| Ok(self.process.on_mismatch(event, mismatch))).unwrap_or_default();
        match policy {
            MismatchPolicy::Park => self.park(base, place, mismatch.to_string(), offer).await,
            MismatchPolicy::Skip => self.write_aside(rows::SKIPPED, base, place, mismatch.to_string(), offer).await,
        }
    }

    async fn park(
        &self,
        base: &Commit,
        place: ConsumedEvent,
        reason: String,
        offer: Offer<'_>,
    ) -> Result<Settled, HandleError> {
        tracing::warn!(process = Self::name(), position = place.position, reason, "event of a process parked");
        self.write_aside(rows::PARKED, base, place, reason, offer).await
    }

    /// Writes a parked or skipped event. A pending event is then not pending any more.
    async fn write_aside(
        &self,
        kind: u8,
        base: &Commit,
        place: ConsumedEvent,
        reason: String,
        offer: Offer<'_>,
    ) -> Result<Settled, HandleError> {
        let parked = ParkedEvent { event: place, reason: rows::shorten(reason), time: self.now(), note: None };
        let counted = if kind == rows::SKIPPED { AsideKind::Skipped } else { AsideKind::Parked };
        let commit = rows::set_aside(base.clone(), kind, Self::name(), &parked)?;
        let commit = match offer {
            Offer::Source | Offer::OtherNode => commit,
            Offer::Pending(id) => self.without_pending(commit, id, &parked.reason).await?,
        };
        self.commit_rows(commit).await?;
        self.metrics.count_aside(counted);
        Ok(Settled::Committed)
    }

    /// Adds the removal of the first pending event of an instance to a commit.
    async fn without_pending(&self, commit: Commit, id: &ProcessId, reason: &str) -> Result<Commit, HandleError> {
        let refused = |error: &dyn std::error::Error| HandleError::Refused(error.to_string());
        let stream = ProcessJournal::stream(id).map_err(|error| refused(&error))?;
        let queue = rows::queue(Self::name());
        let timer = queue.get(&**self.store(), &stream).await?;
        let loaded = self.journals.load(id).await.map_err(|error| refused(&error))?;
        let event = ProcessEvent::PendingDropped(OperatorNote::new("process manager", reason));
        let stamp = self.stamp(Context::with_correlation(id.correlation()));
        let mut after = loaded.state;
        after.apply(&event, stamp.now);
        let commit = stamp.append(commit, &stream, loaded.revision, &[event]).map_err(|error| refused(&error))?;
        let next = rows::instance_timer(&stream, &after);
        Ok(queue.replace(commit, &stream, timer.as_ref(), next.as_ref())?)
    }

    /// Reads the record of a consumed event; `None` if it was removed from the log.
    pub(crate) async fn record(&self, place: &ConsumedEvent) -> Result<Option<RecordedEvent>, StoreError> {
        let Some(position) = Position::new(place.position) else { return Ok(None) };
        let mut events = self.store().read_log(LogRead::all().from(position).limit(1)).await?;
        Ok(events.next().await?.filter(|record| record.position == position))
    }

    /// Lets the instance of a stream do what is due: handle its first pending event or its first timer. Returns whether
    /// something was done, so that more may be due.
    pub(crate) async fn wake(&self, stream: &es_core::StreamId, base: &Commit) -> Result<bool, HandleError> {
        let Some(id) = ProcessJournal::id_of(stream) else { return Ok(false) };
        let queue = rows::queue(Self::name());
        let Some(timer) = queue.get(&**self.store(), stream).await? else { return Ok(false) };
        // A quarantined instance waits for a person, and one that found an aggregate locked waits for its pause.
        if !timer.note.is_empty() || timer.due > self.now() {
            return Ok(false);
        }
        let journal = match self.journals.load(&id).await {
            Ok(loaded) => loaded.state,
            Err(es_core::LoadError::Store(error)) if !matches!(error, StoreError::Damaged { .. }) => {
                return Err(error.into());
            }
            Err(error) => {
                let reason = format!("it cannot be read: {}", ErrorChain(&error));
                return self.fail(&id, &reason, None, base).await.map(|_| true);
            }
        };
        if let Some(place) = journal.first_pending() {
            return self.offer_pending(&id, place, base).await;
        }
        match journal.first_timer() {
            Some((name, due)) if due <= self.now() => self.fire(&id, name.to_owned(), due, base).await,
            _ => {
                let next = rows::instance_timer(stream, &journal);
                if next.as_ref() != Some(&timer) {
                    let commit = queue.replace(base.clone(), stream, Some(&timer), next.as_ref())?;
                    self.commit_rows(commit).await?;
                }
                Ok(false)
            }
        }
    }

    async fn offer_pending(&self, id: &ProcessId, place: &ConsumedEvent, base: &Commit) -> Result<bool, HandleError> {
        let Some(record) = self.record(place).await? else {
            let reason = format!("its pending event at position {} was removed from the log", place.position);
            return self.fail(id, &reason, None, base).await.map(|_| true);
        };
        match self.settle(&record, place.index, base, Offer::Pending(id)).await? {
            Settled::Committed => Ok(true),
            Settled::Ignored => {
                let reason = "its pending event does not concern the process any more";
                let commit = self.without_pending(base.clone(), id, reason).await?;
                self.commit_rows(commit).await.map(|()| true)
            }
        }
    }

    /// Fires a timer.
    async fn fire(
        &self,
        id: &ProcessId,
        name: String,
        due: es_core::Timestamp,
        base: &Commit,
    ) -> Result<bool, HandleError> {
        let instance = match <P::State as Aggregate>::parse_id(id.instance()) {
            Ok(instance) => instance,
            Err(error) => return self.fail(id, &error.to_string(), None, base).await.map(|_| true),
        };
        let input = ProcessInput::Timer { name, due };
        let reason = match self.handle(&instance, &input, base).await {
            // The timer was changed in the meantime.
            Ok(()) | Err(HandleError::NoReaction(NoReaction::Repeated) | HandleError::Quarantined(_)) => {
                return Ok(true);
            }
            Err(HandleError::Locked(reason)) => {
                return self.wait_for_lock(id, &reason, None, base).await.map(|_| true);
            }
            Err(HandleError::NoReaction(NoReaction::Failed(error))) => ErrorChain(&*error).to_string(),
            Err(HandleError::Refused(reason)) => reason,
            Err(HandleError::NoReaction(other)) => format!("a timer had the outcome {other:?}"),
            Err(error @ (HandleError::Fenced | HandleError::Store(_))) => return Err(error),
        };
        self.fail(id, &reason, None, base).await.map(|_| true)
    }
}
