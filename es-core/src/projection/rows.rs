//! [`Rows`]: what one event after the other sees of the rows of a view, and what it changes.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use bytes::Bytes;

use crate::name::Table;
use crate::store::{InvalidCommit, MAX_ROW_KEY_BYTES, StoreError};

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

/// Where rows come from that are not known yet, for who can look at once.
pub trait RowSource {
    /// The value of a row; `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError`] when the machinery failed.
    fn row(&mut self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;
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
    /// What the events so far have changed.
    changed: BTreeMap<(Table, Bytes), Option<Bytes>>,
    /// What the event that is being applied has changed.
    of_event: BTreeMap<(Table, Bytes), Option<Bytes>>,
    /// What was asked for and is not known.
    missing: BTreeSet<(Table, Bytes)>,
    /// Whether the event that is being applied has asked for what is not known.
    is_short: bool,
    /// Views whose description is known to be that of their declaration.
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

    /// Whether a view is known to be described as it is declared.
    pub(crate) fn is_checked(&self, view: &(&'static str, TypeId)) -> bool {
        self.checked.contains(view)
    }

    /// A view is described as it is declared.
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
        self.changed.append(&mut self.of_event);
        self.is_short = false;
    }

    /// Forgets what the event has changed.
    pub(crate) fn discard(&mut self) {
        self.of_event.clear();
        self.is_short = false;
        // NOTE: a description that the event has written is gone with the rest.
        self.checked.clear();
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
        self.known.insert((table, key), value);
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
