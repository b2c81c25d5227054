//! [`Commit`]: the unit of writing. It contains events for one or more streams, the conditions under which they may be
//! written, and row changes. All of it is written atomically.

use bytes::Bytes;

use crate::model::{CommandDigest, CommandId, EventId, NewEvent, RecordedEvent, Timestamp};
use crate::model::{EventType, StreamId, Table};
use crate::model::{ExpectedRevision, Position, Revision};
use crate::retention;
use crate::store::Query;

/// The maximum number of events in one commit.
pub const MAX_COMMIT_EVENTS: usize = 100_000;
/// The maximum size of the payload of one event, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 16 * 1024 * 1024;
/// The maximum size of one commit, in bytes: its payloads, and the keys and values of its rows and row conditions.
///
/// Metadata, tags, unique keys and names have their own limits for each event. They do not count here: a log may
/// contain commits whose total exceeds this limit, and a copy must accept them.
pub const MAX_COMMIT_BYTES: usize = 64 * 1024 * 1024;
/// The maximum number of tags of one event.
pub const MAX_TAGS: usize = 256;
/// The maximum number of unique keys that one event claims and releases.
pub const MAX_KEYS: usize = 256;
/// The maximum size of the metadata of one event as JSON, in bytes.
pub const MAX_METADATA_BYTES: usize = 64 * 1024;
/// The maximum nesting depth of lists and objects in the metadata of an event.
pub const MAX_METADATA_DEPTH: usize = crate::model::MAX_METADATA_DEPTH;
/// The maximum number of origins in the vector clock of one stamp.
pub const MAX_ORIGINS: usize = 4096;
/// The maximum length of the key of a row, in bytes.
pub const MAX_ROW_KEY_BYTES: usize = 2048;

/// Events and row changes to write atomically, and the conditions under which to write them.
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
    /// Whether [`Commit::append_removed`] added events.
    pub(crate) has_removed: bool,
    pub(crate) recorded_at: Option<Timestamp>,
    pub(crate) is_foreign: bool,
    pub(crate) command: Option<(CommandId, CommandDigest)>,
}

/// The append condition of a dynamic consistency boundary (DCB): no event after the position `after` may match `query`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendCondition {
    /// The query that no event may match.
    pub query: Query,
    /// The position up to which the writer has read the log. `None` covers the whole log.
    pub after: Option<Position>,
}

/// A condition on a row: it must have the value that the writer has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowCondition {
    /// The table.
    pub table: Table,
    /// The key of the row.
    pub key: Bytes,
    /// The expected value, or `None` if the row must not exist.
    pub value: Option<Bytes>,
}

/// A change of a row of a side table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// The table.
    pub table: Table,
    /// The key of the row, 1 to [`MAX_ROW_KEY_BYTES`] bytes.
    pub key: Bytes,
    /// The new value, or `None` to delete the row.
    pub value: Option<Bytes>,
}

impl RowChange {
    /// Returns the size of the key and the value in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

impl Commit {
    /// Returns an empty commit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns an empty commit for copies of events that another node decided.
    ///
    /// Each of its events must have a [`Stamp`](crate::model::Stamp). It must not have expectations, append conditions
    /// or key changes. A store accepts its events even for deleted streams, so that replication does not stop and no
    /// position or revision is reused: events of a hard-deleted stream stay hidden, and events of a soft-deleted stream
    /// continue at the next revision. A store rejects events of reserved streams.
    #[must_use]
    pub fn foreign() -> Self {
        Self { is_foreign: true, ..Self::default() }
    }

    /// Returns `true` if this is a [foreign](Self::foreign) commit.
    #[must_use]
    pub const fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// Returns the id and the digest of the command that wrote the events, if it was executed with an id and alone.
    #[must_use]
    pub const fn command(&self) -> Option<&(CommandId, CommandDigest)> {
        self.command.as_ref()
    }

    /// Sets the recorded time of the events instead of the clock of the store, for imports, backups and replication.
    /// Recorded times never decrease: if the last event in the log has a later time, that time is used.
    #[must_use]
    pub const fn recorded_at(mut self, time: Timestamp) -> Self {
        self.recorded_at = Some(time);
        self
    }

    /// Returns the recorded time that was set, if any.
    #[must_use]
    pub const fn recorded_time(&self) -> Option<Timestamp> {
        self.recorded_at
    }

    /// Returns a commit of events for one stream with one expectation.
    #[must_use]
    pub fn to(stream: &StreamId, expected: ExpectedRevision, events: impl IntoIterator<Item = NewEvent>) -> Self {
        events
            .into_iter()
            .fold(Self::new().expect(stream.clone(), expected), |commit, event| commit.append(stream.clone(), event))
    }

    /// Adds an expectation on a stream, whether or not this commit writes to it. If a stream has several expectations,
    /// all must hold; if it has none, any revision is accepted.
    #[must_use]
    pub fn expect(mut self, stream: StreamId, expected: ExpectedRevision) -> Self {
        self.expectations.push((stream, expected));
        self
    }

    /// Adds an append condition: no event after the position `after` may match `query`. Events of this commit do not
    /// count.
    #[must_use]
    pub fn append_if_none(mut self, query: impl Into<Query>, after: Option<Position>) -> Self {
        self.append_conditions.push(AppendCondition { query: query.into(), after });
        self
    }

    /// Adds an event. Events keep the order in which they are added, across streams.
    #[must_use]
    pub fn append(mut self, stream: StreamId, event: NewEvent) -> Self {
        self.events.push((stream, event));
        self
    }

    /// Adds the tombstone of a [removed](crate::retention) event, so that a log can be copied with its positions and
    /// revisions. No read returns a tombstone, but its id counts as used. A store rejects the commit if an event before
    /// it in the stream was not removed.
    #[must_use]
    pub fn append_removed(mut self, stream: StreamId, id: EventId) -> Self {
        let event = NewEvent::json(EventType::well_known(retention::REMOVED), Bytes::new()).with_id(id);
        self.events.push((stream, event));
        self.has_removed = true;
        self
    }

    /// Adds a condition that a row has this value, or does not exist if `value` is `None`.
    #[must_use]
    pub fn expect_row(mut self, table: Table, key: impl Into<Bytes>, value: Option<Bytes>) -> Self {
        self.row_conditions.push(RowCondition { table, key: key.into(), value });
        self
    }

    /// Inserts or replaces a row.
    #[must_use]
    pub fn put_row(mut self, table: Table, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.rows.push(RowChange { table, key: key.into(), value: Some(value.into()) });
        self
    }

    /// Deletes a row. Has no effect if the row does not exist.
    #[must_use]
    pub fn delete_row(mut self, table: Table, key: impl Into<Bytes>) -> Self {
        self.rows.push(RowChange { table, key: key.into(), value: None });
        self
    }

    /// Returns the events with their streams, in order.
    #[must_use]
    pub fn events(&self) -> &[(StreamId, NewEvent)] {
        &self.events
    }

    /// Returns the expectations on streams.
    #[must_use]
    pub fn expectations(&self) -> &[(StreamId, ExpectedRevision)] {
        &self.expectations
    }

    /// Returns the append conditions.
    #[must_use]
    pub fn append_conditions(&self) -> &[AppendCondition] {
        &self.append_conditions
    }

    /// Returns the conditions on rows.
    #[must_use]
    pub fn row_conditions(&self) -> &[RowCondition] {
        &self.row_conditions
    }

    /// Returns the row changes, in order. The last change of a row wins.
    #[must_use]
    pub fn rows(&self) -> &[RowChange] {
        &self.rows
    }

    /// Returns the size of the payloads and of the keys and values of rows and row conditions, in bytes.
    /// [`MAX_COMMIT_BYTES`] limits it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let payloads: usize = self.events.iter().map(|(_, event)| event.data.payload.len()).sum();
        let value = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        let rows: usize = self.rows.iter().map(RowChange::bytes).sum();
        let expected: usize = self.row_conditions.iter().map(|row| row.key.len() + value(&row.value)).sum();
        payloads + rows + expected
    }
}

/// The result of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The recorded events, in the order of the commit.
    pub events: Vec<RecordedEvent>,
    /// Whether the commit had been written before, so that nothing was written this time.
    pub repeated: bool,
}

impl Committed {
    /// Returns the position of the last event, or `None` if the commit has no events.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.events.last().map(|event| event.position)
    }

    /// Returns the revision of the last event of a stream in this commit, or `None` if it has no event of the stream.
    #[must_use]
    pub fn revision(&self, stream: &StreamId) -> Option<Revision> {
        self.events.iter().rev().find(|event| event.stream == *stream).map(|event| event.revision)
    }
}
