//! [`Rows`]: the rows of a view that [`Projection::apply`](super::Projection::apply) reads and changes.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::{Position, RecordedEvent, StreamId, Table};
use crate::projection::kept::KeptResult;
use crate::projection::states::{AnyState, StateLoader, StateResult};
use crate::store::{InvalidCommit, MAX_ROW_KEY_BYTES};

/// An error of [`Projection::apply`](super::Projection::apply). Return it with `?`.
///
/// Either the event cannot be applied, or a row must be read from the store first. Every error type converts into it.
#[derive(Debug)]
pub struct ApplyError(Reason);

#[derive(Debug)]
enum Reason {
    /// A row must be read from the store; then the event is applied again.
    RowMissing,
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl ApplyError {
    /// Creates an error for an event that cannot be applied.
    pub fn new(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(Reason::Failed(reason.into()))
    }

    /// Returns the reason; `None` if a row must be read first.
    pub(crate) fn into_reason(self) -> Option<Box<dyn std::error::Error + Send + Sync>> {
        match self.0 {
            Reason::RowMissing => None,
            Reason::Failed(error) => Some(error),
        }
    }
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reason::RowMissing => {
                f.write_str("a row must be read from the store first; return this error from `apply`")
            }
            Reason::Failed(error) => fmt::Display::fmt(error, f),
        }
    }
}

// `ApplyError` does not implement `std::error::Error`: this conversion from every error type would overlap with
// `From<T> for T`.
impl<E: std::error::Error + Send + Sync + 'static> From<E> for ApplyError {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

/// What the events of a batch requested and is not loaded.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    /// Rows, by table and key.
    pub(crate) rows: BTreeSet<(Table, Bytes)>,
    /// States of aggregates.
    pub(crate) states: BTreeMap<StreamId, StateLoader>,
    /// Deletions of replicated streams, of which the kept events are requested.
    pub(crate) deletions: BTreeMap<Position, RecordedEvent>,
}

impl Missing {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.states.is_empty() && self.deletions.is_empty()
    }
}

/// The rows of a view while a batch of events is applied.
///
/// An event sees the changes of the events before it. The changes of one event are applied together or not at all.
///
/// [`get`](Self::get) fails with an [`ApplyError`] if the row has not been read from the store yet. Return the error
/// with `?`: the row is then read, and the event is applied again. `apply` can therefore be a synchronous function. The
/// technique is that of "There is no Fork: an Abstraction for Efficient, Concurrent, and Concise Data Access" (Marlow
/// et al. 2014).
#[derive(Debug, Default)]
pub struct Rows {
    /// Rows as they are in the store, as far as they were read.
    loaded: HashMap<(Table, Bytes), Option<Bytes>>,
    /// The size of `loaded`, in bytes of keys and values.
    loaded_bytes: usize,
    /// The changes of the events that were applied.
    changed: BTreeMap<(Table, Bytes), Option<Bytes>>,
    /// The changes of the event that is being applied.
    of_event: BTreeMap<(Table, Bytes), Option<Bytes>>,
    /// Rows and states that were requested and are not loaded.
    missing: Missing,
    /// The states of aggregates that the events of the batch requested.
    states: HashMap<StreamId, StateResult>,
    /// The events that deletions of replicated streams keep, by the position of the deletion.
    kept: HashMap<Position, KeptResult>,
    /// Whether the event that is being applied requested a row, a state or kept events that are not loaded.
    is_row_missing: bool,
    /// Views whose stored description equals that of their declaration.
    checked: HashSet<(&'static str, TypeId)>,
}

impl Rows {
    /// Returns the value of a row, with all changes so far.
    ///
    /// # Errors
    /// [`ApplyError`] if the row must be read from the store first. Return it with `?`.
    pub fn get(&mut self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, ApplyError> {
        let row = (table.clone(), Bytes::copy_from_slice(key));
        if let Some(value) =
            self.of_event.get(&row).or_else(|| self.changed.get(&row)).or_else(|| self.loaded.get(&row))
        {
            return Ok(value.clone());
        }
        self.missing.rows.insert(row);
        self.is_row_missing = true;
        Err(ApplyError(Reason::RowMissing))
    }

    /// Returns the current state of the aggregate with this stream, as of a moment after the events of the batch were
    /// recorded; `None` if the stream has no events.
    ///
    /// # Errors
    /// [`ApplyError`] if the state must be loaded first, or if its events cannot be folded.
    pub(crate) fn state(&mut self, stream: &StreamId, loader: StateLoader) -> Result<AnyState, ApplyError> {
        if let Some(state) = self.states.get(stream) {
            return state.clone().map_err(ApplyError::new);
        }
        self.missing.states.insert(stream.clone(), loader);
        self.is_row_missing = true;
        Err(ApplyError(Reason::RowMissing))
    }

    /// Returns the events that a deletion of a replicated stream keeps.
    ///
    /// # Errors
    /// [`ApplyError`] if they must be read first, or cannot be read.
    pub(crate) fn kept_by(&mut self, deletion: &RecordedEvent) -> Result<Arc<[RecordedEvent]>, ApplyError> {
        if let Some(kept) = self.kept.get(&deletion.position) {
            return kept.clone().map_err(ApplyError::new);
        }
        self.missing.deletions.insert(deletion.position, deletion.clone());
        self.is_row_missing = true;
        Err(ApplyError(Reason::RowMissing))
    }

    /// Returns whether the event that is being applied has changed a row.
    pub(crate) fn is_changed_by_event(&self) -> bool {
        !self.of_event.is_empty()
    }

    /// Sets a row.
    pub fn put(&mut self, table: &Table, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.of_event.insert((table.clone(), key.into()), Some(value.into()));
    }

    /// Removes a row. Has no effect if the row does not exist.
    pub fn delete(&mut self, table: &Table, key: impl Into<Bytes>) {
        self.of_event.insert((table.clone(), key.into()), None);
    }

    /// Returns whether a row is loaded and has no change that could be discarded.
    pub(crate) fn is_stored(&self, table: &Table, key: &[u8]) -> bool {
        let row = (table.clone(), Bytes::copy_from_slice(key));
        self.loaded.contains_key(&row) && !self.of_event.contains_key(&row) && !self.changed.contains_key(&row)
    }

    /// Returns whether the stored description of a view is known to equal that of its declaration.
    pub(crate) fn is_checked(&self, view: &(&'static str, TypeId)) -> bool {
        self.checked.contains(view)
    }

    /// Records that the stored description of a view equals that of its declaration. Discarded changes do not affect
    /// this.
    pub(crate) fn set_checked(&mut self, view: (&'static str, TypeId)) {
        self.checked.insert(view);
    }

    /// Returns the error for a changed row whose key is empty or too long, if there is one.
    pub(crate) fn invalid_key(&self) -> Option<InvalidCommit> {
        let length = |(_, key): &(Table, Bytes)| key.len();
        let found = self.of_event.keys().map(length).find(|found| *found == 0 || *found > MAX_ROW_KEY_BYTES);
        found.map(|found| InvalidCommit::RowKeyLength { found })
    }

    /// Accepts the changes of the event.
    pub(crate) fn accept(&mut self) {
        // `BTreeMap::append` would rebuild the whole map for each event.
        self.changed.extend(std::mem::take(&mut self.of_event));
        self.is_row_missing = false;
    }

    /// Discards the changes of the event.
    pub(crate) fn discard(&mut self) {
        self.of_event.clear();
        self.is_row_missing = false;
    }

    /// Discards all changes, so that the same events can be applied again. Keeps the loaded rows.
    pub(crate) fn restart(&mut self) {
        self.changed.clear();
        self.missing = Missing::default();
        self.discard();
    }

    /// Returns whether the event that is being applied requested a row or a state that is not loaded.
    pub(crate) fn is_row_missing(&self) -> bool {
        self.is_row_missing
    }

    /// Takes the rows and states that were requested and are not loaded.
    pub(crate) fn take_missing(&mut self) -> Missing {
        std::mem::take(&mut self.missing)
    }

    /// Adds a row as it is in the store; `None` if it does not exist. For code that runs a projection, not for `apply`.
    pub fn learn(&mut self, table: Table, key: Bytes, value: Option<Bytes>) {
        self.insert_loaded((table, key), value);
    }

    /// Adds the state of an aggregate, for this batch.
    pub(crate) fn learn_state(&mut self, stream: StreamId, state: StateResult) {
        self.states.insert(stream, state);
    }

    /// Adds the events that the deletion at a position keeps.
    pub(crate) fn learn_kept(&mut self, deletion: Position, kept: KeptResult) {
        self.kept.insert(deletion, kept);
    }

    fn insert_loaded(&mut self, row: (Table, Bytes), value: Option<Bytes>) {
        let bytes = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        let (key, added) = (row.1.len(), bytes(&value));
        self.loaded_bytes += added;
        match self.loaded.insert(row, value) {
            Some(old) => self.loaded_bytes -= bytes(&old),
            None => self.loaded_bytes += key,
        }
    }

    /// Makes the changes loaded rows after they were committed. If there are then more than `max_rows` rows or
    /// `max_bytes` bytes, removes all of them.
    ///
    /// Only the single writer of the rows may reuse them: for any other caller the loaded rows become stale.
    pub(crate) fn committed(&mut self, max_rows: usize, max_bytes: usize) {
        for (row, value) in std::mem::take(&mut self.changed) {
            self.insert_loaded(row, value);
        }
        // The next batch needs the states after its own events.
        self.states.clear();
        self.kept.clear();
        self.restart();
        if self.loaded.len() > max_rows || self.loaded_bytes > max_bytes {
            *self = Self::default();
        }
    }

    /// Returns the loaded rows, on which the changes depend.
    pub fn read_set(&self) -> impl Iterator<Item = (&(Table, Bytes), &Option<Bytes>)> {
        self.loaded.iter()
    }

    /// Returns all accepted changes, ordered by table and key; `None` for a removed row.
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
    fn committed_changes_become_loaded_rows() {
        let mut rows = Rows::default();
        rows.learn(table(), "deleted".into(), Some("before".into()));
        rows.put(&table(), "new", "value");
        rows.delete(&table(), "deleted");
        rows.accept();
        rows.put(&table(), "discarded", "value");
        rows.discard();
        rows.committed(10, 1000);
        assert_eq!(rows.changes().count(), 0);
        assert_eq!((get(&mut rows, "new"), get(&mut rows, "deleted")), (Some("value".into()), None));
        assert!(rows.get(&table(), b"discarded").is_err(), "a discarded row is not loaded");
        // "new", "deleted", and five bytes of "value".
        assert_eq!(rows.loaded_bytes, 3 + 7 + 5);
    }

    #[test]
    fn loaded_rows_are_bounded_in_number_and_bytes() {
        for (value, max_rows, max_bytes) in [("v", 3, 1000), ("longer than that", 100, 20)] {
            let mut rows = Rows::default();
            for number in 0..100 {
                rows.put(&table(), number.to_string(), value);
                rows.accept();
                rows.committed(max_rows, max_bytes);
                assert!(rows.read_set().count() <= max_rows && rows.loaded_bytes <= max_bytes);
            }
        }
    }

    #[test]
    fn a_row_is_stored_if_it_is_loaded_and_unchanged() {
        let mut rows = Rows::default();
        assert!(!rows.is_stored(&table(), b"a"));
        rows.learn(table(), "a".into(), Some("value".into()));
        assert!(rows.is_stored(&table(), b"a"));
        rows.put(&table(), "a", "other");
        assert!(!rows.is_stored(&table(), b"a"));
        rows.accept();
        assert!(!rows.is_stored(&table(), b"a"));
        rows.committed(10, 1000);
        assert!(rows.is_stored(&table(), b"a"));
    }
}
