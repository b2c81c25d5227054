//! [`Follower`]: the worker of one partition of one generation. It reads, applies and commits.
//!
//! ```text
//!   subscription --batch--> events of this partition --apply--> commit { rows, checkpoint, parked events
//!                                    |                                 | expects: claim, control, checkpoint, rows that were read }
//!                                    +-- cannot be applied --> retry with pauses --> park
//! ```
//!
//! Absent here: which generation is built or read (`plan`), retries on request (`retry`).

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{RwLockReadGuard, RwLockWriteGuard, watch};

use super::metrics;
use super::parked::{ParkedEvent, ParkedKey, ParkedKeys};
use super::pipeline::Pipeline;
use super::rows::{encode, table};
use crate::consumer::subscription::Subscription;
use crate::model::ErrorChain;
use crate::model::EventView;
use crate::model::Position;
use crate::model::RecordedEvent;
use crate::projection::{
    BatchApplier, Checkpoint, Generation, GenerationTables, Projection, Rows, checkpoint_key, checkpoints_table,
    is_projected, partition_of,
};
use crate::store::implement::RowChange;
use crate::store::{Commit, CommitError, Conflict, FailedCheck, StoreError};

/// The largest number of positions without a matching event before the checkpoint is written.
const IDLE_POSITIONS: u64 = 50_000;

/// The largest number of rows that a lone worker caches: those that it read and wrote in the last batches. Beyond, the cache is
/// emptied.
const KEPT_ROWS: usize = 65_536;
/// The largest size of that cache, in bytes of keys and values.
const KEPT_BYTES: usize = 16 * 1024 * 1024;

/// The number of conflicts after which a worker commits exclusively.
const CONFLICTS_BEFORE_ALONE: u32 = 2;

/// How a worker ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It was told to.
    Stopped,
    /// It is where it was to get to.
    Arrived,
}

/// How a worker ended otherwise.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    /// The claim, what an operator has asked for, or the checkpoint is not as it was: somebody else has the say.
    #[error("the claim, the control row or the checkpoint has changed")]
    Fenced,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What became of a commit that was not simply written.
pub(super) enum CommitRefusal {
    /// Rows that were read have changed.
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

/// What became of some events in memory.
pub(super) enum BatchResult {
    /// The first ones, this many, are applied to these rows.
    Applied(usize, Rows),
    /// The first one cannot be applied, for this reason.
    Failed(String),
}

/// The right to apply and commit, beside others or alone.
pub(super) enum CommitTurn<'a> {
    Shared { _guard: RwLockReadGuard<'a, ()> },
    Alone { _guard: RwLockWriteGuard<'a, ()> },
}

/// The worker of one partition.
pub(crate) struct Follower<P> {
    pub(super) pipeline: Arc<Pipeline<P>>,
    pub(super) partition: u32,
    place: GenerationTables,
    /// Rows as the last commit left them, where this worker alone writes them; else none.
    kept: Rows,
    pub(super) parked: ParkedKeys,
    /// What stands in the checkpoint row, and what it says.
    written: (Option<Bytes>, Option<Position>),
    /// Everything up to here counts, is parked, or does not match.
    scanned: Option<Position>,
    stop: watch::Receiver<bool>,
}

impl<P: Projection> Follower<P> {
    pub(crate) async fn open(
        pipeline: Arc<Pipeline<P>>,
        partition: u32,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, FollowError> {
        let generation = pipeline.progress.build.generation;
        let place =
            GenerationTables::new(P::NAME, generation).map_err(|error| StoreError::io("name a projection", error))?;
        let parked = ParkedKeys::open(&*pipeline.store, pipeline.keys.clone(), generation).await?;
        let row = pipeline.store.row(&checkpoints_table(), &checkpoint_key(P::NAME, generation, partition)).await?;
        let position = Checkpoint::decode(P::NAME, row.as_deref())?.position;
        pipeline.progress.advance(partition, position);
        let kept = Rows::default();
        Ok(Self { pipeline, partition, place, kept, parked, written: (row, position), scanned: position, stop })
    }

    /// Follows the log until it is told to stop, or up to a position. What is in hand is finished first.
    pub(crate) async fn run(mut self, until: Option<Position>) -> Result<Exit, FollowError> {
        self.retry_requested_keys().await?;
        let store = Arc::clone(&self.pipeline.store);
        let query = self.pipeline.projection.query();
        let pipeline = Arc::clone(&self.pipeline);
        let mut log = PartitionLog {
            projection: &*pipeline.projection,
            partition: self.partition,
            partitions: pipeline.progress.build.partitions,
            log: Subscription::new(store, query, self.scanned).batch(pipeline.options.batch),
        };
        let mut stop = self.stop.clone();
        let mut ahead = None;
        loop {
            if self.is_stopped() {
                self.write_checkpoint().await?;
                return Ok(Exit::Stopped);
            }
            if until.is_some() && self.scanned >= until {
                self.write_checkpoint().await?;
                return Ok(Exit::Arrived);
            }
            let is_unwritten = self.scanned > self.written.1;
            let batch = match ahead.take() {
                Some(batch) => batch,
                None => tokio::select! {
                    biased;
                    () = stop_requested(&mut stop) => continue,
                    batch = log.next() => batch?,
                    () = tokio::time::sleep(self.pipeline.options.idle_checkpoint), if is_unwritten => {
                        self.write_checkpoint().await?;
                        continue;
                    }
                },
            };
            if log.log.is_at_head() || until.is_some_and(|until| batch.scanned >= Some(until)) {
                self.process(batch.up_to(until)).await?;
                continue;
            }
            // NOTE: behind the head there is a next batch, which is read while this one is applied and committed. At the head
            // there is none, and to wait for it here would hold up what is in hand.
            let (processed, next) = tokio::join!(self.process(batch), log.next());
            processed?;
            ahead = Some(next?);
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stop.borrow() || self.stop.has_changed().is_err()
    }

    pub(super) fn generation(&self) -> Generation {
        self.pipeline.progress.build.generation
    }

    async fn process(&mut self, batch: PartitionBatch) -> Result<(), FollowError> {
        let mut rest = batch.events.as_slice();
        while !rest.is_empty() {
            if self.is_stopped() {
                return Ok(());
            }
            let taken = self.advance(rest, batch.scanned).await?;
            let (done, left) = rest.split_at(taken);
            self.pipeline.progress.count(done.iter().map(|(_, event)| event));
            metrics::count(metrics::EVENTS, P::NAME, taken as u64);
            rest = left;
            self.pipeline.progress.advance(self.partition, self.scanned);
        }
        self.scanned = batch.scanned.max(self.scanned);
        self.pipeline.progress.advance(self.partition, self.scanned);
        let number = |position: Option<Position>| position.map_or(0, Position::get);
        if number(self.scanned) - number(self.written.1) > IDLE_POSITIONS {
            self.write_checkpoint().await?;
        }
        Ok(())
    }

    /// Commits as many of the events as fit, at least one unless it was stopped, and returns how many.
    async fn advance(
        &mut self,
        events: &[(String, RecordedEvent)],
        end: Option<Position>,
    ) -> Result<usize, FollowError> {
        let pipeline = Arc::clone(&self.pipeline);
        let mut most = events.len();
        let mut conflicts = 0;
        loop {
            let turn = self.turn(&pipeline, conflicts).await;
            let some = &events[..most];
            let held = self.parked_among(some).await?;
            let failure = match self.fold(some.iter().map(|(_, event)| event), &held).await? {
                BatchResult::Failed(failure) => failure,
                BatchResult::Applied(taken, rows) => {
                    let to = if taken == events.len() { end } else { some[taken - 1].1.position.into() };
                    let waiting = some[..taken].iter().filter(|(key, _)| held.contains(key));
                    let waiting: Vec<_> =
                        waiting.map(|(key, event)| self.parked_row(key, event)).collect::<Result<_, _>>()?;
                    let parked = waiting.len();
                    match self.commit(Some(rows), waiting, to).await {
                        Ok(()) => {
                            metrics::count(metrics::PARKED, P::NAME, parked as u64);
                            return Ok(taken);
                        }
                        Err(CommitRefusal::RowsChanged) => {
                            (conflicts, most) = (conflicts + 1, taken);
                            continue;
                        }
                        Err(CommitRefusal::Invalid(_)) if taken > 1 => {
                            most = taken / 2;
                            continue;
                        }
                        Err(CommitRefusal::Invalid(reason)) => reason,
                        Err(CommitRefusal::Follow(error)) => return Err(error),
                    }
                }
            };
            drop(turn);
            let (key, event) = &events[0];
            if held.contains(key) {
                // NOTE: it waits behind another event of its key, whatever is wrong with itself.
                let row = self.parked_row(key, event)?;
                self.commit(None, vec![row], Some(event.position)).await.map_err(unexpected)?;
                return Ok(1);
            }
            return self.apply_with_retries(key, event, failure).await;
        }
    }

    /// Tries an event again that could not be applied; in the end its key stops. Returns 0 where it was stopped before.
    async fn apply_with_retries(
        &mut self,
        key: &str,
        event: &RecordedEvent,
        mut failure: String,
    ) -> Result<usize, FollowError> {
        let pipeline = Arc::clone(&self.pipeline);
        let mut attempts = 1;
        for pause in pipeline.options.retry.pauses(&*pipeline.entropy) {
            tracing::warn!(projection = P::NAME, position = %event.position, key, error = failure, attempts, "event not applied; trying again");
            let retrying = pipeline.progress.retrying();
            let mut stop = self.stop.clone();
            tokio::select! {
                () = stop_requested(&mut stop) => return Ok(0),
                () = tokio::time::sleep(pause) => {}
            }
            drop(retrying);
            attempts += 1;
            metrics::count(metrics::RETRIES, P::NAME, 1);
            let mut conflicts = 0;
            failure = loop {
                let _turn = self.turn(&pipeline, conflicts).await;
                match self.fold([event], &BTreeSet::new()).await? {
                    BatchResult::Failed(failure) => break failure,
                    BatchResult::Applied(_, rows) => {
                        match self.commit(Some(rows), Vec::new(), Some(event.position)).await {
                            Ok(()) => return Ok(1),
                            Err(CommitRefusal::RowsChanged) => conflicts += 1,
                            Err(CommitRefusal::Invalid(reason)) => break reason,
                            Err(CommitRefusal::Follow(error)) => return Err(error),
                        }
                    }
                }
            };
        }
        tracing::error!(projection = P::NAME, position = %event.position, key, error = failure, attempts, "event parked; its key stands still");
        self.park(key, event, failure, attempts).await?;
        Ok(1)
    }

    async fn park(
        &mut self,
        key: &str,
        event: &RecordedEvent,
        error: String,
        attempts: u32,
    ) -> Result<(), FollowError> {
        let now = self.pipeline.clock.now();
        let (generation, position) = (self.generation(), event.position);
        let parked =
            ParkedKey { key: key.to_owned(), generation, position, error, attempts, since: now, last_attempt: now };
        let rows =
            vec![put(self.pipeline.keys.parked_key(generation, key), encode(&parked)?), self.parked_row(key, event)?];
        match self.commit(None, rows, Some(position)).await {
            Ok(()) => {
                self.parked.note(key, true);
                metrics::count(metrics::PARKED, P::NAME, 1);
                Ok(())
            }
            Err(refused) => Err(unexpected(refused)),
        }
    }

    fn parked_row(&self, key: &str, event: &RecordedEvent) -> Result<RowChange, StoreError> {
        let parked = ParkedEvent::new(key.to_owned(), event, self.pipeline.clock.now());
        Ok(put(self.pipeline.keys.parked_event(self.generation(), key, event.position), encode(&parked)?))
    }

    pub(super) async fn turn<'p>(&self, pipeline: &'p Pipeline<P>, conflicts: u32) -> CommitTurn<'p> {
        if conflicts < CONFLICTS_BEFORE_ALONE {
            CommitTurn::Shared { _guard: pipeline.alone.read().await }
        } else {
            CommitTurn::Alone { _guard: pipeline.alone.write().await }
        }
    }

    async fn parked_among(&mut self, events: &[(String, RecordedEvent)]) -> Result<BTreeSet<String>, StoreError> {
        let mut held = BTreeSet::new();
        for (key, _) in events {
            if !held.contains(key) && self.parked.contains(&*self.pipeline.store, key).await? {
                held.insert(key.clone());
            }
        }
        Ok(held)
    }

    /// Applies the first events, as many as can be applied and fit into a commit. The events of keys that are held are passed over.
    pub(super) async fn fold<'e>(
        &mut self,
        events: impl IntoIterator<Item = &'e RecordedEvent>,
        held: &BTreeSet<String>,
    ) -> Result<BatchResult, StoreError> {
        let events: Vec<_> = events.into_iter().collect();
        let mut most = events.len();
        // NOTE: taken, so that they come back with a commit that was written and not otherwise.
        let mut rows = std::mem::take(&mut self.kept);
        loop {
            let applier = BatchApplier::new(&*self.pipeline.projection, events[..most].iter().copied(), held);
            let outcomes;
            (rows, outcomes) = self.place.apply_onto(&*self.pipeline.store, applier, rows).await?;
            let first_failure = outcomes.iter().enumerate().find_map(|(at, outcome)| Some((at, outcome.failure()?)));
            match first_failure {
                Some((0, failure)) => return Ok(BatchResult::Failed(ErrorChain(failure).to_string())),
                // NOTE: what comes before it counts first, so that the pauses between its attempts hold up nothing else.
                Some((at, _)) => most = at,
                None if most > 1 && bytes_of(&rows) > self.pipeline.options.commit_bytes => most /= 2,
                None => return Ok(BatchResult::Applied(most, rows)),
            }
        }
    }

    /// Writes rows and checkpoint, if everything is as it was when they were made.
    pub(super) async fn commit(
        &mut self,
        rows: Option<Rows>,
        machinery: Vec<RowChange>,
        to: Option<Position>,
    ) -> Result<(), CommitRefusal> {
        let Pipeline { store, keys: _, fence, clock, progress, .. } = &*self.pipeline;
        let key = checkpoint_key(P::NAME, progress.build.generation, self.partition);
        let (before, checkpoint) = (self.written.0.clone(), Checkpoint::at(to.max(self.written.1)).encode());
        let mut commit = fence.expect(Commit::new()).expect_row(checkpoints_table(), key.clone(), before);
        if let Some(rows) = &rows {
            // NOTE: with one worker nobody else writes these rows.
            if progress.build.partitions > 1 {
                for ((logical, key), value) in rows.read_set() {
                    commit = commit.expect_row(self.place.table(logical)?, key.clone(), value.clone());
                }
            }
            commit = self.place.changes(rows)?.into_iter().fold(commit, change);
        }
        commit = machinery.into_iter().fold(commit, change).put_row(checkpoints_table(), key, checkpoint.clone());
        let begun = clock.elapsed();
        let committed = store.commit(commit).await;
        metrics::histogram_of(metrics::COMMIT_SECONDS, P::NAME, clock.elapsed().saturating_sub(begun));
        match committed {
            Ok(_) => {}
            Err(CommitError::Conflict(conflict)) if is_of_view_rows(&conflict) => {
                metrics::count(metrics::CONFLICTS, P::NAME, 1);
                return Err(CommitRefusal::RowsChanged);
            }
            Err(CommitError::Conflict(_)) => return Err(FollowError::Fenced.into()),
            Err(CommitError::Invalid(error)) => return Err(CommitRefusal::Invalid(error.to_string())),
            Err(error) => return Err(super::claim::store_error(error).into()),
        }
        let is_alone = progress.build.partitions == 1;
        if let Some(mut rows) = rows {
            self.place.written(&rows);
            if is_alone {
                rows.settle(KEPT_ROWS, KEPT_BYTES);
                self.kept = rows;
            }
        }
        tracing::trace!(projection = P::NAME, ?to, "projection committed");
        metrics::count(metrics::COMMITS, P::NAME, 1);
        self.written = (Some(checkpoint), to.max(self.written.1));
        self.scanned = self.written.1.max(self.scanned);
        Ok(())
    }

    /// Writes how far the log was looked through.
    async fn write_checkpoint(&mut self) -> Result<(), FollowError> {
        if self.scanned <= self.written.1 {
            return Ok(());
        }
        self.commit(None, Vec::new(), self.scanned).await.map_err(unexpected)
    }
}

/// Waits until the worker must stop.
pub(crate) async fn stop_requested(stop: &mut watch::Receiver<bool>) {
    // NOTE: an error says that whoever could tell it is gone, which is the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The log as one partition sees it.
struct PartitionLog<'p, P> {
    projection: &'p P,
    partition: u32,
    partitions: u32,
    log: Subscription,
}

/// The events of one partition in a batch of the log, with their keys.
struct PartitionBatch {
    events: Vec<(String, RecordedEvent)>,
    /// The log was scanned up to here.
    scanned: Option<Position>,
}

impl<P: Projection> PartitionLog<'_, P> {
    /// Reads the next batch. Events of other partitions are visited and never owned.
    async fn next(&mut self) -> Result<PartitionBatch, StoreError> {
        let Self { projection, partition, partitions, log } = self;
        let mut events = Vec::new();
        let mut visitor = |event: EventView<'_>| {
            if is_projected(event.0) {
                let key = key_of(*projection, event.0);
                if partition_of(&key, *partitions) == *partition {
                    events.push((key, event.to_recorded()));
                }
            }
            ControlFlow::Continue(())
        };
        let scanned = log.visit_next(&mut visitor).await?;
        Ok(PartitionBatch { events, scanned })
    }
}

impl PartitionBatch {
    /// Returns the batch without the events after a position.
    fn up_to(mut self, until: Option<Position>) -> Self {
        if until.is_some() {
            self.events.retain(|(_, event)| Some(event.position) <= until);
            self.scanned = self.scanned.min(until);
        }
        self
    }
}

/// The key of an event. Where the projection panics, the stream is the key under which the event is parked.
fn key_of<P: Projection>(projection: &P, event: &RecordedEvent) -> String {
    catch_unwind(AssertUnwindSafe(|| projection.key(event))).unwrap_or_else(|_| event.stream.as_str().to_owned())
}

/// Whether all that has changed are rows of the view.
fn is_of_view_rows(conflict: &Conflict) -> bool {
    conflict.failed.iter().all(|check| match check {
        FailedCheck::Row { table: found, .. } => *found != table() && *found != checkpoints_table(),
        _ => false,
    })
}

pub(super) fn unexpected(refused: CommitRefusal) -> FollowError {
    match refused {
        CommitRefusal::RowsChanged => FollowError::Fenced,
        CommitRefusal::Invalid(reason) => StoreError::io("write rows of a projection", reason).into(),
        CommitRefusal::Follow(error) => error,
    }
}

fn bytes_of(rows: &Rows) -> usize {
    rows.changes().map(|((_, key), value)| key.len() + value.as_ref().map_or(0, Bytes::len)).sum()
}

pub(super) fn put(key: Bytes, value: Bytes) -> RowChange {
    RowChange { table: table(), key, value: Some(value) }
}

pub(super) fn delete(key: Bytes) -> RowChange {
    RowChange { table: table(), key, value: None }
}

fn change(commit: Commit, RowChange { table, key, value }: RowChange) -> Commit {
    match value {
        Some(value) => commit.put_row(table, key, value),
        None => commit.delete_row(table, key),
    }
}
