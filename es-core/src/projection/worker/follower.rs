//! [`Follower`]: the worker of one partition of one generation. It reads, applies and commits.
//!
//! ```text
//!   subscription --batch--> events of this partition --apply--> commit { rows, checkpoint, parked events }
//!                                    |
//!                                    +-- cannot be applied --> park its key --> retry with pauses
//! ```
//!
//! Each commit is conditional: the lease, the control row, the checkpoint and the rows that were read must be
//! unchanged.
//!
//! Not in this module: the choice of the generation (`plan`), the attempts of a policy (`schedule`), and retries on
//! request (`retry`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{RwLockReadGuard, RwLockWriteGuard, watch};

use super::control::Request;
use super::feed::{Feed, Reached};
use super::metrics;
use super::parked::{ParkedEvent, ParkedKeys, ScheduledRetry};
use super::partition_log::{Barrier, CanonicalPart, PartitionBatch, PartitionLog};
use super::pipeline::Pipeline;
use super::progress::{applied_to, number};
use super::rows::table;
use crate::consumer::lease::row_error;
use crate::consumer::selection::Selection;
use crate::consumer::subscription::Subscription;
use crate::model::ErrorChain;
use crate::model::Position;
use crate::model::RecordedEvent;
use crate::projection::kept::AppliedOrder;
use crate::projection::settled::{CanonicalLog, SettledMark, SettledStep};
use crate::projection::states::StateReader;
use crate::projection::{
    BatchApplier, Checkpoint, Generation, GenerationTables, Projection, Rows, checkpoint_key, checkpoints_table,
};
use crate::store::implement::RowChange;
use crate::store::{Commit, CommitError, Conflict, FailedCheck, StoreError, encode_row};

/// The largest number of positions without a matching event before the checkpoint is written.
const IDLE_POSITIONS: u64 = 50_000;

/// The largest number of rows in the cache of a single worker, which holds the rows that its last batches read and
/// wrote. The cache is emptied when it exceeds this number.
const CACHED_ROWS: usize = 65_536;
/// The largest size of that cache, in bytes of keys and values.
const CACHED_BYTES: usize = 16 * 1024 * 1024;

/// The number of conflicts after which a worker commits exclusively.
const CONFLICTS_BEFORE_EXCLUSIVE: u32 = 2;

/// The reason why a worker ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It was stopped.
    Stopped,
    /// It reached the position up to which it had to run.
    Reached,
}

/// The reason why a worker failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    /// Another process took the lease, an operator made a request, or another writer changed the checkpoint.
    #[error("the lease, the control row or the checkpoint has changed")]
    Fenced,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The reason why a commit was not written.
pub(super) enum CommitRefusal {
    /// Rows that the events read have changed.
    RowsChanged,
    /// The changes break a limit of the store.
    Invalid(String),
    Follow(FollowError),
}

impl<E: Into<FollowError>> From<E> for CommitRefusal {
    fn from(error: E) -> Self {
        Self::Follow(error.into())
    }
}

/// The result of applying events in memory.
pub(super) enum BatchResult {
    /// The first `count` events are applied to `rows`.
    Applied { count: usize, rows: Box<Rows> },
    /// The first event cannot be applied, for this reason.
    Failed(String),
}

/// The right to apply and commit: shared with the other workers, or exclusive.
pub(super) enum CommitPermit<'a> {
    Shared { _guard: RwLockReadGuard<'a, ()> },
    Exclusive { _guard: RwLockWriteGuard<'a, ()> },
}

/// The worker of one partition.
pub(crate) struct Follower<P> {
    pub(super) pipeline: Arc<Pipeline<P>>,
    pub(super) partition: u32,
    tables: GenerationTables,
    pub(super) states: StateReader,
    /// Rows as the last commit left them, if this is the only worker; empty otherwise.
    cached_rows: Rows,
    pub(super) parked: ParkedKeys,
    /// The keys that wait for another attempt.
    pub(super) retries: BTreeMap<String, ScheduledRetry>,
    checkpoint: WrittenCheckpoint,
    /// The position up to which every event is applied or parked, or is not an event of this partition.
    pub(super) scanned: Option<Position>,
    /// The place in canonical order up to which every event is applied or parked. `None` in the order of the log.
    pub(super) mark: Option<SettledMark>,
    /// The steps of the events of the batch that are not applied or parked yet, in canonical order.
    steps: VecDeque<SettledStep>,
    pub(super) stop: watch::Receiver<bool>,
}

/// The checkpoint row as the last commit left it.
struct WrittenCheckpoint {
    row: Option<Bytes>,
    reached: Reached,
}

impl<P: Projection> Follower<P> {
    pub(crate) async fn open(
        pipeline: Arc<Pipeline<P>>,
        partition: u32,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, FollowError> {
        let generation = pipeline.progress.build.generation;
        let tables =
            GenerationTables::new(P::NAME, generation).map_err(|error| StoreError::io("name a projection", error))?;
        let parked = ParkedKeys::open(&*pipeline.store, pipeline.keys.clone(), generation).await?;
        let row = pipeline.store.row(&checkpoints_table(), &checkpoint_key(P::NAME, generation, partition)).await?;
        let position = Checkpoint::decode(P::NAME, row.as_deref())?.position;
        let mark = SettledMark::of_checkpoint(P::NAME, row.as_deref())?;
        let mark = pipeline.replication.as_ref().map(|_| mark.unwrap_or_default());
        let order = if mark.is_some() { AppliedOrder::Canonical } else { AppliedOrder::Log };
        let states = StateReader::new(Arc::clone(&pipeline.store), order);
        Ok(Self {
            pipeline,
            partition,
            tables,
            states,
            cached_rows: Rows::default(),
            parked,
            retries: BTreeMap::new(),
            checkpoint: WrittenCheckpoint { row, reached: Reached { position, mark: mark.clone() } },
            scanned: position,
            mark,
            steps: VecDeque::new(),
            stop,
        })
    }

    /// Follows the log until the worker is stopped, or up to the position `until`. Writes the checkpoint before it
    /// returns.
    pub(crate) async fn run(mut self, until: Option<Position>) -> Result<Exit, FollowError> {
        self.resume_retries();
        self.retry_requested_keys().await?;
        self.publish_progress();
        let pipeline = Arc::clone(&self.pipeline);
        let mut log = self.feed(&pipeline)?;
        let mut stop = self.stop.clone();
        let mut prefetched = None;
        loop {
            if self.is_stopped() {
                self.write_checkpoint().await?;
                return Ok(Exit::Stopped);
            }
            if until.is_some() && self.scanned >= until {
                self.retry_until_all_have_reached_the_end().await?;
                self.write_checkpoint().await?;
                return Ok(Exit::Reached);
            }
            self.retry_due_keys().await?;
            let next_retry = self.next_retry();
            let is_checkpoint_due = self.reached() != self.checkpoint.reached;
            let batch = match prefetched.take() {
                Some(batch) => batch,
                None => tokio::select! {
                    biased;
                    () = stop_requested(&mut stop) => continue,
                    batch = log.next() => batch?,
                    () = tokio::time::sleep(next_retry.unwrap_or_default()),
                        if next_retry.is_some() => continue,
                    () = tokio::time::sleep(self.pipeline.options.idle_checkpoint), if is_checkpoint_due => {
                        self.write_checkpoint().await?;
                        continue;
                    }
                },
            };
            if log.is_at_head() || until.is_some_and(|until| batch.scanned >= Some(until)) {
                self.process(batch.up_to(until)).await?;
                continue;
            }
            // Before the head the next batch is read while this one is applied and committed. At the head there is no
            // next batch yet, and waiting for one would delay this one.
            let (processed, next) = tokio::join!(self.process(batch), log.next());
            processed?;
            prefetched = Some(next?);
        }
    }

    /// Returns the source of the batches of this worker.
    fn feed<'p>(&self, pipeline: &'p Pipeline<P>) -> Result<Feed<'p, P>, StoreError> {
        let (store, projection) = (Arc::clone(&pipeline.store), &*pipeline.projection);
        let (selection, batch) = (Selection::new(projection.query()), pipeline.options.batch);
        if let (Some(replication), Some(mark)) = (&pipeline.replication, &self.mark) {
            let (replication, settled) = (Arc::clone(replication), pipeline.monitor.settled_sender());
            let log = CanonicalLog::new(store, replication, selection, mark.clone(), batch, settled);
            return Ok(Feed::Canonical { projection, log: Box::new(log) });
        }
        let log = Subscription::new(store, selection.log_query().clone(), self.scanned).map_err(|ahead| {
            StoreError::damaged(format!("checkpoint of projection {:?}", P::NAME), ahead.to_string())
        })?;
        let partitions = pipeline.progress.build.partitions;
        let (partition, log) = (self.partition, log.batch(batch));
        Ok(Feed::Log(PartitionLog { projection, selection, partition, partitions, log }))
    }

    /// Returns the checkpoint to write now.
    fn reached(&self) -> Reached {
        Reached { position: self.scanned, mark: self.mark.clone() }
    }

    /// Returns the checkpoint after the first events of the batch that are not applied or parked yet. `position` is
    /// that of the last one of them.
    pub(super) fn reached_after(&self, events: usize, position: Position) -> Reached {
        let Some(mark) = &self.mark else { return Some(position).into() };
        let mut mark = mark.clone();
        self.steps.iter().take(events).for_each(|step| mark.apply(*step));
        // In canonical order, earlier events of the log can follow.
        Reached { position: None, mark: Some(mark) }
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stop.borrow() || self.stop.has_changed().is_err()
    }

    pub(super) fn generation(&self) -> Generation {
        self.pipeline.progress.build.generation
    }

    /// Applies and commits all events of a batch, in one or several commits. Waits for the other partitions at each
    /// erasure.
    async fn process(&mut self, batch: PartitionBatch) -> Result<(), FollowError> {
        if let Some(canonical) = batch.canonical {
            return self.process_canonical(&batch.events, batch.scanned, canonical).await;
        }
        let mut remaining = batch.events.as_slice();
        for barrier in batch.barriers {
            let before = remaining.partition_point(|(_, event)| event.position < barrier.position);
            self.process_events(&remaining[..before], barrier.position.previous().into()).await?;
            remaining = &remaining[before..];
            self.wait_at(barrier).await?;
            if self.is_stopped() {
                return Ok(());
            }
            if barrier.owner == self.partition {
                let (erasure, rest) = remaining.split_at(1.min(remaining.len()));
                self.process_events(erasure, Some(barrier.position).into()).await?;
                remaining = rest;
            }
        }
        self.process_events(remaining, batch.scanned.into()).await?;
        self.write_idle_checkpoint().await
    }

    /// Applies and commits all events of a batch in canonical order. Requests a rebuild if events arrived late.
    async fn process_canonical(
        &mut self,
        events: &[(String, RecordedEvent)],
        position: Option<Position>,
        CanonicalPart { steps, mark, late }: CanonicalPart,
    ) -> Result<(), FollowError> {
        self.steps = steps.into();
        let is_late = late > 0;
        if let Some(before) = self.mark.as_mut().filter(|_| !is_late) {
            before.see(mark.seen());
        }
        let end = Reached { position, mark: Some(mark) };
        if !is_late {
            self.process_events(events, end).await?;
            return self.write_idle_checkpoint().await;
        }
        if let Some(last) = events.last() {
            let before = self.reached_after(events.len(), last.1.position);
            self.process_events(events, before).await?;
        }
        if self.is_stopped() {
            return Ok(());
        }
        // The view lacks these events until the new generation replaces it.
        let mut control = self.pipeline.fence.control.value.clone().unwrap_or_default();
        control.sequence += 1;
        control.request(Request::RebuildAfterLateEvents);
        let row = put(self.pipeline.keys.control(), encode_row(&control)?);
        self.commit(None, vec![row], end).await.map_err(unexpected)?;
        self.pipeline.monitor.count_late_events(late);
        // The runner serves the request in a new round. It would not notice the request, which moves no head.
        Err(FollowError::Fenced)
    }

    /// Writes the checkpoint after many positions without a matching event.
    async fn write_idle_checkpoint(&mut self) -> Result<(), FollowError> {
        if number(self.scanned) - number(self.checkpoint.reached.position) > IDLE_POSITIONS {
            self.write_checkpoint().await?;
        }
        Ok(())
    }

    /// Waits until this partition may continue at an erasure, or is stopped. Retries its keys meanwhile: the other
    /// partitions may wait for them.
    async fn wait_at(&mut self, barrier: Barrier) -> Result<(), FollowError> {
        let (pipeline, partition) = (Arc::clone(&self.pipeline), self.partition);
        let progress = &pipeline.progress;
        let mut stop = self.stop.clone();
        let mut others_or_owner = std::pin::pin!(async {
            if barrier.owner == partition {
                progress.wait_for(barrier.position.previous(), |other| other != partition).await;
            } else {
                progress.wait_for(Some(barrier.position), |other| other == barrier.owner).await;
            }
        });
        loop {
            let next_retry = self.next_retry();
            tokio::select! {
                () = stop_requested(&mut stop) => return Ok(()),
                () = &mut others_or_owner => return Ok(()),
                () = tokio::time::sleep(next_retry.unwrap_or_default()), if next_retry.is_some() => {}
            }
            self.retry_due_keys().await?;
        }
    }

    /// Applies and commits events, in one or several commits. `scanned` is the checkpoint after the last event.
    async fn process_events(
        &mut self,
        events: &[(String, RecordedEvent)],
        scanned: Reached,
    ) -> Result<(), FollowError> {
        let mut remaining = events;
        while !remaining.is_empty() {
            if self.is_stopped() {
                return Ok(());
            }
            self.wait_for_room().await?;
            self.retry_due_keys().await?;
            let count = self.apply_and_commit(remaining, &scanned).await?;
            self.steps.drain(..count.min(self.steps.len()));
            let (processed, rest) = remaining.split_at(count);
            self.pipeline.progress.count(processed.iter().map(|(_, event)| event));
            metrics::count(metrics::EVENTS, P::NAME, count as u64);
            remaining = rest;
            self.retry_keys_of_erasures(processed).await?;
            self.publish_progress();
        }
        self.scanned = scanned.position.max(self.scanned);
        self.mark = scanned.mark.or(self.mark.take());
        self.publish_progress();
        Ok(())
    }

    /// Commits the first events, as many as fit into a commit, and returns their number. If the first event cannot be
    /// applied, parks its key.
    ///
    /// `scanned` is the checkpoint after the last event.
    async fn apply_and_commit(
        &mut self,
        events: &[(String, RecordedEvent)],
        scanned: &Reached,
    ) -> Result<usize, FollowError> {
        let pipeline = Arc::clone(&self.pipeline);
        let mut limit = events.len();
        let mut conflicts = 0;
        loop {
            let permit = self.commit_permit(&pipeline, conflicts).await;
            let candidates = &events[..limit];
            let parked_keys = self.parked_among(candidates).await?;
            let failure = match self.apply(candidates.iter().map(|(_, event)| event), &parked_keys).await? {
                BatchResult::Failed(failure) => failure,
                BatchResult::Applied { count, rows } => {
                    let checkpoint = if count == events.len() {
                        scanned.clone()
                    } else {
                        self.reached_after(count, candidates[count - 1].1.position)
                    };
                    let parked_rows = self.parked_rows(&candidates[..count], &parked_keys)?;
                    match self.commit(Some(*rows), parked_rows, checkpoint).await {
                        Ok(()) => {
                            self.count_parked(&candidates[..count], &parked_keys);
                            return Ok(count);
                        }
                        Err(CommitRefusal::RowsChanged) => {
                            (conflicts, limit) = (conflicts + 1, count);
                            continue;
                        }
                        Err(CommitRefusal::Invalid(_)) if count > 1 => {
                            limit = count / 2;
                            continue;
                        }
                        Err(CommitRefusal::Invalid(reason)) => reason,
                        Err(CommitRefusal::Follow(error)) => return Err(error),
                    }
                }
            };
            drop(permit);
            let (key, event) = &events[0];
            if parked_keys.contains(key) {
                // The event waits for an earlier event of its key, so its own failure does not matter yet.
                let row = self.parked_row(key, event, 0)?;
                let reached = self.reached_after(1, event.position);
                self.commit(None, vec![row], reached).await.map_err(unexpected)?;
                self.count_parked(&events[..1], &parked_keys);
                return Ok(1);
            }
            self.park(key, event, failure).await?;
            return Ok(1);
        }
    }

    /// Counts the events of parked keys. Those of a key that is retried count when the key is parked for good.
    fn count_parked(&mut self, events: &[(String, RecordedEvent)], parked_keys: &BTreeSet<String>) {
        for (key, _) in events.iter().filter(|(key, _)| parked_keys.contains(key)) {
            match self.retries.get_mut(key) {
                Some(retry) => retry.events += 1,
                None => metrics::count(metrics::PARKED, P::NAME, 1),
            }
        }
    }

    /// Publishes the position up to which the partition has applied the log. An event that is retried is not applied.
    pub(super) fn publish_progress(&self) {
        let applied = applied_to(self.scanned, self.retries.values().map(|retry| retry.position));
        self.pipeline.progress.advance(self.partition, applied);
    }

    /// Returns the change that adds an event to the dead-letter list. `index` is that of the event among those of the
    /// batch that are not applied or parked yet. The rows of a key are in the order in which its events are applied.
    pub(super) fn parked_row(&self, key: &str, event: &RecordedEvent, index: usize) -> Result<RowChange, StoreError> {
        let parked = ParkedEvent::new(key.to_owned(), event, self.pipeline.clock.now());
        let order = match &self.mark {
            None => event.position.get(),
            Some(mark) => mark.events() + 1 + index as u64,
        };
        Ok(put(self.pipeline.keys.parked_event(self.generation(), key, order), encode_row(&parked)?))
    }

    /// Returns the changes that add the events of parked keys to the dead-letter list.
    fn parked_rows(
        &self,
        candidates: &[(String, RecordedEvent)],
        parked_keys: &BTreeSet<String>,
    ) -> Result<Vec<RowChange>, StoreError> {
        let mut rows = Vec::new();
        for (index, (key, event)) in candidates.iter().enumerate().filter(|(_, (key, _))| parked_keys.contains(key)) {
            rows.push(self.parked_row(key, event, index)?);
        }
        Ok(rows)
    }

    /// Waits for the right to commit. It is exclusive after repeated conflicts.
    pub(super) async fn commit_permit<'p>(&self, pipeline: &'p Pipeline<P>, conflicts: u32) -> CommitPermit<'p> {
        if conflicts < CONFLICTS_BEFORE_EXCLUSIVE {
            CommitPermit::Shared { _guard: pipeline.commit_lock.read().await }
        } else {
            CommitPermit::Exclusive { _guard: pipeline.commit_lock.write().await }
        }
    }

    /// Returns the keys of the events that are parked.
    async fn parked_among(&mut self, events: &[(String, RecordedEvent)]) -> Result<BTreeSet<String>, StoreError> {
        let mut parked_keys = BTreeSet::new();
        for (key, _) in events {
            if !parked_keys.contains(key) && self.parked.contains(&*self.pipeline.store, key).await? {
                parked_keys.insert(key.clone());
            }
        }
        Ok(parked_keys)
    }

    /// Applies the first events in memory: up to the first one that fails, and as many as fit into a commit. Skips the
    /// events of parked keys.
    pub(super) async fn apply<'e>(
        &mut self,
        events: impl IntoIterator<Item = &'e RecordedEvent>,
        parked_keys: &BTreeSet<String>,
    ) -> Result<BatchResult, StoreError> {
        let events: Vec<_> = events.into_iter().collect();
        let mut count = events.len();
        // Only a successful commit returns the rows to the cache: after a failure they may differ from the store.
        let mut rows = std::mem::take(&mut self.cached_rows);
        loop {
            let applier = BatchApplier::new(&*self.pipeline.projection, events[..count].iter().copied(), parked_keys);
            let outcomes;
            (rows, outcomes) = self.tables.apply_onto(&*self.pipeline.store, Some(&self.states), applier, rows).await?;
            let first_failure =
                outcomes.iter().enumerate().find_map(|(index, outcome)| Some((index, outcome.failure()?)));
            match first_failure {
                Some((0, failure)) => return Ok(BatchResult::Failed(ErrorChain(failure).to_string())),
                // The events before the failed one are committed first, so that its retries do not delay them.
                Some((index, _)) => count = index,
                None if count > 1 && bytes_of(&rows) > self.pipeline.options.commit_bytes => count /= 2,
                None => return Ok(BatchResult::Applied { count, rows: Box::new(rows) }),
            }
        }
    }

    /// Commits rows of the view, rows of the worker and the checkpoint, under the conditions of the fence. With several
    /// workers the rows that were read must be unchanged too.
    pub(super) async fn commit(
        &mut self,
        rows: Option<Rows>,
        worker_rows: Vec<RowChange>,
        to: Reached,
    ) -> Result<(), CommitRefusal> {
        let Pipeline { store, keys: _, fence, clock, progress, .. } = &*self.pipeline;
        let key = checkpoint_key(P::NAME, progress.build.generation, self.partition);
        let position = to.position.max(self.checkpoint.reached.position);
        let mark = to.mark.or_else(|| self.mark.clone());
        let checkpoint = match &mark {
            None => Checkpoint::at(position).encode(),
            Some(mark) => mark.checkpoint(position)?,
        };
        let mut commit =
            fence.expect(Commit::new()).expect_row(checkpoints_table(), key.clone(), self.checkpoint.row.clone());
        if let Some(rows) = &rows {
            // A single worker is the only writer of these rows.
            if progress.build.partitions > 1 {
                for ((logical, key), value) in rows.read_set() {
                    commit = commit.expect_row(self.tables.table(logical)?, key.clone(), value.clone());
                }
            }
            commit = self.tables.changes(rows)?.into_iter().fold(commit, add_change);
        }
        commit = worker_rows.into_iter().fold(commit, add_change).put_row(checkpoints_table(), key, checkpoint.clone());
        let started_at = clock.elapsed();
        let committed = store.commit(commit).await;
        metrics::record_duration(metrics::COMMIT_SECONDS, P::NAME, clock.elapsed().saturating_sub(started_at));
        match committed {
            Ok(_) => {}
            Err(CommitError::Conflict(conflict)) if is_of_view_rows(&conflict) => {
                metrics::count(metrics::CONFLICTS, P::NAME, 1);
                return Err(CommitRefusal::RowsChanged);
            }
            Err(CommitError::Conflict(_)) => return Err(FollowError::Fenced.into()),
            Err(CommitError::Invalid(error)) => return Err(CommitRefusal::Invalid(error.to_string())),
            Err(error) => return Err(row_error(error).into()),
        }
        let is_single_worker = progress.build.partitions == 1;
        if let Some(mut rows) = rows {
            self.tables.written(&rows);
            if is_single_worker {
                rows.committed(CACHED_ROWS, CACHED_BYTES);
                self.cached_rows = rows;
            }
        }
        tracing::trace!(projection = P::NAME, ?position, "projection committed");
        metrics::count(metrics::COMMITS, P::NAME, 1);
        self.scanned = position.max(self.scanned);
        self.mark.clone_from(&mark);
        self.checkpoint = WrittenCheckpoint { row: Some(checkpoint), reached: Reached { position, mark } };
        Ok(())
    }

    /// Writes the scanned position as checkpoint, unless it is written already.
    async fn write_checkpoint(&mut self) -> Result<(), FollowError> {
        if self.reached() == self.checkpoint.reached {
            return Ok(());
        }
        self.commit(None, Vec::new(), self.reached()).await.map_err(unexpected)
    }
}

/// Waits until the worker must stop.
pub(crate) async fn stop_requested(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender was dropped, which is a request to stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Returns whether the conflict concerns rows of the view only.
fn is_of_view_rows(conflict: &Conflict) -> bool {
    conflict.failed.iter().all(|check| match check {
        FailedCheck::Row { table: found, .. } => *found != table() && *found != checkpoints_table(),
        _ => false,
    })
}

/// Converts the refusal of a commit without rows of the view, which can neither conflict on such rows nor be too large.
pub(super) fn unexpected(refusal: CommitRefusal) -> FollowError {
    match refusal {
        CommitRefusal::RowsChanged => FollowError::Fenced,
        CommitRefusal::Invalid(reason) => StoreError::io("write rows of a projection", reason).into(),
        CommitRefusal::Follow(error) => error,
    }
}

/// Returns the size of the changed rows, in bytes of keys and values.
fn bytes_of(rows: &Rows) -> usize {
    rows.changes().map(|((_, key), value)| key.len() + value.as_ref().map_or(0, Bytes::len)).sum()
}

pub(super) fn put(key: Bytes, value: Bytes) -> RowChange {
    RowChange { table: table(), key, value: Some(value) }
}

pub(super) fn delete(key: Bytes) -> RowChange {
    RowChange { table: table(), key, value: None }
}

fn add_change(commit: Commit, RowChange { table, key, value }: RowChange) -> Commit {
    match value {
        Some(value) => commit.put_row(table, key, value),
        None => commit.delete_row(table, key),
    }
}
