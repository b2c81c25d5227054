//! [`Rows`]: what one event after the other sees of the rows of a view, and what it changes.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use bytes::Bytes;

use crate::model::Table;
use crate::store::{InvalidCommit, MAX_ROW_KEY_BYTES};

/// Why an event could not be applied.
///
/// Any error converts into it, so that `?` works in `apply`.
#[derive(Debug)]
pub struct ApplyError(Reason);

#[derive(Debug)]
enum Reason {
    /// A row is not known yet: not a failure, but a question.
    Missing,
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl ApplyError {
    /// The event cannot be applied, for this reason.
    pub fn new(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(Reason::Failed(reason.into()))
    }

    /// The reason, where it is not that a row was not known yet.
    pub(crate) fn into_reason(self) -> Option<Box<dyn std::error::Error + Send + Sync>> {
        match self.0 {
            Reason::Missing => None,
            Reason::Failed(error) => Some(error),
        }
    }
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reason::Missing => f.write_str("a row is not known yet; hand this error on"),
            Reason::Failed(error) => fmt::Display::fmt(error, f),
        }
    }
}

// NOTE: no `std::error::Error`, so that every error converts into this one.
impl<E: std::error::Error + Send + Sync + 'static> From<E> for ApplyError {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

/// The rows of a view while events are applied.
///
/// An event sees what the events before it have changed. A row that is not known yet ends `apply` with an [`ApplyError`] that
/// must be handed on (`?`); the row is then fetched and the event applied anew, which is why `apply` is a plain function and
/// waits for nothing (the idea is that of "There is no Fork: an Abstraction for Efficient, Concurrent, and Concise Data
/// Access", Marlow et al. 2014). Changes of an event count wholly or not at all.
#[derive(Debug, Default)]
pub struct Rows {
    /// What is in the store, as far as it was asked for.
    known: HashMap<(Table, Bytes), Option<Bytes>>,
    /// How many bytes of keys and values that is.
    known_bytes: usize,
    /// What the events so far have changed.
    changed: BTreeMap<(Table, Bytes), Option<Bytes>>,
    /// What the event that is being applied has changed.
    of_event: BTreeMap<(Table, Bytes), Option<Bytes>>,
    /// What was asked for and is not known.
    missing: BTreeSet<(Table, Bytes)>,
    /// Whether the event that is being applied has asked for what is not known.
    is_short: bool,
    /// Views whose description stands in the store and is that of their declaration.
    checked: HashSet<(&'static str, TypeId)>,
}

impl Rows {
    /// The value of a row, with all changes so far.
    ///
    /// # Errors
    /// [`ApplyError`] when the row must be fetched first: hand it on.
    pub fn get(&mut self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, ApplyError> {
        let row = (table.clone(), Bytes::copy_from_slice(key));
        if let Some(value) = self.of_event.get(&row).or_else(|| self.changed.get(&row)).or_else(|| self.known.get(&row))
        {
            return Ok(value.clone());
        }
        self.missing.insert(row);
        self.is_short = true;
        Err(ApplyError(Reason::Missing))
    }

    /// Sets a row.
    pub fn put(&mut self, table: &Table, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.of_event.insert((table.clone(), key.into()), Some(value.into()));
    }

    /// Removes a row; nothing happens where there is none.
    pub fn delete(&mut self, table: &Table, key: impl Into<Bytes>) {
        self.of_event.insert((table.clone(), key.into()), None);
    }

    /// Whether a row stands in the store as it is seen here, without a change that may yet be undone.
    pub(crate) fn is_stored(&self, table: &Table, key: &[u8]) -> bool {
        let row = (table.clone(), Bytes::copy_from_slice(key));
        self.known.contains_key(&row) && !self.of_event.contains_key(&row) && !self.changed.contains_key(&row)
    }

    /// Whether a view is known to be described as it is declared.
    pub(crate) fn is_checked(&self, view: &(&'static str, TypeId)) -> bool {
        self.checked.contains(view)
    }

    /// A view is described as it is declared, in the store. That stays so, whatever is undone.
    pub(crate) fn set_checked(&mut self, view: (&'static str, TypeId)) {
        self.checked.insert(view);
    }

    /// A key that the event has changed and that no row can have.
    pub(crate) fn bad_key(&self) -> Option<InvalidCommit> {
        let length = |(_, key): &(Table, Bytes)| key.len();
        let found = self.of_event.keys().map(length).find(|found| *found == 0 || *found > MAX_ROW_KEY_BYTES);
        found.map(|found| InvalidCommit::RowKeyLength { found })
    }

    /// Keeps what the event has changed.
    pub(crate) fn accept(&mut self) {
        // NOTE: not `append`, which builds the whole map anew, for each event.
        self.changed.extend(std::mem::take(&mut self.of_event));
        self.is_short = false;
    }

    /// Forgets what the event has changed.
    pub(crate) fn discard(&mut self) {
        self.of_event.clear();
        self.is_short = false;
    }

    /// Forgets all changes, so that the same events can be applied anew. What is known stays known.
    pub(crate) fn restart(&mut self) {
        self.changed.clear();
        self.missing.clear();
        self.discard();
    }

    /// Whether the event that is being applied has asked for what is not known.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short
    }

    /// What was asked for and is not known; it is not asked for again.
    pub(crate) fn take_missing(&mut self) -> BTreeSet<(Table, Bytes)> {
        std::mem::take(&mut self.missing)
    }

    /// Makes known what the store has. For those who fetch rows, not for `apply`.
    pub fn learn(&mut self, table: Table, key: Bytes, value: Option<Bytes>) {
        self.know((table, key), value);
    }

    fn know(&mut self, row: (Table, Bytes), value: Option<Bytes>) {
        let bytes = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        let (key, added) = (row.1.len(), bytes(&value));
        self.known_bytes += added;
        match self.known.insert(row, value) {
            Some(before) => self.known_bytes -= bytes(&before),
            None => self.known_bytes += key,
        }
    }

    /// The changes were written: from now on they are what is known. When that is more than so many rows or bytes, all of it is
    /// forgotten.
    ///
    /// For who alone writes these rows, and goes on with them: for anybody else what is known grows old.
    pub(crate) fn settle(&mut self, most_rows: usize, most_bytes: usize) {
        for (row, value) in std::mem::take(&mut self.changed) {
            self.know(row, value);
        }
        self.restart();
        if self.known.len() > most_rows || self.known_bytes > most_bytes {
            *self = Self::default();
        }
    }

    /// What is known of the store: what the changes depend on.
    pub fn read_set(&self) -> impl Iterator<Item = (&(Table, Bytes), &Option<Bytes>)> {
        self.known.iter()
    }

    /// All accepted changes, in the order of tables and keys; `None` for a row that is removed.
    pub fn changes(&self) -> impl Iterator<Item = (&(Table, Bytes), &Option<Bytes>)> {
        self.changed.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::new("rows").unwrap()
    }

    fn get(rows: &mut Rows, key: &str) -> Option<Bytes> {
        rows.get(&table(), key.as_bytes()).unwrap()
    }

    #[test]
    fn what_was_written_is_known_and_no_longer_a_change() {
        let mut rows = Rows::default();
        rows.learn(table(), "gone".into(), Some("before".into()));
        rows.put(&table(), "new", "value");
        rows.delete(&table(), "gone");
        rows.accept();
        rows.put(&table(), "undone", "value");
        rows.discard();
        rows.settle(10, 1000);
        assert_eq!(rows.changes().count(), 0);
        assert_eq!((get(&mut rows, "new"), get(&mut rows, "gone")), (Some("value".into()), None));
        assert!(rows.get(&table(), b"undone").is_err(), "it was not written");
        // "new", "gone", and five bytes of "value".
        assert_eq!(rows.known_bytes, 3 + 4 + 5);
    }

    #[test]
    fn what_is_known_is_bounded_in_rows_and_in_bytes() {
        for (value, most_rows, most_bytes) in [("v", 3, 1000), ("longer than that", 100, 20)] {
            let mut rows = Rows::default();
            for number in 0..100 {
                rows.put(&table(), number.to_string(), value);
                rows.accept();
                rows.settle(most_rows, most_bytes);
                assert!(rows.read_set().count() <= most_rows && rows.known_bytes <= most_bytes);
            }
        }
    }

    #[test]
    fn a_row_is_stored_only_as_long_as_it_has_no_change() {
        let mut rows = Rows::default();
        assert!(!rows.is_stored(&table(), b"a"));
        rows.learn(table(), "a".into(), Some("value".into()));
        assert!(rows.is_stored(&table(), b"a"));
        rows.put(&table(), "a", "other");
        assert!(!rows.is_stored(&table(), b"a"));
        rows.accept();
        assert!(!rows.is_stored(&table(), b"a"));
        rows.settle(10, 1000);
        assert!(rows.is_stored(&table(), b"a"));
    }
}
