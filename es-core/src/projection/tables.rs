//! [`GenerationTables`]: the tables of a store that hold the rows of one generation of a view.
//!
//! ```text
//!   table "demand" of the view --> table "view:{projection}:{generation}:demand" of the store
//!                             +--> its name in table "view-tables", so that a retired generation can be removed
//! ```

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use futures_util::future::try_join_all;

use crate::model::reserved;
use crate::model::{NameError, Table};
use crate::projection::checkpoint::{checkpoint_prefix, checkpoints_table};
use crate::projection::generation::{Generation, generations_table, table};
use crate::projection::{ApplyOutcome, BatchApplier, Generations, Pass, Projection, Rows};
use crate::store::implement::RowChange;
use crate::store::{Commit, CommitError, EventReader, EventStore, RowScan, StoreError};

/// Maps the tables of a view to the tables of the store that hold them for one generation.
///
/// Records each table in the table [`view_tables`], in the commit that first writes to it, so that [`remove_generation`] finds
/// all of them.
#[derive(Debug, Clone)]
pub(crate) struct GenerationTables {
    projection: String,
    generation: Generation,
    tables: HashMap<Table, Table>,
    noted: BTreeSet<Table>,
}

/// The largest number of concurrent row reads.
const ROWS_AT_ONCE: usize = 64;

impl GenerationTables {
    /// Creates the mapping for one generation.
    ///
    /// # Errors
    /// [`NameError`] if the name of the projection is invalid.
    pub(crate) fn new(projection: &str, generation: Generation) -> Result<Self, NameError> {
        super::check_name(projection)?;
        Ok(Self { projection: projection.to_owned(), generation, tables: HashMap::new(), noted: BTreeSet::new() })
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
    /// See [`table`](Self::table).
    pub(crate) fn changes(&mut self, rows: &Rows) -> Result<Vec<RowChange>, StoreError> {
        let mut changes = Vec::new();
        let mut new = BTreeSet::new();
        for ((logical, key), value) in rows.changes() {
            if !self.noted.contains(logical) && new.insert(logical.clone()) {
                let key = note_key(&self.projection, self.generation, logical);
                changes.push(RowChange { table: view_tables(), key, value: Some(Bytes::from_static(b"1")) });
            }
            changes.push(RowChange { table: self.table(logical)?, key: key.clone(), value: value.clone() });
        }
        Ok(changes)
    }

    /// Notes that the changes of these rows were written.
    pub(crate) fn written(&mut self, rows: &Rows) {
        for ((logical, _), _) in rows.changes() {
            if !self.noted.contains(logical) {
                self.noted.insert(logical.clone());
            }
        }
    }

    /// Notes the tables that are recorded in the store already, for a caller that does not know which commits were written.
    pub(crate) fn note_by(
        &mut self,
        rows: &Rows,
        mut is_noted: impl FnMut(&[u8]) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        for ((logical, _), _) in rows.changes() {
            let is_known = self.noted.contains(logical);
            if !is_known && is_noted(&note_key(&self.projection, self.generation, logical))? {
                self.noted.insert(logical.clone());
            }
        }
        Ok(())
    }

    /// Reads rows from a store into `rows`, up to 64 concurrently.
    ///
    /// # Errors
    /// [`StoreError`] if the infrastructure failed.
    pub(crate) async fn fetch(
        &mut self,
        store: &dyn EventReader,
        missing: BTreeSet<(Table, Bytes)>,
        rows: &mut Rows,
    ) -> Result<(), StoreError> {
        let mut wanted = Vec::with_capacity(missing.len());
        for (logical, key) in missing {
            wanted.push((self.table(&logical)?, logical, key));
        }
        for chunk in wanted.chunks(ROWS_AT_ONCE) {
            let found = try_join_all(chunk.iter().map(|(table, _, key)| store.row(table, key))).await?;
            for ((_, logical, key), value) in chunk.iter().zip(found) {
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
        self.apply_onto(store, events, Rows::default()).await
    }

    /// Applies a batch of events to rows of which some are known already.
    pub(crate) async fn apply_onto<P: Projection>(
        &mut self,
        store: &dyn EventReader,
        mut events: BatchApplier<'_, P>,
        mut rows: Rows,
    ) -> Result<(Rows, Vec<ApplyOutcome>), StoreError> {
        loop {
            match events.run(&mut rows) {
                Pass::Missing(missing) => self.fetch(store, missing, &mut rows).await?,
                Pass::Done(outcomes) => return Ok((rows, outcomes)),
            }
        }
    }
}

/// Returns the table that lists the tables of all views.
pub(crate) fn view_tables() -> Table {
    Table::well_known(reserved::VIEW_TABLES)
}

fn note_key(projection: &str, generation: Generation, logical: &Table) -> Bytes {
    [&*checkpoint_prefix(projection, generation), logical.as_str().as_bytes()].concat().into()
}

/// Removes the rows and checkpoints of a generation in commits of at most `at_once` rows, and returns the number of removed rows.
/// An interrupted call can be repeated. The generation must be neither active nor being built.
///
/// # Errors
/// [`CommitError::Store`] if the infrastructure failed; call it again.
pub(crate) async fn remove_generation(
    store: &dyn EventStore,
    projection: &str,
    generation: Generation,
    at_once: usize,
) -> Result<u64, CommitError> {
    let at_once = at_once.max(1);
    let notes = checkpoint_prefix(projection, generation);
    let mut removed = 0;
    loop {
        let found = store.rows(RowScan::new(view_tables(), notes.clone(), at_once)).await?;
        if found.is_empty() {
            break;
        }
        for note in found {
            let named = note.key.get(notes.len()..).and_then(|name| std::str::from_utf8(name).ok());
            if let Some(logical) = named.and_then(|name| Table::new(name).ok()) {
                let physical = table(projection, generation, &logical)
                    .map_err(|error| StoreError::damaged("the names of the tables of a view", error.to_string()))?;
                removed += remove_rows(store, &physical, Bytes::new(), at_once).await?;
            }
            // ORDER: after its rows, so that they are found again after an interruption.
            store.commit(Commit::new().delete_row(view_tables(), note.key)).await?;
        }
    }
    remove_rows(store, &checkpoints_table(), notes, at_once).await?;
    Ok(removed)
}

/// Removes all rows of a projection, with the rows of its workers; its row in the table of generations last.
pub(crate) async fn remove_projection(
    store: &dyn EventStore,
    projection: &str,
    generations: &Generations,
    (worker_table, worker_prefix): (Table, Bytes),
    at_once: usize,
) -> Result<(), CommitError> {
    // NOTE: retired generations may have rows as well; their numbers are below that of the last one.
    let last = generations.last.max(generations.active.map(|build| build.generation));
    let mut generation = Some(Generation::FIRST).filter(|first| last >= Some(*first));
    while let Some(number) = generation {
        remove_generation(store, projection, number, at_once).await?;
        generation = Some(number.next()).filter(|next| last >= Some(*next));
    }
    remove_rows(store, &worker_table, worker_prefix, at_once).await?;
    let key = Bytes::copy_from_slice(projection.as_bytes());
    store.commit(Commit::new().delete_row(generations_table(), key)).await?;
    Ok(())
}

async fn remove_rows(store: &dyn EventStore, table: &Table, prefix: Bytes, at_once: usize) -> Result<u64, CommitError> {
    let mut removed = 0;
    loop {
        let found = store.rows(RowScan::new(table.clone(), prefix.clone(), at_once)).await?;
        if found.is_empty() {
            return Ok(removed);
        }
        removed += found.len() as u64;
        let deletions = found.into_iter().fold(Commit::new(), |commit, row| commit.delete_row(table.clone(), row.key));
        store.commit(deletions).await?;
    }
}
