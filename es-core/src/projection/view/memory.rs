//! [`MemoryViews`]: views in memory, for [`Live`](crate::projection::Live) views and for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use crate::model::ErrorChain;
use crate::model::{RecordedEvent, Table};
use crate::projection::kept::{AppliedOrder, kept_of};
use crate::projection::view::{View, ViewError, ViewKey, ViewScan};
use crate::projection::{ApplyFailure, ApplyOutcome, BatchApplier, Pass, Projection, Rows};
use crate::store::{Direction, Row, RowScan};

/// The rows of a projection in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryViews {
    rows: BTreeMap<(Table, Bytes), Bytes>,
}

impl MemoryViews {
    /// Returns a reader of a view.
    #[must_use]
    pub const fn view<'a, K: 'static, V: 'static>(&'a self, view: &'a View<K, V>) -> MemoryReader<'a, K, V> {
        MemoryReader { rows: self, view }
    }

    /// Returns the value of a row that the projection wrote with [`Rows::put`].
    #[must_use]
    pub fn row(&self, table: &Table, key: &[u8]) -> Option<&Bytes> {
        self.rows.get(&(table.clone(), Bytes::copy_from_slice(key)))
    }

    /// Returns all rows, ordered by table and key, including those of orders and descriptions.
    pub fn rows(&self) -> impl Iterator<Item = (&Table, &Bytes, &Bytes)> {
        self.rows.iter().map(|((table, key), value)| (table, key, value))
    }

    /// Applies all events or none, in the order of the log. Folds the states of aggregates from `log`, which has all
    /// their events, and those of the streams that the events delete.
    ///
    /// # Errors
    /// The index of the first event that could not be applied, and its failure.
    pub(crate) fn fold<P: Projection>(
        &mut self,
        mut events: BatchApplier<'_, P>,
        log: &[RecordedEvent],
    ) -> Result<(), (usize, ApplyFailure)> {
        let mut rows = Rows::default();
        let outcomes = loop {
            match events.run(&mut rows) {
                Pass::Missing(missing) => {
                    self.load(missing.rows, &mut rows);
                    for (stream, loader) in missing.states {
                        let state = loader.fold(log, &stream);
                        rows.learn_state(stream, state);
                    }
                    for (position, deletion) in missing.deletions {
                        rows.learn_kept(position, Ok(kept_of(log, &deletion, AppliedOrder::Log).into()));
                    }
                }
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

    fn load(&self, missing: BTreeSet<(Table, Bytes)>, rows: &mut Rows) {
        for row in missing {
            let value = self.rows.get(&row).cloned();
            rows.learn(row.0, row.1, value);
        }
    }

    fn scan(&self, scan: &RowScan) -> Vec<Row> {
        let start = (Bound::Included((scan.table.clone(), scan.prefix.clone())), Bound::Unbounded);
        let with_prefix = self
            .rows
            .range(start)
            .take_while(|((table, key), _)| *table == scan.table && key.starts_with(&scan.prefix))
            .map(|((_, key), value)| Row { key: key.clone(), value: value.clone() });
        match scan.direction {
            Direction::Forward => with_prefix
                .filter(|row| scan.after.as_ref().is_none_or(|after| row.key > *after))
                .take(scan.limit)
                .collect(),
            Direction::Backward => {
                let rows: Vec<Row> =
                    with_prefix.filter(|row| scan.after.as_ref().is_none_or(|after| row.key < *after)).collect();
                rows.into_iter().rev().take(scan.limit).collect()
            }
        }
    }
}

/// Reads a view in memory.
#[derive(Debug)]
pub struct MemoryReader<'a, K: 'static, V: 'static> {
    rows: &'a MemoryViews,
    view: &'a View<K, V>,
}

impl<'a, K: ViewKey, V: 'static> MemoryReader<'a, K, V> {
    /// Returns the value of a key.
    ///
    /// # Panics
    /// If the value cannot be decoded. [`try_get`](Self::try_get) returns an error instead.
    #[must_use]
    #[track_caller]
    pub fn get(&self, key: &K) -> Option<V> {
        self.try_get(key).unwrap_or_else(|error| panic!("{}", ErrorChain(&error)))
    }

    /// Returns the value of a key.
    ///
    /// # Errors
    /// [`ViewError::Value`] if the value cannot be decoded.
    pub fn try_get(&self, key: &K) -> Result<Option<V>, ViewError> {
        let Some(row) = self.rows.row(&self.view.table(), &key.to_key()) else { return Ok(None) };
        self.view.decode(row).map(Some).map_err(|source| ViewError::Value { view: self.view.name(), source })
    }

    /// Starts a scan of the rows.
    pub fn scan(&self) -> ViewScan<'a, &'a MemoryViews, K, V> {
        ViewScan::new(self.rows, self.view)
    }
}

impl<K: ViewKey, V: 'static, T: ViewKey> ViewScan<'_, &MemoryViews, K, V, T> {
    /// Returns the rows of the scan.
    ///
    /// # Panics
    /// If the view does not declare the order of the scan, or a row cannot be decoded. [`try_read`](Self::try_read)
    /// returns an error instead.
    #[must_use]
    #[track_caller]
    pub fn read(self) -> Vec<(K, V)> {
        self.try_read().unwrap_or_else(|error| panic!("{}", ErrorChain(&error)))
    }

    /// Returns the rows of the scan.
    ///
    /// # Errors
    /// - [`ViewError::NoSuchOrder`] if the view does not declare the order.
    /// - [`ViewError::Key`], [`ViewError::Value`] or [`ViewError::Misplaced`] if a row was written with another
    ///   declaration of the view.
    pub fn try_read(self) -> Result<Vec<(K, V)>, ViewError> {
        let rows = self.source.scan(&self.row_scan(self.table()?));
        Ok(self.decode(rows)?.0)
    }
}
