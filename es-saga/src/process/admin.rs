//! [`ProcessAdmin`]: lists and operates the instances of all processes of a store.

use std::sync::Arc;

use es_core::aggregate::{Aggregate, LoadError};
use es_core::consumer::timer::Timer;
use es_core::model::{Clock, Context, Entropy, Metadata, SystemClock, SystemEntropy};
use es_core::{Commit, CommitError, EventStore, Repository, StoreError, Timestamp};

use crate::instance::OperatorNote;
use crate::process::error::OperateProcessError;
use crate::process::id::ProcessId;
use crate::process::journal::{ConsumedEvent, ProcessEvent, ProcessJournal, ProcessPhase};
use crate::process::metrics::count_abandoned;
use crate::process::rows::{self, ParkedEvent};
use crate::record::{EventStamp, stored_now};

/// The number of attempts of an action while the instance changes at the same time.
const ATTEMPTS: usize = 20;

/// Lists and operates the instances of processes, with or without a running process. It needs no code of the processes.
#[derive(Debug, Clone)]
pub struct ProcessAdmin {
    store: Arc<dyn EventStore>,
    journals: Arc<Repository<ProcessJournal>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// An unfinished instance in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedProcess {
    /// The id.
    pub id: ProcessId,
    /// The time at which it has something to do: in the past while an event is pending, the end of the year 9999 or
    /// later while it waits for events or for a person.
    pub due: Timestamp,
    /// The reason why it is quarantined, if it is.
    pub quarantine: Option<String>,
    timer: Timer,
}

impl ProcessAdmin {
    /// Returns the admin interface of the processes of a store.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>) -> Self {
        let journals = Arc::new(Repository::new(Arc::clone(&store)).without_cache());
        Self { store, journals, clock: Arc::new(SystemClock::new()), entropy: Arc::new(SystemEntropy) }
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

    /// Returns the names of the processes that have handled an event, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if the rows cannot be read.
    pub async fn processes(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        let found = self.store.rows(rows::cursor_scan(limit)?).await?;
        let name = |key: &[u8]| String::from_utf8_lossy(key.get(1..).unwrap_or_default()).into_owned();
        Ok(found.iter().map(|row| name(&row.key)).collect())
    }

    /// Returns at most `limit` unfinished instances of a process after the instance `after` of an earlier call, in the
    /// order of their due times. Quarantined ones are last.
    ///
    /// # Errors
    /// [`StoreError`] if the rows cannot be read.
    pub async fn unfinished(
        &self,
        process: &str,
        after: Option<&UnfinishedProcess>,
        limit: usize,
    ) -> Result<Vec<UnfinishedProcess>, StoreError> {
        self.scan(process, after.map(|after| &after.timer), limit).await
    }

    /// Returns at most `limit` quarantined instances of a process after the instance `after` of an earlier call. The
    /// cost does not depend on the number of other instances.
    ///
    /// # Errors
    /// [`StoreError`] if the rows cannot be read.
    pub async fn quarantined(
        &self,
        process: &str,
        after: Option<&UnfinishedProcess>,
        limit: usize,
    ) -> Result<Vec<UnfinishedProcess>, StoreError> {
        let bound = rows::before_quarantined();
        self.scan(process, after.map(|after| &after.timer).or(bound.as_ref()), limit).await
    }

    async fn scan(
        &self,
        process: &str,
        after: Option<&Timer>,
        limit: usize,
    ) -> Result<Vec<UnfinishedProcess>, StoreError> {
        let timers = rows::queue(process).scan(&*self.store, after, limit).await?;
        let listed = |timer: Timer| {
            let id = ProcessJournal::id_of(&timer.stream)?;
            let quarantine = Some(timer.note.clone()).filter(|note| !note.is_empty());
            Some(UnfinishedProcess { id, due: timer.due, quarantine, timer })
        };
        Ok(timers.into_iter().filter_map(listed).collect())
    }

    /// Returns the journal of an instance: its phase, timers, keys, waits and pending events. An instance that was
    /// never started is [`ProcessPhase::Missing`].
    ///
    /// # Errors
    /// [`LoadError`] if the instance cannot be read.
    pub async fn show(&self, id: &ProcessId) -> Result<ProcessJournal, LoadError> {
        Ok(self.journals.load(id).await?.state)
    }

    /// Has a quarantined instance tried again: its pending events, in order, then its timers.
    ///
    /// # Errors
    /// - [`OperateProcessError::NotQuarantined`] or [`OperateProcessError::NoProcess`] if it is not possible.
    /// - [`OperateProcessError::Name`], [`OperateProcessError::Encode`] or [`OperateProcessError::Commit`] if the id is
    ///   not valid or the infrastructure fails.
    pub async fn retry(&self, id: &ProcessId, note: OperatorNote) -> Result<(), OperateProcessError> {
        let mut attempts = Attempts::default();
        loop {
            let retried = self.try_retry(id, note.clone()).await;
            if !attempts.repeat(&retried) {
                return retried;
            }
        }
    }

    async fn try_retry(&self, id: &ProcessId, note: OperatorNote) -> Result<(), OperateProcessError> {
        let (stream, queue) = (ProcessJournal::stream(id)?, rows::queue(id.process()));
        let timer = queue.get(&*self.store, &stream).await.map_err(CommitError::Store)?;
        let revision = self.store.revision(&stream).await.map_err(CommitError::Store)?;
        if revision.is_none() {
            return Err(OperateProcessError::NoProcess { process: id.to_string() });
        }
        if timer.as_ref().is_none_or(|timer| timer.note.is_empty()) {
            return Err(OperateProcessError::NotQuarantined { process: id.to_string() });
        }
        let stamp = self.stamp(id);
        // The journal is not loaded: a person retries an instance that the former program could not read.
        let commit = stamp.append(Commit::new(), &stream, revision, &[ProcessEvent::Retried(note)])?;
        let next = Timer::new(stream.clone(), stamp.now);
        let commit = queue.replace(commit, &stream, timer.as_ref(), Some(&next)).map_err(CommitError::Store)?;
        self.store.commit(commit).await?;
        Ok(())
    }

    /// Drops the first pending event of a quarantined instance, and has the instance tried again without it.
    ///
    /// # Errors
    /// - [`OperateProcessError::NoPending`] if it has none.
    /// - [`OperateProcessError::Load`] if the instance cannot be read.
    /// - The other variants as for [`retry`](Self::retry).
    pub async fn drop_pending(&self, id: &ProcessId, note: OperatorNote) -> Result<(), OperateProcessError> {
        let mut attempts = Attempts::default();
        loop {
            let dropped = self.try_drop_pending(id, note.clone()).await;
            if !attempts.repeat(&dropped) {
                return dropped;
            }
        }
    }

    async fn try_drop_pending(&self, id: &ProcessId, note: OperatorNote) -> Result<(), OperateProcessError> {
        let loaded = self.journals.load(id).await?;
        let process = || id.to_string();
        if loaded.revision.is_none() {
            return Err(OperateProcessError::NoProcess { process: process() });
        }
        if loaded.state.quarantine().is_none() {
            return Err(OperateProcessError::NotQuarantined { process: process() });
        }
        if loaded.state.first_pending().is_none() {
            return Err(OperateProcessError::NoPending { process: process() });
        }
        self.write(id, loaded, ProcessEvent::PendingDropped(note)).await
    }

    /// Ends an instance that has not ended. What it has done remains; its pending events and timers are dropped.
    ///
    /// # Errors
    /// - [`OperateProcessError::NoProcess`] or [`OperateProcessError::HasEnded`] if it is not possible.
    /// - The other variants as for [`retry`](Self::retry).
    pub async fn abandon(&self, id: &ProcessId, note: OperatorNote) -> Result<(), OperateProcessError> {
        let mut attempts = Attempts::default();
        loop {
            let abandoned = self.try_abandon(id, note.clone()).await;
            if !attempts.repeat(&abandoned) {
                abandoned?;
                count_abandoned(id.process());
                return Ok(());
            }
        }
    }

    async fn try_abandon(&self, id: &ProcessId, note: OperatorNote) -> Result<(), OperateProcessError> {
        let (stream, queue) = (ProcessJournal::stream(id)?, rows::queue(id.process()));
        let timer = queue.get(&*self.store, &stream).await.map_err(CommitError::Store)?;
        let revision = self.store.revision(&stream).await.map_err(CommitError::Store)?;
        if revision.is_none() {
            return Err(OperateProcessError::NoProcess { process: id.to_string() });
        }
        let Some(timer) = timer else { return Err(OperateProcessError::HasEnded { process: id.to_string() }) };
        match self.journals.load(id).await {
            Ok(loaded) => self.write(id, loaded, ProcessEvent::Abandoned(note)).await,
            // It cannot be read, so its keys are not known; they are given to the next instance that wants them.
            Err(_) if !timer.note.is_empty() => {
                let event = ProcessEvent::Abandoned(note);
                let commit = self.stamp(id).append(Commit::new(), &stream, revision, &[event])?;
                let commit = queue.replace(commit, &stream, Some(&timer), None).map_err(CommitError::Store)?;
                self.store.commit(commit).await?;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns at most `limit` parked events of a process after the event `after`, in the order of the log.
    ///
    /// # Errors
    /// [`StoreError`] if the rows cannot be read.
    pub async fn parked(
        &self,
        process: &str,
        after: Option<&ConsumedEvent>,
        limit: usize,
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        rows::set_aside_events(&*self.store, rows::PARKED, process, after, limit).await
    }

    /// Returns at most `limit` skipped events of a process after the event `after`, in the order of the log.
    ///
    /// # Errors
    /// [`StoreError`] if the rows cannot be read.
    pub async fn skipped(
        &self,
        process: &str,
        after: Option<&ConsumedEvent>,
        limit: usize,
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        rows::set_aside_events(&*self.store, rows::SKIPPED, process, after, limit).await
    }

    /// Has a parked event offered to the process again. It is parked again if it still does not fit.
    ///
    /// # Errors
    /// - [`OperateProcessError::NoParked`] if there is no such parked event.
    /// - [`OperateProcessError::Commit`] if the store fails.
    pub async fn retry_parked(
        &self,
        process: &str,
        event: &ConsumedEvent,
        note: OperatorNote,
    ) -> Result<(), OperateProcessError> {
        self.move_parked(process, event, rows::RETRY, note).await
    }

    /// Skips a parked event: it is listed among the skipped events, with the note.
    ///
    /// # Errors
    /// As for [`retry_parked`](Self::retry_parked).
    pub async fn skip_parked(
        &self,
        process: &str,
        event: &ConsumedEvent,
        note: OperatorNote,
    ) -> Result<(), OperateProcessError> {
        self.move_parked(process, event, rows::SKIPPED, note).await
    }

    async fn move_parked(
        &self,
        process: &str,
        event: &ConsumedEvent,
        kind: u8,
        note: OperatorNote,
    ) -> Result<(), OperateProcessError> {
        let key = rows::event_key(rows::PARKED, process, event.position, event.index);
        let stored = rows::read::<ParkedEvent>(&*self.store, &key).await.map_err(CommitError::Store)?;
        let Some((parked, bytes)) = stored else {
            let (process, position, index) = (process.to_owned(), event.position, event.index);
            return Err(OperateProcessError::NoParked { process, position, index });
        };
        let table = rows::table().map_err(CommitError::Store)?;
        let mut commit = Commit::new().expect_row(table.clone(), key.clone(), Some(bytes));
        if kind == rows::SKIPPED {
            let retry = rows::event_key(rows::RETRY, process, event.position, event.index);
            commit = commit.delete_row(table.clone(), key).delete_row(table, retry);
        }
        let parked = ParkedEvent { note: Some(note), ..parked };
        let commit = rows::set_aside(commit, kind, process, &parked).map_err(CommitError::Store)?;
        self.store.commit(commit).await?;
        Ok(())
    }

    /// Writes an event of an instance, with the rows that follow from it.
    async fn write(
        &self,
        id: &ProcessId,
        loaded: es_core::Loaded<ProcessJournal>,
        event: ProcessEvent,
    ) -> Result<(), OperateProcessError> {
        let (stream, queue, stamp) = (ProcessJournal::stream(id)?, rows::queue(id.process()), self.stamp(id));
        let timer = queue.get(&*self.store, &stream).await.map_err(CommitError::Store)?;
        let mut after = loaded.state.clone();
        after.apply(&event, stamp.now);
        let mut commit = stamp.append(Commit::new(), &stream, loaded.revision, &[event])?;
        if after.phase() == ProcessPhase::Abandoned {
            let table = rows::table().map_err(CommitError::Store)?;
            for key in loaded.state.keys() {
                commit = commit.delete_row(table.clone(), rows::association_key(id.process(), key));
            }
        }
        let next = rows::instance_timer(&stream, &after);
        let commit = queue.replace(commit, &stream, timer.as_ref(), next.as_ref()).map_err(CommitError::Store)?;
        self.store.commit(commit).await?;
        Ok(())
    }

    fn stamp(&self, id: &ProcessId) -> EventStamp<'_> {
        let context = Context::with_correlation(id.correlation());
        EventStamp { now: stored_now(&*self.clock), context, metadata: Metadata::new(), entropy: &*self.entropy }
    }
}

/// The number of attempts of an action that have failed. A loop with it, unlike an async closure, gives a future that
/// is `Send` for the handlers of a server.
#[derive(Debug, Default)]
struct Attempts(usize);

impl Attempts {
    /// Returns whether an action is tried again, because the instance has changed at the same time.
    fn repeat(&mut self, result: &Result<(), OperateProcessError>) -> bool {
        self.0 += 1;
        self.0 < ATTEMPTS && matches!(result, Err(OperateProcessError::Commit(CommitError::Conflict(_))))
    }
}
