//! Inline projections: views that change in the commit of the events. A reader that sees an event also sees its changes
//! to the view.
//!
//! ```text
//!   commit --> decide --> events with positions --> apply, to the rows as of the previous commit
//!                                                       |
//!            rows of the views + their checkpoints --> the same commit       (an error rejects the whole commit)
//! ```
//!
//! All commits run `apply` one after the other, so inline projections limit the rate of commits. Use them for small
//! views that must always be current, and run the others in the background. Rows and checkpoints have the same format
//! in both modes, so that a projection can be moved from one mode to the other and keeps its view.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::aggregate::source::OneOrderSource;
use crate::consumer::selection::{Selection, ordering_key};
use crate::model::Position;
use crate::model::{EventId, RecordedEvent};
use crate::model::{EventType, NameError, StreamId, Table};
use crate::projection::kept::NO_KEPT_EVENTS;
use crate::projection::states::NO_STATES;
use crate::projection::{
    ApplyFailure, ApplyOutcome, BatchApplier, Build, Checkpoint, Generation, GenerationTables, Generations, Pass,
    Projection, Rows, checkpoint_key, checkpoint_prefix, checkpoints_table, generations, generations_table,
    is_any_parked, is_projected, partition_of, remove_generation, view_tables,
};
use crate::store::implement::RowChange;
use crate::store::implement::{DecisionHook, LogView, PrepareHook, PreparedHook, ValidCommit};
use crate::store::{
    Commit, CommitError, EventReader, EventStore, InvalidCommit, LogRead, MAX_COMMIT_BYTES, Query, RowScan, StoreError,
};

/// The number of events per commit while a projection catches up.
const CATCH_UP_EVENTS: usize = 512;
/// The number of rows of a former build that are removed per commit.
const ROWS_PER_REMOVAL: usize = 1024;

/// A projection to run inline in a store. Cheap to clone.
#[derive(Clone)]
pub struct Inline(Arc<dyn ErasedProjection>);

impl Inline {
    /// Creates the hook that runs a projection inline. Its source must have one order: a projection that fails would
    /// refuse an event that has already happened on another node.
    pub fn new<P: Projection<Source: OneOrderSource>>(projection: P) -> Self {
        let selection = Selection::new(projection.query());
        Self(Arc::new(TypedProjection { projection, selection }))
    }
}

impl fmt::Debug for Inline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inline").field(&self.0.name()).finish()
    }
}

/// An inline projection rejected a commit. Nothing of the commit was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InlineError {
    /// The projection could not apply an event of the commit. Correct the projection, or change the command.
    #[error("inline projection {projection:?} could not apply event {event_type:?} ({id}) of stream {stream:?}")]
    Event {
        /// The projection.
        projection: &'static str,
        /// The stream of the event.
        stream: StreamId,
        /// The type of the event.
        event_type: EventType,
        /// The id of the event.
        id: EventId,
        /// The failure.
        source: Box<ApplyFailure>,
    },
    /// Another writer changed the checkpoint or the builds of the view, so the view is not at the head of the log.
    /// Reopen the store: the view then catches up first.
    #[error(
        "inline projection {projection:?}: expected the view at the head of the log, found a checkpoint or build of \
         another writer; reopen the store"
    )]
    OutOfSync {
        /// The projection.
        projection: &'static str,
    },
    /// The commit with the changed rows is too large. Commit fewer events at once.
    #[error(
        "inline projection {projection:?} changes too much: expected at most {MAX_COMMIT_BYTES} bytes of payloads and \
         rows in a commit, found {found}; commit fewer events at once"
    )]
    TooLarge {
        /// The projection.
        projection: &'static str,
        /// The size of the commit, in bytes.
        found: usize,
    },
}

/// An inline projection could not be started. The store was not opened with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartInlineError {
    /// The name of the projection is invalid. Correct it.
    #[error("invalid name {projection:?} of a projection")]
    Name {
        /// The name.
        projection: &'static str,
        /// The reason.
        source: NameError,
    },
    /// The projection could not apply an event of the log while it caught up. Correct the projection, or open the store
    /// without it.
    #[error(
        "inline projection {projection:?} could not catch up: it could not apply event {event_type:?} at position \
         {position}; correct it, or open the store without it"
    )]
    Event {
        /// The projection.
        projection: &'static str,
        /// The position of the event.
        position: Position,
        /// The type of the event.
        event_type: EventType,
        /// The failure.
        source: Box<ApplyFailure>,
    },
    /// The projection ran in the background and has parked events, so its view is incomplete. Run it in the background
    /// and retry the parked events, or increment the version of the projection.
    #[error(
        "inline projection {projection:?} has parked events from a background run; \
         retry them there, or increment its version"
    )]
    Parked {
        /// The projection.
        projection: &'static str,
    },
    /// The store failed, or another writer changed the view at the same time.
    #[error("inline projection {projection:?} could not catch up")]
    Store {
        /// The projection.
        projection: &'static str,
        /// The failure.
        source: Box<CommitError>,
    },
}

struct TypedProjection<P> {
    projection: P,
    selection: Selection,
}

/// A projection without its type parameter.
#[async_trait]
trait ErasedProjection: Send + Sync {
    fn name(&self) -> &'static str;

    /// Returns the query of the projection, without erasures.
    fn query(&self) -> &Query;

    /// Applies the events of a commit that the query selects, and returns the changed rows; `None` if it selects none.
    fn apply(
        &self,
        events: &[RecordedEvent],
        tables: &mut GenerationTables,
        log: &mut dyn LogView,
    ) -> Result<Option<Vec<RowChange>>, CommitError>;

    /// Applies the log up to its head, and returns the position of the head.
    async fn catch_up(&self, store: &dyn EventStore) -> Result<(ReadyView, Option<Position>), StartInlineError>;
}

/// A view that has caught up with the log.
#[derive(Debug)]
struct ReadyView {
    build: Build,
    /// The row of the generations, which no other writer may change.
    generations: Bytes,
    tables: GenerationTables,
}

#[async_trait]
impl<P: Projection> ErasedProjection for TypedProjection<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn query(&self) -> &Query {
        self.selection.query()
    }

    fn apply(
        &self,
        events: &[RecordedEvent],
        tables: &mut GenerationTables,
        log: &mut dyn LogView,
    ) -> Result<Option<Vec<RowChange>>, CommitError> {
        // An import writes tombstones for removed events.
        let is_selected =
            |event: &&RecordedEvent| !event.is_removed() && is_projected(event) && self.selection.selects(event);
        let matching: Vec<&RecordedEvent> = events.iter().filter(is_selected).collect();
        if matching.is_empty() {
            return Ok(None);
        }
        let blocked = BTreeSet::new();
        let mut applier = BatchApplier::new(&self.projection, matching.iter().copied(), &blocked);
        let mut rows = Rows::default();
        let outcomes = loop {
            match applier.run(&mut rows) {
                Pass::Missing(missing) => {
                    for (table, key) in missing.rows {
                        let value = log.row(&tables.table(&table)?, &key)?;
                        rows.learn(table, key, value);
                    }
                    // The type of an inline projection rules out a view of states.
                    for stream in missing.states.into_keys() {
                        rows.learn_state(stream, Err(NO_STATES.to_owned()));
                    }
                    for position in missing.deletions.into_keys() {
                        rows.learn_kept(position, Err(NO_KEPT_EVENTS.to_owned()));
                    }
                }
                Pass::Done(outcomes) => break outcomes,
            }
        };
        if let Some((event, failure)) = first_failure(&matching, outcomes) {
            let (stream, event_type) = (event.stream.clone(), event.data.event_type.clone());
            let source = Box::new(failure);
            return Err(
                InlineError::Event { projection: P::NAME, stream, event_type, id: event.data.id, source }.into()
            );
        }
        tables.look_up_recorded(&rows, |key| Ok(log.row(&view_tables(), key)?.is_some()))?;
        Ok(Some(tables.changes(&rows)?))
    }

    async fn catch_up(&self, store: &dyn EventStore) -> Result<(ReadyView, Option<Position>), StartInlineError> {
        let projection = P::NAME;
        crate::projection::check_name(projection).map_err(|source| StartInlineError::Name { projection, source })?;
        let failed = |source: CommitError| StartInlineError::Store { projection, source: Box::new(source) };
        let in_store = |source: StoreError| failed(source.into());
        let stored = generations(store, projection).await.map_err(in_store)?;
        let (planned, build) = plan(&stored, P::VERSION);
        write_generations(store, projection, &stored, &planned).await.map_err(failed)?;
        remove_unused(store, projection, &planned).await.map_err(failed)?;
        if is_any_parked(store, projection, build.generation).await.map_err(in_store)? {
            return Err(StartInlineError::Parked { projection });
        }
        let mut tables = GenerationTables::new(projection, build.generation)
            .map_err(|source| StartInlineError::Name { projection, source })?;
        let position = self.apply_log(store, &build, &mut tables).await?;
        // The view is at the head of the log, so it becomes the active one, with a single checkpoint.
        let active = Build { partitions: 1, ..build };
        let building = planned.building.filter(|building| building.generation != build.generation);
        let ready = Generations { active: Some(active), building, ..planned };
        let mut commit = Commit::new();
        for partition in 1..build.partitions {
            commit = commit.delete_row(checkpoints_table(), checkpoint_key(projection, build.generation, partition));
        }
        if ready != planned {
            commit = ready.replace(projection, &planned, commit).map_err(in_store)?;
            store.commit(commit).await.map_err(failed)?;
            remove_unused(store, projection, &ready).await.map_err(failed)?;
        }
        Ok((ReadyView { build: active, generations: ready.encode().map_err(in_store)?, tables }, position))
    }
}

/// Returns the build to continue or to start, and the generations with it.
fn plan(stored: &Generations, version: u32) -> (Generations, Build) {
    let is_current = |build: &Build| build.version == version;
    if let Some(active) = stored.active.filter(is_current) {
        return (*stored, active);
    }
    if let Some(building) = stored.building.filter(is_current) {
        return (*stored, building);
    }
    let build = Build { generation: stored.next(), version, partitions: 1 };
    let planned = Generations { last: Some(build.generation), ..*stored };
    match stored.active {
        Some(_) => (Generations { building: Some(build), ..planned }, build),
        None => (Generations { active: Some(build), building: None, ..planned }, build),
    }
}

async fn write_generations(
    store: &dyn EventStore,
    projection: &str,
    stored: &Generations,
    planned: &Generations,
) -> Result<(), CommitError> {
    if stored != planned {
        store.commit(planned.replace(projection, stored, Commit::new())?).await?;
    }
    Ok(())
}

/// Removes the rows of generations that are neither active nor being built. An earlier removal may have been
/// interrupted.
async fn remove_unused(store: &dyn EventStore, projection: &str, current: &Generations) -> Result<(), CommitError> {
    let used = [current.active, current.building].map(|build| build.map(|build| build.generation));
    let Some(last) = current.last else { return Ok(()) };
    let mut generation = Generation::FIRST;
    while generation <= last {
        let prefix = checkpoint_prefix(projection, generation);
        let has_rows = async |table: Table| -> Result<bool, StoreError> {
            Ok(!store.rows(RowScan::new(table, prefix.clone(), 1)).await?.is_empty())
        };
        let is_used = used.contains(&Some(generation));
        if !is_used && (has_rows(view_tables()).await? || has_rows(checkpoints_table()).await?) {
            remove_generation(store, projection, generation, ROWS_PER_REMOVAL).await?;
        }
        generation = generation.next();
    }
    Ok(())
}

impl<P: Projection> TypedProjection<P> {
    /// Applies the log from the checkpoints to its head, in bounded batches. Each batch and its checkpoints are one
    /// commit.
    async fn apply_log(
        &self,
        store: &dyn EventStore,
        build: &Build,
        tables: &mut GenerationTables,
    ) -> Result<Option<Position>, StartInlineError> {
        let projection = P::NAME;
        let failed = |source: CommitError| StartInlineError::Store { projection, source: Box::new(source) };
        let in_store = |source: StoreError| failed(source.into());
        let mut checkpoints = Checkpoints::read(store, projection, build).await.map_err(in_store)?;
        loop {
            let Some(head) = store.head().await.map_err(in_store)? else { return Ok(None) };
            if checkpoints.minimum() == Some(head) {
                return Ok(Some(head));
            }
            let read = LogRead::matching(self.selection.log_query().clone()).after(checkpoints.minimum());
            let mut events = store.read_log(read).await.map_err(in_store)?;
            while let Some(batch) = events.next_batch().await.map_err(in_store)? {
                self.apply_batch(store, &batch, tables, &mut checkpoints).await?;
            }
            // Events that the query does not select count as applied.
            let scanned = events.scanned().unwrap_or(head);
            checkpoints.advance(store, Some(scanned), Commit::new()).await.map_err(failed)?;
        }
    }

    /// Applies a batch of the log in commits of at most [`CATCH_UP_EVENTS`] events, and of fewer if their rows exceed
    /// the limit of a commit.
    async fn apply_batch(
        &self,
        store: &dyn EventStore,
        mut events: &[RecordedEvent],
        tables: &mut GenerationTables,
        checkpoints: &mut Checkpoints,
    ) -> Result<(), StartInlineError> {
        let mut limit = CATCH_UP_EVENTS;
        while !events.is_empty() {
            let (chunk, rest) = events.split_at(limit.min(events.len()));
            match self.apply_chunk(store, chunk, tables, checkpoints).await {
                Ok(()) => events = rest,
                Err(StartInlineError::Store { ref source, .. })
                    if chunk.len() > 1 && matches!(**source, CommitError::Invalid(_)) =>
                {
                    limit = chunk.len() / 2;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn apply_chunk(
        &self,
        store: &dyn EventStore,
        events: &[RecordedEvent],
        tables: &mut GenerationTables,
        checkpoints: &mut Checkpoints,
    ) -> Result<(), StartInlineError> {
        let projection = P::NAME;
        let failed = |source: CommitError| StartInlineError::Store { projection, source: Box::new(source) };
        let is_new = |event: &&RecordedEvent| {
            let partition = match checkpoints.rows.len() {
                1 => 0,
                _ => {
                    let key = ordering_key(event, |event| self.projection.key(event));
                    partition_of(&key, checkpoints.partitions())
                }
            };
            checkpoints.of(partition) < Some(event.position)
        };
        let is_selected = |event: &&RecordedEvent| is_projected(event) && self.selection.includes(event);
        let new: Vec<&RecordedEvent> = events.iter().filter(is_selected).filter(is_new).collect();
        let blocked = BTreeSet::new();
        let applier = BatchApplier::new(&self.projection, new.iter().copied(), &blocked);
        let (rows, outcomes) = tables.apply(store, applier).await.map_err(|error| failed(error.into()))?;
        if let Some((event, failure)) = first_failure(&new, outcomes) {
            let (position, event_type) = (event.position, event.data.event_type.clone());
            return Err(StartInlineError::Event { projection, position, event_type, source: Box::new(failure) });
        }
        let mut commit = Commit::new();
        commit.rows = tables.changes(&rows).map_err(|error| failed(error.into()))?;
        checkpoints.advance(store, events.last().map(|event| event.position), commit).await.map_err(failed)?;
        tables.written(&rows);
        Ok(())
    }
}

/// Returns the first event that failed, and its failure.
fn first_failure<'a>(
    events: &[&'a RecordedEvent],
    outcomes: Vec<ApplyOutcome>,
) -> Option<(&'a RecordedEvent, ApplyFailure)> {
    events.iter().zip(outcomes).find_map(|(event, outcome)| match outcome {
        ApplyOutcome::Failed(failure) => Some((*event, failure)),
        _ => None,
    })
}

/// The checkpoints of the partitions of a build, each with its stored row.
#[derive(Debug)]
struct Checkpoints {
    projection: &'static str,
    build: Build,
    rows: Vec<(Option<Bytes>, Checkpoint)>,
}

impl Checkpoints {
    async fn read(store: &dyn EventReader, projection: &'static str, build: &Build) -> Result<Self, StoreError> {
        let mut rows = Vec::new();
        for partition in 0..build.partitions.max(1) {
            let row = store.row(&checkpoints_table(), &checkpoint_key(projection, build.generation, partition)).await?;
            let checkpoint = Checkpoint::decode(projection, row.as_deref())?;
            rows.push((row, checkpoint));
        }
        Ok(Self { projection, build: *build, rows })
    }

    fn partitions(&self) -> u32 {
        self.build.partitions.max(1)
    }

    fn of(&self, partition: u32) -> Option<Position> {
        let index = usize::try_from(partition).unwrap_or(usize::MAX);
        self.rows.get(index).and_then(|(_, checkpoint)| checkpoint.position)
    }

    fn minimum(&self) -> Option<Position> {
        self.rows.iter().map(|(_, checkpoint)| checkpoint.position).min().flatten()
    }

    /// Writes a commit that also advances the checkpoint of each partition to a position, unless it is there already.
    async fn advance(
        &mut self,
        store: &dyn EventStore,
        to: Option<Position>,
        mut commit: Commit,
    ) -> Result<(), CommitError> {
        let advanced: Vec<(Option<Bytes>, Checkpoint)> = (self.rows.iter())
            .map(|(_, current)| Checkpoint::at(current.position.max(to)))
            .map(|checkpoint| (Some(checkpoint.encode()), checkpoint))
            .collect();
        for (partition, ((current, _), (new, _))) in (0..).zip(self.rows.iter().zip(&advanced)) {
            let key = checkpoint_key(self.projection, self.build.generation, partition);
            commit = commit.expect_row(checkpoints_table(), key.clone(), current.clone());
            if let Some(new) = new.as_ref().filter(|new| current.as_ref() != Some(new)) {
                commit = commit.put_row(checkpoints_table(), key, new.clone());
            }
        }
        store.commit(commit).await?;
        self.rows = advanced;
        Ok(())
    }
}

/// An inline projection that has caught up and runs in the commits of one store.
struct InlineHook {
    inline: Inline,
    // Only the writer of the store calls the hook. The lock gives it mutable access, because a hook is shared.
    view: Mutex<ReadyView>,
}

impl fmt::Debug for InlineHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InlineHook").field(&self.inline.0.name()).finish()
    }
}

#[async_trait]
impl PrepareHook for Inline {
    fn name(&self) -> &str {
        self.0.name()
    }

    /// Applies the log up to its head, in bounded batches. A view of another version stays active until the new one has
    /// caught up.
    async fn prepare(&self, store: &dyn EventStore) -> Result<PreparedHook, Box<dyn std::error::Error + Send + Sync>> {
        let (view, position) = self.0.catch_up(store).await?;
        let hook = Arc::new(InlineHook { inline: self.clone(), view: Mutex::new(view) });
        Ok(PreparedHook { hook, position })
    }
}

impl DecisionHook for InlineHook {
    fn name(&self) -> &str {
        self.inline.0.name()
    }

    fn vetoes(&self) -> Option<&Query> {
        Some(self.inline.0.query())
    }

    fn after(
        &self,
        commit: &mut ValidCommit,
        events: &[RecordedEvent],
        log: &mut dyn LogView,
    ) -> Result<(), CommitError> {
        let projection = self.inline.0.name();
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
        // A panic of user code is caught in `BatchApplier`, so the state under a poisoned lock is still consistent.
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let key = checkpoint_key(projection, view.build.generation, 0);
        let generations = log.row(&generations_table(), projection.as_bytes())?;
        let checkpoint = Checkpoint::decode(projection, log.row(&checkpoints_table(), &key)?.as_deref())?;
        if generations.as_ref() != Some(&view.generations) || checkpoint.position != first.position.previous() {
            return Err(InlineError::OutOfSync { projection }.into());
        }
        let mut changes = self.inline.0.apply(events, &mut view.tables, log)?.unwrap_or_default();
        let value = Some(Checkpoint::at(Some(last.position)).encode());
        changes.push(RowChange { table: checkpoints_table(), key, value });
        commit.add_rows(changes).map_err(|error| match error {
            InvalidCommit::TooManyBytes { found } => InlineError::TooLarge { projection, found }.into(),
            other => other.into(),
        })
    }

    fn check(&self, events: &[RecordedEvent], log: &mut dyn LogView) -> Result<(), CommitError> {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        self.inline.0.apply(events, &mut view.tables, log).map(drop)
    }
}

impl From<InlineError> for CommitError {
    fn from(error: InlineError) -> Self {
        Self::Rejected(Box::new(error))
    }
}
