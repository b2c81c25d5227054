//! [`MemoryViews`]: views in memory, for projections that are folded on demand and for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use crate::model::ErrorChain;
use crate::model::Table;
use crate::projection::view::{View, ViewError, ViewKey, ViewScan};
use crate::projection::{ApplyFailure, ApplyOutcome, BatchApplier, Pass, Projection, Rows};
use crate::store::{Direction, Row, RowScan};

/// The rows of a projection in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryViews {
    rows: BTreeMap<(Table, Bytes), Bytes>,
}

impl MemoryViews {
    /// A view, to be read.
    #[must_use]
    pub const fn view<'a, K: 'static, V: 'static>(&'a self, view: &'a View<K, V>) -> MemoryReader<'a, K, V> {
        MemoryReader { rows: self, view }
    }

    /// The value of a row, by table and key, for projections that write rows themselves.
    #[must_use]
    pub fn row(&self, table: &Table, key: &[u8]) -> Option<&Bytes> {
        self.rows.get(&(table.clone(), Bytes::copy_from_slice(key)))
    }

    /// All rows, in the order of tables and keys, those of orders and descriptions included.
    pub fn rows(&self) -> impl Iterator<Item = (&Table, &Bytes, &Bytes)> {
        self.rows.iter().map(|((table, key), value)| (table, key, value))
    }

    /// Applies events, all or none.
    ///
    /// # Errors
    /// The first event that could not be applied, and why.
    pub(crate) fn fold<P: Projection>(&mut self, mut events: BatchApplier<'_, P>) -> Result<(), (usize, ApplyFailure)> {
        let mut rows = Rows::default();
        let outcomes = loop {
            match events.run(&mut rows) {
                Pass::Missing(missing) => self.teach(missing, &mut rows),
                Pass::Done(outcomes) => break outcomes,
            }
        };
        for (index, outcome) in outcomes.into_iter().enumerate() {
            if let ApplyOutcome::Failed(failure) = outcome {
                return Err((index, failure));
            }
        }
        for (row, value) in rows.changes() {
            match value {
                Some(value) => self.rows.insert(row.clone(), value.clone()),
                None => self.rows.remove(row),
            };
        }
        Ok(())
    }

    fn teach(&self, missing: BTreeSet<(Table, Bytes)>, rows: &mut Rows) {
        for row in missing {
            let value = self.rows.get(&row).cloned();
            rows.learn(row.0, row.1, value);
        }
    }

    fn scan(&self, scan: &RowScan) -> Vec<Row> {
        let first = (Bound::Included((scan.table.clone(), scan.prefix.clone())), Bound::Unbounded);
        let of_prefix = self
            .rows
            .range(first)
            .take_while(|((table, key), _)| *table == scan.table && key.starts_with(&scan.prefix))
            .map(|((_, key), value)| Row { key: key.clone(), value: value.clone() });
        match scan.direction {
            Direction::Forward => of_prefix
                .filter(|row| scan.after.as_ref().is_none_or(|after| row.key > *after))
                .take(scan.limit)
                .collect(),
            Direction::Backward => {
                let rows: Vec<Row> =
                    of_prefix.filter(|row| scan.after.as_ref().is_none_or(|after| row.key < *after)).collect();
                rows.into_iter().rev().take(scan.limit).collect()
            }
        }
    }
}

/// A view in memory, to be read.
#[derive(Debug)]
pub struct MemoryReader<'a, K: 'static, V: 'static> {
    rows: &'a MemoryViews,
    view: &'a View<K, V>,
}

impl<'a, K: ViewKey, V: 'static> MemoryReader<'a, K, V> {
    /// The value under a key.
    ///
    /// # Panics
    /// When the rows were written by another declaration of the view than the one that reads them: see [`try_get`](Self::try_get).
    #[must_use]
    #[track_caller]
    pub fn get(&self, key: &K) -> Option<V> {
        self.try_get(key).unwrap_or_else(|error| panic!("{}", ErrorChain(&error)))
    }

    /// The value under a key.
    ///
    /// # Errors
    /// [`ViewError::Value`] when the rows were written by another declaration of the view.
    pub fn try_get(&self, key: &K) -> Result<Option<V>, ViewError> {
        let Some(row) = self.rows.row(&self.view.table(), &key.to_key()) else { return Ok(None) };
        self.view.decode(row).map(Some).map_err(|source| ViewError::Value { view: self.view.name(), source })
    }

    /// Rows in order.
    pub fn scan(&self) -> ViewScan<'a, &'a MemoryViews, K, V> {
        ViewScan::new(self.rows, self.view)
    }
}

impl<K: ViewKey, V: 'static, T: ViewKey> ViewScan<'_, &MemoryViews, K, V, T> {
    /// The rows of the scan.
    ///
    /// # Panics
    /// As [`MemoryReader::get`], and when the view has no such order: see [`try_read`](Self::try_read).
    #[must_use]
    #[track_caller]
    pub fn read(self) -> Vec<(K, V)> {
        self.try_read().unwrap_or_else(|error| panic!("{}", ErrorChain(&error)))
    }

    /// The rows of the scan.
    ///
    /// # Errors
    /// [`ViewError`] when the rows were written by another declaration of the view, or when it has no such order.
    pub fn try_read(self) -> Result<Vec<(K, V)>, ViewError> {
        let rows = self.source.scan(&self.row_scan(self.table()?));
        Ok(self.decode(rows)?.0)
    }
}
