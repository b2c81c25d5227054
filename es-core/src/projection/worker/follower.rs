//! [`Follower`]: the worker of one partition of one generation. It reads, applies and commits; every commit has the rows, the
//! checkpoint, and the demand that nobody else has written and that nothing else was asked for.
//!
//! ```text
//!   subscription --batch--> events of this partition --fold--> commit { rows, checkpoint, parked events
//!                                    |                                 | expects: claim, control, checkpoint, rows that were read }
//!                                    +-- cannot be applied --> again, with pauses --> park it
//! ```

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, watch};

use super::claim::Owned;
use super::control::Control;
use super::metrics;
use super::options::ProjectionOptions;
use super::parked::{ParkedEvent, ParkedKey, ParkedKeys};
use super::progress::GenerationProgress;
use super::rows::{PAGE, RowKeys, StoredRow, decode, encode, page, table};
use crate::consumer::subscription::Subscription;
use crate::model::Clock;
use crate::model::ErrorChain;
use crate::model::Position;
use crate::model::RecordedEvent;
use crate::projection::{
    BatchApplier, Checkpoint, Generation, GenerationTables, Projection, Rows, checkpoint_key, checkpoints_table,
    is_projected, partition_of,
};
use crate::store::{Batch, Commit, CommitError, Conflict, EventStore, FailedCheck, LogRead, RowChange, StoreError};

/// How many positions may be looked through before the checkpoint is written, where nothing matches.
const IDLE_POSITIONS: u64 = 50_000;

/// How much of the rows a worker remembers that alone writes them: what it wrote and read in the last batches. When it is more, it
/// is read from the store again.
const KEPT_ROWS: usize = 65_536;
/// The same in bytes of keys and values.
const KEPT_BYTES: usize = 16 * 1024 * 1024;

/// How often rows that were read are found changed before a worker commits alone.
const CONFLICTS_BEFORE_ALONE: u32 = 2;

/// What all commits of workers demand.
#[derive(Debug, Clone)]
pub(crate) struct Fence {
    pub(crate) owned: Owned,
    pub(crate) control: StoredRow<Control>,
}

impl Fence {
    pub(crate) fn expect(&self, commit: Commit) -> Commit {
        self.control.expect(self.owned.expect(commit))
    }
}

/// What the workers of one generation share.
pub(crate) struct Pipeline<P> {
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) projection: Arc<P>,
    pub(crate) options: ProjectionOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) keys: RowKeys,
    pub(crate) fence: Fence,
    pub(crate) progress: Arc<GenerationProgress>,
    /// Who finds that others change the rows that it reads takes this lock for itself, and so gets through.
    pub(crate) alone: RwLock<()>,
}

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
enum CommitRefusal {
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
enum Folded {
    /// The first ones, this many, are applied to these rows.
    Applied(usize, Rows),
    /// The first one cannot be applied, for this reason.
    Failed(String),
}

/// The right to apply and commit, beside others or alone.
enum CommitTurn<'a> {
    Shared { _guard: RwLockReadGuard<'a, ()> },
    Alone { _guard: RwLockWriteGuard<'a, ()> },
}

/// The worker of one partition.
pub(crate) struct Follower<P> {
    pipeline: Arc<Pipeline<P>>,
    partition: u32,
    place: GenerationTables,
    /// Rows as the last commit left them, where this worker alone writes them; else none.
    kept: Rows,
    parked: ParkedKeys,
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
        self.retry_what_was_asked_for().await?;
        let store = Arc::clone(&self.pipeline.store);
        let query = self.pipeline.projection.query();
        let mut log = Subscription::new(store, query, self.scanned).batch(self.pipeline.options.batch);
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
            if log.is_at_head() || until.is_some_and(|until| batch.scanned >= Some(until)) {
                self.process(cut(batch, until)).await?;
                continue;
            }
            // NOTE: behind the head there is a next batch, which is read while this one is applied and committed. At the head
            // there is none, and to wait for it here would hold up what is in hand.
            let (processed, next) = tokio::join!(self.process(batch), log.next());
            processed?;
            ahead = Some(next?);
        }
    }

    fn is_stopped(&self) -> bool {
        *self.stop.borrow() || self.stop.has_changed().is_err()
    }

    fn generation(&self) -> Generation {
        self.pipeline.progress.build.generation
    }

    async fn process(&mut self, batch: Batch) -> Result<(), FollowError> {
        let mine: Vec<(String, RecordedEvent)> = batch
            .events
            .into_iter()
            .filter(is_projected)
            .map(|event| (key_of(&*self.pipeline.projection, &event), event))
            .filter(|(key, _)| partition_of(key, self.pipeline.progress.build.partitions) == self.partition)
            .collect();
        let mut rest = mine.as_slice();
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
                Folded::Failed(failure) => failure,
                Folded::Applied(taken, rows) => {
                    let to = if taken == events.len() { end } else { some[taken - 1].1.position.into() };
                    let waiting = some[..taken].iter().filter(|(key, _)| held.contains(key));
                    let waiting: Vec<_> =
                        waiting.map(|(key, event)| self.park_row(key, event)).collect::<Result<_, _>>()?;
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
                let row = self.park_row(key, event)?;
                self.commit(None, vec![row], Some(event.position)).await.map_err(unexpected)?;
                return Ok(1);
            }
            return self.insist(key, event, failure).await;
        }
    }

    /// Tries an event again that could not be applied; in the end its key stops. Returns 0 where it was stopped before.
    async fn insist(&mut self, key: &str, event: &RecordedEvent, mut failure: String) -> Result<usize, FollowError> {
        let pipeline = Arc::clone(&self.pipeline);
        let mut attempts = 1;
        for pause in pipeline.options.retry.pauses() {
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
                    Folded::Failed(failure) => break failure,
                    Folded::Applied(_, rows) => match self.commit(Some(rows), Vec::new(), Some(event.position)).await {
                        Ok(()) => return Ok(1),
                        Err(CommitRefusal::RowsChanged) => conflicts += 1,
                        Err(CommitRefusal::Invalid(reason)) => break reason,
                        Err(CommitRefusal::Follow(error)) => return Err(error),
                    },
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
            vec![put(self.pipeline.keys.parked_key(generation, key), encode(&parked)?), self.park_row(key, event)?];
        match self.commit(None, rows, Some(position)).await {
            Ok(()) => {
                self.parked.note(key, true);
                metrics::count(metrics::PARKED, P::NAME, 1);
                Ok(())
            }
            Err(refused) => Err(unexpected(refused)),
        }
    }

    fn park_row(&self, key: &str, event: &RecordedEvent) -> Result<RowChange, StoreError> {
        let parked = ParkedEvent::new(key.to_owned(), event, self.pipeline.clock.now());
        Ok(put(self.pipeline.keys.parked_event(self.generation(), key, event.position), encode(&parked)?))
    }

    async fn turn<'p>(&self, pipeline: &'p Pipeline<P>, conflicts: u32) -> CommitTurn<'p> {
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
    async fn fold<'e>(
        &mut self,
        events: impl IntoIterator<Item = &'e RecordedEvent>,
        held: &BTreeSet<String>,
    ) -> Result<Folded, StoreError> {
        let events: Vec<_> = events.into_iter().collect();
        let mut most = events.len();
        // NOTE: taken, so that they come back with a commit that was written and not otherwise.
        let mut rows = std::mem::take(&mut self.kept);
        loop {
            let folder = BatchApplier::new(&*self.pipeline.projection, events[..most].iter().copied(), held);
            let outcomes;
            (rows, outcomes) = self.place.apply_onto(&*self.pipeline.store, folder, rows).await?;
            let first_failure = outcomes.iter().enumerate().find_map(|(at, outcome)| Some((at, outcome.failure()?)));
            match first_failure {
                Some((0, failure)) => return Ok(Folded::Failed(ErrorChain(failure).to_string())),
                // NOTE: what comes before it counts first, so that the pauses between its attempts hold up nothing else.
                Some((at, _)) => most = at,
                None if most > 1 && bytes_of(&rows) > self.pipeline.options.commit_bytes => most /= 2,
                None => return Ok(Folded::Applied(most, rows)),
            }
        }
    }

    /// Writes rows and checkpoint, if everything is as it was when they were made.
    async fn commit(
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

    /// Tries the parked keys of this partition again that an operator has asked for.
    async fn retry_what_was_asked_for(&mut self) -> Result<(), FollowError> {
        let mut after = None;
        loop {
            let prefix = self.pipeline.keys.requests(self.generation());
            let requests = page(&*self.pipeline.store, prefix, after, PAGE).await?;
            let Some(last) = requests.last() else { return Ok(()) };
            after = Some(last.key.clone());
            for request in requests {
                let key: String = decode(&request.key, &request.value)?;
                if partition_of(&key, self.pipeline.progress.build.partitions) == self.partition {
                    self.retry_key(&key, request.key).await?;
                }
            }
        }
    }

    /// Applies the parked events of a key, in order; the key is free behind the last.
    async fn retry_key(&mut self, key: &str, request: Bytes) -> Result<(), FollowError> {
        let pipeline = Arc::clone(&self.pipeline);
        let generation = self.generation();
        let mut most = usize::try_from(pipeline.options.batch).unwrap_or(PAGE).min(PAGE);
        let mut conflicts = 0;
        while !self.is_stopped() {
            let rows = page(&*pipeline.store, pipeline.keys.parked_events_of(generation, key), None, most).await?;
            if rows.is_empty() {
                let free = vec![delete(pipeline.keys.parked_key(generation, key)), delete(request)];
                self.commit(None, free, None).await.map_err(unexpected)?;
                self.parked.note(key, false);
                tracing::info!(projection = P::NAME, key, "key is free again");
                return Ok(());
            }
            let mut found = Vec::new();
            for row in &rows {
                let parked: ParkedEvent = decode(&row.key, &row.value)?;
                found.push(self.read_event(parked.position).await?);
            }
            let _turn = self.turn(&pipeline, conflicts).await;
            let there = found.iter().flatten();
            let failure = match self.fold(there, &BTreeSet::new()).await? {
                Folded::Failed(failure) => failure,
                Folded::Applied(taken, changes) => {
                    let last = found.iter().flatten().nth(taken.wrapping_sub(1)).map(|event| event.position);
                    let is_all = taken == found.iter().flatten().count();
                    let settled = rows.iter().zip(&found).filter(|(_, event)| {
                        // NOTE: an event that a retention has removed from the log has nothing to be applied.
                        event.as_ref().map_or(is_all, |event| Some(event.position) <= last)
                    });
                    let settled: Vec<_> = settled.map(|(row, _)| delete(row.key.clone())).collect();
                    match self.commit(Some(changes), settled, None).await {
                        Ok(()) => {
                            conflicts = 0;
                            continue;
                        }
                        Err(CommitRefusal::RowsChanged) => {
                            conflicts += 1;
                            continue;
                        }
                        Err(CommitRefusal::Invalid(_)) if most > 1 => {
                            most /= 2;
                            continue;
                        }
                        Err(CommitRefusal::Invalid(reason)) => reason,
                        Err(CommitRefusal::Follow(error)) => return Err(error),
                    }
                }
            };
            let first = found.iter().flatten().next().map(|event| event.position);
            return self.keep_parked(key, first, failure, request).await;
        }
        Ok(())
    }

    async fn keep_parked(
        &mut self,
        key: &str,
        position: Option<Position>,
        failure: String,
        request: Bytes,
    ) -> Result<(), FollowError> {
        let row = self.pipeline.keys.parked_key(self.generation(), key);
        let parked = StoredRow::<ParkedKey>::read(&*self.pipeline.store, row.clone()).await?.value;
        let mut changes = vec![delete(request)];
        if let Some(mut parked) = parked {
            tracing::warn!(projection = P::NAME, key, error = failure, "key stays parked");
            parked.position = position.unwrap_or(parked.position);
            (parked.error, parked.attempts) = (failure, parked.attempts.saturating_add(1));
            parked.last_attempt = self.pipeline.clock.now();
            changes.push(put(row, encode(&parked)?));
        }
        self.commit(None, changes, None).await.map_err(unexpected)
    }

    /// The event at a position; `None` where it was removed from the log.
    async fn read_event(&self, position: Position) -> Result<Option<RecordedEvent>, StoreError> {
        let mut found = self.pipeline.store.read_log(LogRead::all().from(position).limit(1)).await?;
        Ok(found.next().await?.filter(|event| event.position == position))
    }
}

/// Waits until the worker is told to stop.
pub(crate) async fn stop_requested(stop: &mut watch::Receiver<bool>) {
    // NOTE: an error says that whoever could tell it is gone, which is the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Ends a batch at a position.
fn cut(mut batch: Batch, until: Option<Position>) -> Batch {
    if until.is_some() {
        batch.events.retain(|event| Some(event.position) <= until);
        batch.scanned = batch.scanned.min(until);
    }
    batch
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

fn unexpected(refused: CommitRefusal) -> FollowError {
    match refused {
        CommitRefusal::RowsChanged => FollowError::Fenced,
        CommitRefusal::Invalid(reason) => StoreError::io("write rows of a projection", reason).into(),
        CommitRefusal::Follow(error) => error,
    }
}

fn bytes_of(rows: &Rows) -> usize {
    rows.changes().map(|((_, key), value)| key.len() + value.as_ref().map_or(0, Bytes::len)).sum()
}

fn put(key: Bytes, value: Bytes) -> RowChange {
    RowChange { table: table(), key, value: Some(value) }
}

fn delete(key: Bytes) -> RowChange {
    RowChange { table: table(), key, value: None }
}

fn change(commit: Commit, RowChange { table, key, value }: RowChange) -> Commit {
    match value {
        Some(value) => commit.put_row(table, key, value),
        None => commit.delete_row(table, key),
    }
}
