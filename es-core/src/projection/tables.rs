//! [`GenerationTables`]: the tables of a store that hold the rows of one generation of a view.
//!
//! ```text
//!   table "demand" of the view --> table "view:{projection}:{generation}:demand" of the store
//!                             +--> its name in table "view-tables", so that a retired generation can be removed
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use futures_util::future::try_join_all;

use crate::model::reserved;
use crate::model::{NameError, RecordedEvent, StreamId, Table};
use crate::projection::checkpoint::{checkpoint_prefix, checkpoints_table};
use crate::projection::generation::{Generation, generations_table, table};
use crate::projection::kept::NO_KEPT_EVENTS;
use crate::projection::states::{NO_STATES, StateLoader, StateReader};
use crate::projection::{ApplyOutcome, BatchApplier, Generations, Pass, Projection, Rows};
use crate::store::implement::RowChange;
use crate::store::{Commit, CommitError, EventReader, EventStore, RowScan, StoreError};

/// Maps the tables of a view to the tables of the store that hold them for one generation.
///
/// Records each table in the table [`view_tables`], in the commit that first writes to it, so that
/// [`remove_generation`] finds all of them.
#[derive(Debug, Clone)]
pub(crate) struct GenerationTables {
    projection: String,
    generation: Generation,
    tables: HashMap<Table, Table>,
    /// The tables that are recorded in the store.
    recorded: BTreeSet<Table>,
}

/// The largest number of concurrent row reads.
const CONCURRENT_READS: usize = 64;

impl GenerationTables {
    /// Creates the mapping for one generation.
    ///
    /// # Errors
    /// [`NameError`] if the name of the projection is invalid.
    pub(crate) fn new(projection: &str, generation: Generation) -> Result<Self, NameError> {
        super::check_name(projection)?;
        Ok(Self { projection: projection.to_owned(), generation, tables: HashMap::new(), recorded: BTreeSet::new() })
    }

    /// Returns the table of the store for a table of the view.
    ///
    /// # Errors
    /// [`StoreError`] if its name together with that of the projection is too long.
    pub(crate) fn table(&mut self, logical: &Table) -> Result<Table, StoreError> {
        if let Some(table) = self.tables.get(logical) {
            return Ok(table.clone());
        }
        let table = table(&self.projection, self.generation, logical)
            .map_err(|error| StoreError::io(format!("name the table {logical:?} of a view"), error))?;
        self.tables.insert(logical.clone(), table.clone());
        Ok(table)
    }

    /// Returns the row changes of the store for the accepted changes. Call [`written`](Self::written) after the commit.
    ///
    /// # Errors
    /// [`StoreError`] if the name of a table together with that of the projection is too long.
    pub(crate) fn changes(&mut self, rows: &Rows) -> Result<Vec<RowChange>, StoreError> {
        let mut changes = Vec::new();
        let mut new = BTreeSet::new();
        for ((logical, key), value) in rows.changes() {
            if !self.recorded.contains(logical) && new.insert(logical.clone()) {
                let key = record_key(&self.projection, self.generation, logical);
                changes.push(RowChange { table: view_tables(), key, value: Some(Bytes::from_static(b"1")) });
            }
            changes.push(RowChange { table: self.table(logical)?, key: key.clone(), value: value.clone() });
        }
        Ok(changes)
    }

    /// Marks the tables of the changed rows as recorded, after the commit that writes the changes.
    pub(crate) fn written(&mut self, rows: &Rows) {
        for ((logical, _), _) in rows.changes() {
            if !self.recorded.contains(logical) {
                self.recorded.insert(logical.clone());
            }
        }
    }

    /// Looks up which tables of the changed rows are recorded in the store. For a caller that does not learn which
    /// commits were written and so cannot call [`written`](Self::written).
    pub(crate) fn look_up_recorded(
        &mut self,
        rows: &Rows,
        mut is_in_store: impl FnMut(&[u8]) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        for ((logical, _), _) in rows.changes() {
            let is_recorded = self.recorded.contains(logical);
            if !is_recorded && is_in_store(&record_key(&self.projection, self.generation, logical))? {
                self.recorded.insert(logical.clone());
            }
        }
        Ok(())
    }

    /// Reads rows from a store into `rows`, up to 64 concurrently.
    ///
    /// # Errors
    /// [`StoreError`] if a row could not be read, or the name of its table is too long.
    pub(crate) async fn fetch(
        &mut self,
        store: &dyn EventReader,
        missing: BTreeSet<(Table, Bytes)>,
        rows: &mut Rows,
    ) -> Result<(), StoreError> {
        let mut reads = Vec::with_capacity(missing.len());
        for (logical, key) in missing {
            reads.push((self.table(&logical)?, logical, key));
        }
        for chunk in reads.chunks(CONCURRENT_READS) {
            let values = try_join_all(chunk.iter().map(|(table, _, key)| store.row(table, key))).await?;
            for ((_, logical, key), value) in chunk.iter().zip(values) {
                rows.learn(logical.clone(), key.clone(), value);
            }
        }
        Ok(())
    }

    /// Applies a batch of events to rows of a store, and reads the rows that it needs. Writes nothing.
    ///
    /// # Errors
    /// [`StoreError`] if a row could not be read.
    pub(crate) async fn apply<P: Projection>(
        &mut self,
        store: &dyn EventReader,
        events: BatchApplier<'_, P>,
    ) -> Result<(Rows, Vec<ApplyOutcome>), StoreError> {
        // The type of an inline projection rules out a view of states.
        self.apply_onto(store, None, events, Rows::default()).await
    }

    /// Applies a batch of events as [`apply`](Self::apply) does, starting with loaded rows. Reads the states of
    /// aggregates, and the kept events of deleted streams, with `states`.
    pub(crate) async fn apply_onto<P: Projection>(
        &mut self,
        store: &dyn EventReader,
        states: Option<&StateReader>,
        mut events: BatchApplier<'_, P>,
        mut rows: Rows,
    ) -> Result<(Rows, Vec<ApplyOutcome>), StoreError> {
        loop {
            match events.run(&mut rows) {
                Pass::Missing(missing) => {
                    self.fetch(store, missing.rows, &mut rows).await?;
                    fetch_states(states, missing.states, &mut rows).await?;
                    fetch_kept(states, missing.deletions.into_values(), &mut rows).await?;
                }
                Pass::Done(outcomes) => return Ok((rows, outcomes)),
            }
        }
    }
}

/// Loads states into `rows`, up to 64 concurrently.
async fn fetch_states(
    reader: Option<&StateReader>,
    missing: BTreeMap<StreamId, StateLoader>,
    rows: &mut Rows,
) -> Result<(), StoreError> {
    let missing: Vec<(StreamId, StateLoader)> = missing.into_iter().collect();
    for chunk in missing.chunks(CONCURRENT_READS) {
        let load = async |stream: &StreamId, loader: StateLoader| match reader {
            Some(reader) => loader.load(reader, stream).await,
            None => Ok(Err(NO_STATES.to_owned())),
        };
        let states = try_join_all(chunk.iter().map(|(stream, loader)| load(stream, *loader))).await?;
        for ((stream, _), state) in chunk.iter().zip(states) {
            rows.learn_state(stream.clone(), state);
        }
    }
    Ok(())
}

/// Reads the events that deletions of replicated streams keep into `rows`.
async fn fetch_kept(
    reader: Option<&StateReader>,
    deletions: impl Iterator<Item = RecordedEvent>,
    rows: &mut Rows,
) -> Result<(), StoreError> {
    for deletion in deletions {
        let kept = match reader {
            Some(reader) => Ok(reader.kept_by(&deletion).await?.into()),
            None => Err(NO_KEPT_EVENTS.to_owned()),
        };
        rows.learn_kept(deletion.position, kept);
    }
    Ok(())
}

/// Returns the table that lists the tables of all views.
pub(crate) fn view_tables() -> Table {
    Table::well_known(reserved::VIEW_TABLES)
}

/// Returns the key under which a table is recorded.
fn record_key(projection: &str, generation: Generation, logical: &Table) -> Bytes {
    [&*checkpoint_prefix(projection, generation), logical.as_str().as_bytes()].concat().into()
}

/// Removes the rows and checkpoints of a generation in commits of at most `per_commit` rows, and returns the number of
/// removed rows. An interrupted call can be repeated. The generation must be neither active nor being built.
///
/// # Errors
/// [`CommitError::Store`] if the store failed.
pub(crate) async fn remove_generation(
    store: &dyn EventStore,
    projection: &str,
    generation: Generation,
    per_commit: usize,
) -> Result<u64, CommitError> {
    let per_commit = per_commit.max(1);
    let prefix = checkpoint_prefix(projection, generation);
    let mut removed = 0;
    loop {
        let records = store.rows(RowScan::new(view_tables(), prefix.clone(), per_commit)).await?;
        if records.is_empty() {
            break;
        }
        for record in records {
            let name = record.key.get(prefix.len()..).and_then(|name| std::str::from_utf8(name).ok());
            if let Some(logical) = name.and_then(|name| Table::new(name).ok()) {
                let physical = table(projection, generation, &logical)
                    .map_err(|error| StoreError::damaged("the names of the tables of a view", error.to_string()))?;
                removed += remove_rows(store, &physical, Bytes::new(), per_commit).await?;
            }
            // ORDER: after the rows of the table. A repeated call finds them by this record.
            store.commit(Commit::new().delete_row(view_tables(), record.key)).await?;
        }
    }
    remove_rows(store, &checkpoints_table(), prefix, per_commit).await?;
    Ok(removed)
}

/// Removes all rows of a projection and of its workers. Removes its row in the table of generations last, so that an
/// interrupted call can be repeated.
///
/// # Errors
/// [`CommitError::Store`] if the store failed.
pub(crate) async fn remove_projection(
    store: &dyn EventStore,
    projection: &str,
    generations: &Generations,
    (worker_table, worker_prefix): (Table, Bytes),
    per_commit: usize,
) -> Result<(), CommitError> {
    // Retired generations may have rows as well. Their numbers are below that of the last one.
    let last = generations.last.max(generations.active.map(|build| build.generation));
    let mut generation = Some(Generation::FIRST).filter(|first| last >= Some(*first));
    while let Some(number) = generation {
        remove_generation(store, projection, number, per_commit).await?;
        generation = Some(number.next()).filter(|next| last >= Some(*next));
    }
    remove_rows(store, &worker_table, worker_prefix, per_commit).await?;
    let key = Bytes::copy_from_slice(projection.as_bytes());
    store.commit(Commit::new().delete_row(generations_table(), key)).await?;
    Ok(())
}

async fn remove_rows(
    store: &dyn EventStore,
    table: &Table,
    prefix: Bytes,
    per_commit: usize,
) -> Result<u64, CommitError> {
    let mut removed = 0;
    loop {
        let found = store.rows(RowScan::new(table.clone(), prefix.clone(), per_commit)).await?;
        if found.is_empty() {
            return Ok(removed);
        }
        removed += found.len() as u64;
        let deletions = found.into_iter().fold(Commit::new(), |commit, row| commit.delete_row(table.clone(), row.key));
        store.commit(deletions).await?;
    }
}
