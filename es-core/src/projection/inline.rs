//! Inline projections: views that change in the very commit of the events, so that whoever sees an event sees what it did to them.
//!
//! ```text
//!   commit --> decide --> events with positions --> apply, over rows as the commits before this one leave them
//!                                                       |
//!            rows of the views + their checkpoints --> the same commit       (an error refuses the whole commit)
//! ```
//!
//! It costs every writer what `apply` costs, one after the other: use it for small views that must never be behind, and run the
//! others in the background. Rows and checkpoints are those of a background projection, so that a projection can be moved from one
//! mode to the other and keeps its view.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::model::Position;
use crate::model::{EventId, RecordedEvent};
use crate::model::{EventType, NameError, StreamId, Table};
use crate::projection::{
    ApplyFailure, ApplyOutcome, BatchApplier, Build, Checkpoint, GenerationTables, Generations, Pass, Projection, Rows,
    checkpoint_key, checkpoint_prefix, checkpoints_table, generations, generations_table, is_any_parked, is_projected,
    partition_of, remove_generation, view_tables,
};
use crate::store::implement::RowChange;
use crate::store::implement::{DecisionHook, LogView, PrepareHook, PreparedHook, ValidCommit};
use crate::store::{
    Commit, CommitError, EventReader, EventStore, InvalidCommit, LogRead, MAX_COMMIT_BYTES, Query, RowScan, StoreError,
};

/// How many events are applied in one commit while a projection catches up.
const CATCH_UP_EVENTS: usize = 512;
/// How many rows of a former build are removed in one commit.
const REMOVED_AT_ONCE: usize = 1024;

/// A projection that is to run inline in a store. Cheap to clone.
#[derive(Clone)]
pub struct Inline(Arc<dyn Erased>);

impl Inline {
    /// Runs this projection inline.
    pub fn new<P: Projection>(projection: P) -> Self {
        let query = projection.query();
        Self(Arc::new(Typed { projection, query }))
    }
}

impl fmt::Debug for Inline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inline").field(&self.0.name()).finish()
    }
}

/// Why an inline projection refused a commit. Nothing of the commit was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InlineError {
    /// It could not apply an event. Correct the projection, or decide otherwise.
    #[error("inline projection {projection:?} refuses event {event_type:?} ({id}) for stream {stream:?}")]
    Event {
        /// The projection.
        projection: &'static str,
        /// The stream that the event was for.
        stream: StreamId,
        /// The type of the event.
        event_type: EventType,
        /// The id of the event.
        id: EventId,
        /// Why.
        source: Box<ApplyFailure>,
    },
    /// Its view is not at the end of the log, because its checkpoint or its build was changed beside it. Reopen the store: the view
    /// catches up first.
    #[error(
        "inline projection {projection:?}: expected its view at the end of the log, found it changed by somebody else; \
         reopen the store"
    )]
    Behind {
        /// The projection.
        projection: &'static str,
    },
    /// It changes more than fits into one commit. Commit fewer events at once.
    #[error(
        "inline projection {projection:?} changes too much: expected at most {MAX_COMMIT_BYTES} bytes of payloads and \
         rows in a commit, found {found}; commit fewer events at once"
    )]
    TooLarge {
        /// The projection.
        projection: &'static str,
        /// How many bytes the commit would have.
        found: usize,
    },
}

/// Why an inline projection could not be started. The store takes no commits with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartInlineError {
    /// Its name cannot be one. Correct it.
    #[error("the name {projection:?} of a projection cannot be used; correct it")]
    Name {
        /// The name.
        projection: &'static str,
        /// What is wrong with it.
        source: NameError,
    },
    /// It could not apply an event of the log while it caught up. Correct the projection, or open the store without it.
    #[error(
        "inline projection {projection:?} could not catch up: it refuses event {event_type:?} at position {position}; \
         correct it, or open the store without it"
    )]
    Event {
        /// The projection.
        projection: &'static str,
        /// Where the event stands.
        position: Position,
        /// The type of the event.
        event_type: EventType,
        /// Why.
        source: Box<ApplyFailure>,
    },
    /// It has run in the background, and events that it could not apply wait there: its view is not whole. Replay them there first,
    /// or raise the version of the projection, so that it is rebuilt.
    #[error(
        "inline projection {projection:?} has parked events from running in the background; \
         replay them there, or raise its version"
    )]
    Parked {
        /// The projection.
        projection: &'static str,
    },
    /// The store failed, or somebody else works on the view at the same time.
    #[error("inline projection {projection:?} could not catch up")]
    Store {
        /// The projection.
        projection: &'static str,
        /// Why.
        source: Box<CommitError>,
    },
}

struct Typed<P> {
    projection: P,
    query: Query,
}

/// A projection whatever its type.
#[async_trait]
trait Erased: Send + Sync {
    fn name(&self) -> &'static str;

    /// Applies the events of a commit that its query lets through; `None` where there is none.
    fn apply(
        &self,
        events: &[RecordedEvent],
        place: &mut GenerationTables,
        view: &mut dyn LogView,
    ) -> Result<Option<Vec<RowChange>>, CommitError>;

    /// Brings the view to the end of the log, and returns its position.
    async fn catch_up(&self, store: &dyn EventStore) -> Result<(Ready, Option<Position>), StartInlineError>;
}

/// A projection whose view was brought up to a position.
#[derive(Debug)]
struct Ready {
    build: Build,
    /// The row of its generations, which must stay as it is.
    generations: Bytes,
    place: GenerationTables,
}

#[async_trait]
impl<P: Projection> Erased for Typed<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn apply(
        &self,
        events: &[RecordedEvent],
        place: &mut GenerationTables,
        view: &mut dyn LogView,
    ) -> Result<Option<Vec<RowChange>>, CommitError> {
        // An import writes tombstones for removed events.
        let is_wanted =
            |event: &&RecordedEvent| !event.is_removed() && is_projected(event) && self.query.matches_event(event);
        let matching: Vec<&RecordedEvent> = events.iter().filter(is_wanted).collect();
        if matching.is_empty() {
            return Ok(None);
        }
        let held = std::collections::BTreeSet::new();
        let mut applier = BatchApplier::new(&self.projection, matching.iter().copied(), &held);
        let mut rows = Rows::default();
        let outcomes = loop {
            match applier.run(&mut rows) {
                Pass::Missing(missing) => {
                    for (table, key) in missing {
                        let value = view.row(&place.table(&table)?, &key)?;
                        rows.learn(table, key, value);
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
        place.note_by(&rows, |key| Ok(view.row(&view_tables(), key)?.is_some()))?;
        Ok(Some(place.changes(&rows)?))
    }

    async fn catch_up(&self, store: &dyn EventStore) -> Result<(Ready, Option<Position>), StartInlineError> {
        let projection = P::NAME;
        crate::projection::check_name(projection).map_err(|source| StartInlineError::Name { projection, source })?;
        let failed = |source: CommitError| StartInlineError::Store { projection, source: Box::new(source) };
        let in_store = |source: StoreError| failed(source.into());
        let before = generations(store, projection).await.map_err(in_store)?;
        let (mut now, build) = plan(&before, P::VERSION);
        write_generations(store, projection, &before, &now).await.map_err(failed)?;
        remove_others(store, projection, &now).await.map_err(failed)?;
        if is_any_parked(store, projection, build.generation).await.map_err(in_store)? {
            return Err(StartInlineError::Parked { projection });
        }
        let mut place = GenerationTables::new(projection, build.generation)
            .map_err(|source| StartInlineError::Name { projection, source })?;
        let position = self.follow(store, &build, &mut place).await?;
        // The view is at the end of the log: from here on it is the one that is read, with one checkpoint.
        let whole = Build { partitions: 1, ..build };
        let planned = now;
        now = Generations {
            active: Some(whole),
            building: now.building.filter(|b| b.generation != build.generation),
            ..now
        };
        let mut commit = Commit::new();
        for partition in 1..build.partitions {
            commit = commit.delete_row(checkpoints_table(), checkpoint_key(projection, build.generation, partition));
        }
        if now != planned {
            commit = now.replace(projection, &planned, commit).map_err(in_store)?;
            store.commit(commit).await.map_err(failed)?;
            remove_others(store, projection, &now).await.map_err(failed)?;
        }
        Ok((Ready { build: whole, generations: now.encode().map_err(in_store)?, place }, position))
    }
}

/// Which build is to be continued, or begun: what the generations become, and the build.
fn plan(before: &Generations, version: u32) -> (Generations, Build) {
    let usable = |build: &Build| build.version == version;
    if let Some(active) = before.active.filter(usable) {
        return (*before, active);
    }
    if let Some(building) = before.building.filter(usable) {
        return (*before, building);
    }
    let build = Build { generation: before.next(), version, partitions: 1 };
    let begun = Generations { last: Some(build.generation), ..*before };
    match before.active {
        Some(_) => (Generations { building: Some(build), ..begun }, build),
        None => (Generations { active: Some(build), building: None, ..begun }, build),
    }
}

async fn write_generations(
    store: &dyn EventStore,
    projection: &str,
    before: &Generations,
    now: &Generations,
) -> Result<(), CommitError> {
    if before != now {
        store.commit(now.replace(projection, before, Commit::new())?).await?;
    }
    Ok(())
}

/// Removes builds that are neither read nor built: an earlier removal may have been interrupted.
async fn remove_others(store: &dyn EventStore, projection: &str, now: &Generations) -> Result<(), CommitError> {
    let kept = [now.active, now.building].map(|build| build.map(|build| build.generation));
    let Some(last) = now.last else { return Ok(()) };
    let mut generation = crate::projection::Generation::FIRST;
    while generation <= last {
        let prefix = checkpoint_prefix(projection, generation);
        let is_left = |table: Table| store.rows(RowScan::new(table, prefix.clone(), 1));
        let is_kept = kept.contains(&Some(generation));
        let is_empty =
            is_kept || (is_left(view_tables()).await?.is_empty() && is_left(checkpoints_table()).await?.is_empty());
        if !is_empty {
            remove_generation(store, projection, generation, REMOVED_AT_ONCE).await?;
        }
        generation = generation.next();
    }
    Ok(())
}

impl<P: Projection> Typed<P> {
    /// Applies the log from the checkpoints on up to its end, in bounded batches, each with its checkpoints in one commit.
    async fn follow(
        &self,
        store: &dyn EventStore,
        build: &Build,
        place: &mut GenerationTables,
    ) -> Result<Option<Position>, StartInlineError> {
        let projection = P::NAME;
        let failed = |source: CommitError| StartInlineError::Store { projection, source: Box::new(source) };
        let in_store = |source: StoreError| failed(source.into());
        let mut checkpoints = Checkpoints::read(store, projection, build).await.map_err(in_store)?;
        loop {
            let Some(head) = store.head().await.map_err(in_store)? else { return Ok(None) };
            if checkpoints.least() == Some(head) {
                return Ok(Some(head));
            }
            let read = LogRead::matching(self.query.clone()).after(checkpoints.least());
            let mut events = store.read_log(read).await.map_err(in_store)?;
            while let Some(batch) = events.next_batch().await.map_err(in_store)? {
                for some in batch.chunks(CATCH_UP_EVENTS) {
                    self.apply_batch(store, some, place, &mut checkpoints).await?;
                }
            }
            // NOTE: what does not match counts as applied.
            let scanned = events.scanned().unwrap_or(head);
            checkpoints.raise(store, Some(scanned), Commit::new()).await.map_err(failed)?;
        }
    }

    async fn apply_batch(
        &self,
        store: &dyn EventStore,
        events: &[RecordedEvent],
        place: &mut GenerationTables,
        checkpoints: &mut Checkpoints,
    ) -> Result<(), StartInlineError> {
        let projection = P::NAME;
        let failed = |source: CommitError| StartInlineError::Store { projection, source: Box::new(source) };
        let is_new = |event: &&RecordedEvent| {
            let partition = match checkpoints.rows.len() {
                1 => 0,
                _ => partition_of(&self.projection.key(event), checkpoints.partitions()),
            };
            checkpoints.of(partition) < Some(event.position)
        };
        let new: Vec<&RecordedEvent> = events.iter().filter(|event| is_projected(event)).filter(is_new).collect();
        let held = std::collections::BTreeSet::new();
        let applier = BatchApplier::new(&self.projection, new.iter().copied(), &held);
        let (rows, outcomes) = place.apply(store, applier).await.map_err(|error| failed(error.into()))?;
        if let Some((event, failure)) = first_failure(&new, outcomes) {
            let (position, event_type) = (event.position, event.data.event_type.clone());
            return Err(StartInlineError::Event { projection, position, event_type, source: Box::new(failure) });
        }
        let mut commit = Commit::new();
        commit.rows = place.changes(&rows).map_err(|error| failed(error.into()))?;
        checkpoints.raise(store, events.last().map(|event| event.position), commit).await.map_err(failed)?;
        place.written(&rows);
        Ok(())
    }
}

/// The first event that was not applied, and why.
fn first_failure<'a>(
    events: &[&'a RecordedEvent],
    outcomes: Vec<ApplyOutcome>,
) -> Option<(&'a RecordedEvent, ApplyFailure)> {
    events.iter().zip(outcomes).find_map(|(event, outcome)| match outcome {
        ApplyOutcome::Failed(failure) => Some((*event, failure)),
        _ => None,
    })
}

/// The checkpoints of the partitions of a build, and the rows in which they stand.
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

    fn least(&self) -> Option<Position> {
        self.rows.iter().map(|(_, checkpoint)| checkpoint.position).min().flatten()
    }

    /// Writes a commit that brings each partition to a position, unless it is there already.
    async fn raise(
        &mut self,
        store: &dyn EventStore,
        to: Option<Position>,
        mut commit: Commit,
    ) -> Result<(), CommitError> {
        let raised: Vec<(Option<Bytes>, Checkpoint)> = (self.rows.iter())
            .map(|(_, before)| Checkpoint::at(before.position.max(to)))
            .map(|checkpoint| (Some(checkpoint.encode()), checkpoint))
            .collect();
        for (partition, ((before, _), (now, _))) in (0..).zip(self.rows.iter().zip(&raised)) {
            let key = checkpoint_key(self.projection, self.build.generation, partition);
            commit = commit.expect_row(checkpoints_table(), key.clone(), before.clone());
            if let Some(now) = now.as_ref().filter(|now| before.as_ref() != Some(now)) {
                commit = commit.put_row(checkpoints_table(), key, now.clone());
            }
        }
        store.commit(commit).await?;
        self.rows = raised;
        Ok(())
    }
}

/// An inline projection that takes part in the decisions of one store.
struct InlineHook {
    inline: Inline,
    // One writer decides; the lock is there because a hook is shared.
    ready: Mutex<Ready>,
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

    /// Brings the view to the end of the log, in bounded batches. A view of another version is rebuilt beside the old one, and
    /// replaces it at the end.
    async fn prepare(&self, store: &dyn EventStore) -> Result<PreparedHook, Box<dyn std::error::Error + Send + Sync>> {
        let (ready, position) = self.0.catch_up(store).await?;
        let hook = Arc::new(InlineHook { inline: self.clone(), ready: Mutex::new(ready) });
        Ok(PreparedHook { hook, position })
    }
}

impl DecisionHook for InlineHook {
    fn name(&self) -> &str {
        self.inline.0.name()
    }

    fn after(
        &self,
        commit: &mut ValidCommit,
        events: &[RecordedEvent],
        view: &mut dyn LogView,
    ) -> Result<(), CommitError> {
        let projection = self.inline.0.name();
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
        // Code of users runs guarded, so that no panic poisons the lock between two changes.
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let key = checkpoint_key(projection, ready.build.generation, 0);
        let found = view.row(&generations_table(), projection.as_bytes())?;
        let checkpoint = Checkpoint::decode(projection, view.row(&checkpoints_table(), &key)?.as_deref())?;
        if found.as_ref() != Some(&ready.generations) || checkpoint.position != first.position.previous() {
            return Err(InlineError::Behind { projection }.into());
        }
        let mut changes = self.inline.0.apply(events, &mut ready.place, view)?.unwrap_or_default();
        let value = Some(Checkpoint::at(Some(last.position)).encode());
        changes.push(RowChange { table: checkpoints_table(), key, value });
        commit.add_rows(changes).map_err(|error| match error {
            InvalidCommit::TooManyBytes { found } => InlineError::TooLarge { projection, found }.into(),
            other => other.into(),
        })
    }
}

impl From<InlineError> for CommitError {
    fn from(error: InlineError) -> Self {
        Self::Rejected(Box::new(error))
    }
}
