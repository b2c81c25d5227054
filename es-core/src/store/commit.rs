//! [`Commit`]: the one write primitive. Events for one or more streams, the conditions under which they may be
//! written and the rows that must change with them happen wholly or not at all.

use bytes::Bytes;

use crate::model::{EventId, NewEvent, RecordedEvent, Timestamp};
use crate::model::{EventType, StreamId, Table};
use crate::model::{ExpectedRevision, Position, Revision};
use crate::retention;
use crate::store::Query;

/// The most events of one commit.
pub const MAX_COMMIT_EVENTS: usize = 100_000;
/// The largest payload of one event, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 16 * 1024 * 1024;
/// The most bytes of one commit: of payloads, and of keys and values of rows, also of those that are expected.
///
/// Metadata, tags, unique keys and names have limits of their own for each event. They do not count here, because a log may hold commits
/// that have more of them together, and each must be taken again by a copy.
pub const MAX_COMMIT_BYTES: usize = 64 * 1024 * 1024;
/// The most tags of one event.
pub const MAX_TAGS: usize = 256;
/// The most unique keys that one event claims and releases.
pub const MAX_KEYS: usize = 256;
/// The most bytes of the annotations of one event, written as JSON.
pub const MAX_METADATA_BYTES: usize = 64 * 1024;
/// How deep lists and objects may be nested in the annotations of an event.
pub const MAX_METADATA_DEPTH: usize = 32;
/// The most origins in the vector clock of one stamp.
pub const MAX_ORIGINS: usize = 4096;
/// The longest key of a row, in bytes.
pub const MAX_ROW_KEY_BYTES: usize = 2048;

/// What is to be written, and under which conditions.
///
/// ```
/// use es_core::{Commit, EventType, ExpectedRevision, NewEvent, Revision, StreamId};
/// let (from, to) = (StreamId::new("account-1")?, StreamId::new("account-2")?);
/// let event = |name| Ok::<_, es_core::model::NameError>(NewEvent::json(EventType::new(name)?, r#"{"amount":5}"#));
/// let transfer = Commit::new()
///     .expect(from.clone(), ExpectedRevision::Exact(Revision::new(3)))
///     .append(from, event("withdrawn")?)
///     .append(to, event("deposited")?);
/// # assert_eq!(transfer.events().len(), 2);
/// # Ok::<(), es_core::model::NameError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    pub(crate) expectations: Vec<(StreamId, ExpectedRevision)>,
    pub(crate) append_conditions: Vec<AppendCondition>,
    pub(crate) events: Vec<(StreamId, NewEvent)>,
    pub(crate) row_conditions: Vec<RowCondition>,
    pub(crate) rows: Vec<RowChange>,
    /// Whether [`Commit::append_removed`] made events of it.
    pub(crate) has_removed: bool,
    pub(crate) recorded_at: Option<Timestamp>,
    pub(crate) is_foreign: bool,
}

/// The append condition of a dynamic consistency boundary (DCB): nothing may match `query` after the position `after`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendCondition {
    /// The query that must match nothing.
    pub query: Query,
    /// The position up to which the writer has read the log; `None` requires that nothing in the whole log matches.
    pub after: Option<Position>,
}

/// A condition: the row is as the writer has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowCondition {
    /// The table.
    pub table: Table,
    /// The key of the row.
    pub key: Bytes,
    /// The value that it must have; `None` when there must be no row.
    pub value: Option<Bytes>,
}

/// What becomes of a row of a side table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// The table.
    pub table: Table,
    /// The key of the row, 1 to [`MAX_ROW_KEY_BYTES`] bytes.
    pub key: Bytes,
    /// Its new value; `None` removes the row.
    pub value: Option<Bytes>,
}

impl RowChange {
    /// How many bytes its key and its value have.
    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

impl Commit {
    /// A commit that changes nothing, to be filled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns an empty commit for copies of events that another node decided.
    ///
    /// It states facts: each of its events has a [`Stamp`](crate::model::Stamp), it has no expectations, append conditions or key changes, and a store checks none for it. A hard-deleted
    /// stream takes its events and keeps them hidden, so that replication does not stop and no number is reused. Events of a
    /// soft-deleted stream go on at the next revision and show nothing that the deletion hides. Events of reserved streams are
    /// refused.
    #[must_use]
    pub fn foreign() -> Self {
        Self { is_foreign: true, ..Self::default() }
    }

    /// Returns whether this is a [foreign](Self::foreign) commit.
    #[must_use]
    pub const fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// Sets the recorded time of the events, in place of the clock of the store: for imports, backups and replication. Recorded
    /// times never go back: the greater of this time and that of the last event in the log counts.
    #[must_use]
    pub const fn recorded_at(mut self, time: Timestamp) -> Self {
        self.recorded_at = Some(time);
        self
    }

    /// Returns the recorded time that was set.
    #[must_use]
    pub const fn recorded_time(&self) -> Option<Timestamp> {
        self.recorded_at
    }

    /// Events for one stream under one expectation.
    #[must_use]
    pub fn to(stream: &StreamId, expected: ExpectedRevision, events: impl IntoIterator<Item = NewEvent>) -> Self {
        events
            .into_iter()
            .fold(Self::new().expect(stream.clone(), expected), |commit, event| commit.append(stream.clone(), event))
    }

    /// Demands that a stream is as expected, whether or not this commit writes to it. Of a stream without a demand
    /// nothing is demanded. Several demands on one stream must all be met.
    #[must_use]
    pub fn expect(mut self, stream: StreamId, expected: ExpectedRevision) -> Self {
        self.expectations.push((stream, expected));
        self
    }

    /// Writes only if nothing matches `query` after the position `after`. Events of this commit do not count.
    #[must_use]
    pub fn append_if_none(mut self, query: impl Into<Query>, after: Option<Position>) -> Self {
        self.append_conditions.push(AppendCondition { query: query.into(), after });
        self
    }

    /// Adds an event. Events of several streams keep the order in which they were added.
    #[must_use]
    pub fn append(mut self, stream: StreamId, event: NewEvent) -> Self {
        self.events.push((stream, event));
        self
    }

    /// Adds what stands in the place of an event that was [removed](crate::retention), so that a log can be copied with its
    /// positions and revisions. No read returns it; its id is known. It is refused where the stream has an event before it that
    /// was not removed.
    #[must_use]
    pub fn append_removed(mut self, stream: StreamId, id: EventId) -> Self {
        let event = NewEvent::json(EventType::well_known(retention::REMOVED), Bytes::new()).with_id(id);
        self.events.push((stream, event));
        self.has_removed = true;
        self
    }

    /// Demands that a row has this value, or that there is none.
    #[must_use]
    pub fn expect_row(mut self, table: Table, key: impl Into<Bytes>, value: Option<Bytes>) -> Self {
        self.row_conditions.push(RowCondition { table, key: key.into(), value });
        self
    }

    /// Sets a row.
    #[must_use]
    pub fn put_row(mut self, table: Table, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.rows.push(RowChange { table, key: key.into(), value: Some(value.into()) });
        self
    }

    /// Removes a row; nothing happens where there is none.
    #[must_use]
    pub fn delete_row(mut self, table: Table, key: impl Into<Bytes>) -> Self {
        self.rows.push(RowChange { table, key: key.into(), value: None });
        self
    }

    /// The events with their streams, in order.
    #[must_use]
    pub fn events(&self) -> &[(StreamId, NewEvent)] {
        &self.events
    }

    /// The demands on streams.
    #[must_use]
    pub fn expectations(&self) -> &[(StreamId, ExpectedRevision)] {
        &self.expectations
    }

    /// Returns the append conditions.
    #[must_use]
    pub fn append_conditions(&self) -> &[AppendCondition] {
        &self.append_conditions
    }

    /// The demands on rows.
    #[must_use]
    pub fn row_conditions(&self) -> &[RowCondition] {
        &self.row_conditions
    }

    /// The changes of rows, in order: the last change of a row counts.
    #[must_use]
    pub fn rows(&self) -> &[RowChange] {
        &self.rows
    }

    /// Returns the number of bytes in the payloads, and in the keys and values of rows and row conditions: what
    /// [`MAX_COMMIT_BYTES`] limits.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let payloads: usize = self.events.iter().map(|(_, event)| event.data.payload.len()).sum();
        let value = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        let rows: usize = self.rows.iter().map(RowChange::bytes).sum();
        let expected: usize = self.row_conditions.iter().map(|row| row.key.len() + value(&row.value)).sum();
        payloads + rows + expected
    }
}

/// What a commit gave: its events as they stand in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The recorded events in the order of the commit; none where the commit had none.
    pub events: Vec<RecordedEvent>,
    /// Whether the commit had been written before, so that this time nothing was.
    pub repeated: bool,
}

impl Committed {
    /// The position of the last event; `None` where the commit had none.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.events.last().map(|event| event.position)
    }

    /// The revision of the last event of a stream in this commit; `None` where it had none of that stream.
    #[must_use]
    pub fn revision(&self, stream: &StreamId) -> Option<Revision> {
        self.events.iter().rev().find(|event| event.stream == *stream).map(|event| event.revision)
    }
}
