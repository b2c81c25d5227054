//! The contract of every store: reads in [`EventReader`], writes in [`EventStore`], and the one write primitive [`Commit`].
//!
//! ```text
//!            Commit                                 StreamRead / LogRead
//!   events + conditions + rows                  stream, category, type, tag, position
//!               |                                             |
//!               v                                             v
//!   hooks + decide(commit, view, now)  -- one writer -->  log  -->  EventStream (bounded batches)
//!               |
//!   Committed { events }   or   CommitError { Conflict | IdConflict | Invalid | Rejected | Store }
//! ```
//!
//! [`memory::MemoryStore`] reads as the specification; the [conformance suite](crate::testing::conformance) checks every
//! other store against it. [`implement`] has what the implementer of a store, a layer or a hook needs.
//!
//! Absent here: aggregates, codecs, projections, consumers. A store sees encoded events and rows; hooks extend its decision.

mod commit;
pub(crate) mod decide;
mod decider;
mod error;
mod head;
pub mod implement;
mod key_changes;
mod keys;
mod layer;
pub mod memory;
mod query;
mod read;
mod retention;
mod valid;
mod view;

use std::fmt;
use std::ops::ControlFlow;

use async_trait::async_trait;
use bytes::Bytes;

pub use commit::{
    AppendCondition, Commit, Committed, MAX_COMMIT_BYTES, MAX_COMMIT_EVENTS, MAX_KEYS, MAX_METADATA_BYTES,
    MAX_METADATA_DEPTH, MAX_ORIGINS, MAX_PAYLOAD_BYTES, MAX_ROW_KEY_BYTES, MAX_TAGS,
};
pub use decider::StartHookError;
pub use error::{CommitError, Conflict, FailedCheck, IdConflict, InvalidCommit, StoreError};
pub use head::HeadWatch;
pub use query::{Direction, LogRead, Query, QueryItem, StreamRead};
pub use read::{Batch, EventStream};
pub use retention::delete_stream;

use crate::model::{EventId, EventView, LogId, RecordedEvent};
use crate::model::{Position, Revision};
use crate::model::{StreamId, Table, UniqueKey};
use crate::retention::{Retained, Scavenge, ScavengeReport};

/// Receives the events of a visit. It breaks to end the visit after the event that it received.
pub type Visitor<'v> = dyn FnMut(EventView<'_>) -> ControlFlow<()> + Send + 'v;

/// Reads of a log of events and of the rows beside it.
///
/// A store that is opened for reading implements only this trait, and a function that only reads takes a `&dyn EventReader`.
/// A reader
///
/// - makes positions visible in order and without gaps: no read sees a gap that is filled later;
/// - returns nothing that [`Retention`](crate::retention::Retention), folded from its own log, hides;
/// - never panics on what it is asked or on what it finds on disk.
#[async_trait]
pub trait EventReader: fmt::Debug + Send + Sync + 'static {
    /// Reads the visible events of one stream. A stream that does not exist has none.
    ///
    /// Returns the stream as it was when the read was opened, less the events that are removed before they are returned. If a
    /// [scavenge](EventStore::scavenge) has removed all of them meanwhile, it returns the events that are visible now: a stream
    /// that always has visible events is never read as an empty one.
    ///
    /// # Errors
    /// [`StoreError`], here or from the stream.
    async fn read_stream(&self, read: StreamRead) -> Result<EventStream, StoreError>;

    /// Reads the visible events of the log. Events that [retention](crate::retention) hides are scanned and not returned: a
    /// limit counts visible events, and [`EventStream::scanned`] passes over hidden ones.
    ///
    /// # Errors
    /// [`StoreError`], here or from the stream.
    async fn read_log(&self, read: LogRead) -> Result<EventStream, StoreError>;

    /// Visits the events that [`read_stream`](Self::read_stream) returns, until the visitor breaks.
    ///
    /// # Errors
    /// [`StoreError`]: the visit cannot go on.
    async fn visit_stream(&self, read: StreamRead, visitor: &mut Visitor<'_>) -> Result<(), StoreError> {
        read::visit(self.read_stream(read).await?, visitor).await.map(drop)
    }

    /// Visits the events that [`read_log`](Self::read_log) returns, until the visitor breaks. Returns the last position that was
    /// scanned, as [`EventStream::scanned`] does; that of the last visited event if the visitor broke.
    ///
    /// A store may call the visitor for many events without yielding to other tasks; a visitor that takes long should break and
    /// go on with another visit. A [layer](implement::StoreLayer) visits what its own reads return.
    ///
    /// # Errors
    /// [`StoreError`]: the visit cannot go on.
    async fn visit_log(&self, read: LogRead, visitor: &mut Visitor<'_>) -> Result<Option<Position>, StoreError> {
        read::visit(self.read_log(read).await?, visitor).await
    }

    /// Returns the position of the last event that a read sees; `None` for an empty log.
    ///
    /// # Errors
    /// [`StoreError`] when the infrastructure failed.
    async fn head(&self) -> Result<Option<Position>, StoreError>;

    /// Returns the id of the log, which was chosen when the store was created. A copy of the store has the same.
    fn log_id(&self) -> LogId;

    /// Follows [`head`](Self::head): wakes when commits become visible, once for all that became visible together. A read sees
    /// every event up to the head that it returns.
    fn watch_head(&self) -> HeadWatch;

    /// Returns the revision of the last event of a stream, also where [retention](crate::retention) hides it; `None` where there
    /// never was one.
    ///
    /// # Errors
    /// [`StoreError`] when the infrastructure failed.
    async fn revision(&self, stream: &StreamId) -> Result<Option<Revision>, StoreError>;

    /// Returns the visible event with this id.
    ///
    /// # Errors
    /// [`StoreError`] when the infrastructure failed.
    async fn find(&self, id: EventId) -> Result<Option<RecordedEvent>, StoreError>;

    /// Returns the stream that holds a unique key: it has claimed the key, and has neither released it nor been deleted since.
    ///
    /// # Errors
    /// [`StoreError`] when the infrastructure failed.
    async fn owner(&self, key: &UniqueKey) -> Result<Option<StreamId>, StoreError>;

    /// Returns the value of a row.
    ///
    /// # Errors
    /// [`StoreError`] when the infrastructure failed.
    async fn row(&self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Returns rows of a table in the order of their keys.
    ///
    /// # Errors
    /// [`StoreError`] when the infrastructure failed.
    async fn rows(&self, scan: RowScan) -> Result<Vec<Row>, StoreError>;

    /// Returns which events of a stream [retention](crate::retention) has left. It is cheap for a stream without a rule and
    /// without a deletion.
    ///
    /// # Errors
    /// [`StoreError`] when the infrastructure failed.
    async fn retained(&self, stream: &StreamId) -> Result<Retained, StoreError>;
}

/// A log of events with conditional, atomic, idempotent appends.
///
/// To be correct, a store, beside the contract of its [reads](EventReader),
///
/// - has one append path, which calls [`Decider::decide`](implement::Decider::decide), writes what was decided wholly or not at
///   all, and only then makes it visible and answers;
/// - acknowledges only what is durable, unless its user opened it otherwise, and what any later read sees;
/// - numbers positions from 1 without gaps;
/// - never reuses a position, a revision or an event id, also after a crash, a deletion or a scavenge;
/// - refuses further writes after a failed one until it is reopened. What is on disk is unknown then, and what a
///   [hook](implement::DecisionHook) holds in memory may be ahead of its rows.
///
/// A `commit` whose future is dropped may or may not be written; it is whole either way.
#[async_trait]
pub trait EventStore: EventReader {
    /// Writes a commit wholly, or not at all.
    ///
    /// The same commit again (same event ids, streams, types, payloads, tags and unique keys) returns the result of the first
    /// time,
    /// for every expectation, also after a restart. It does not change unique keys and rows again.
    ///
    /// # Errors
    /// [`CommitError`]; each variant says what to do.
    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError>;

    /// Writes commits in their order, and returns the answer to each in the same order. Each is decided as if it came alone, and
    /// a refused one does not stop the others. Commits of other callers may come in between. A store may write several
    /// with one sync.
    ///
    /// If the future is dropped, some of the first commits may be written.
    async fn commit_all(&self, commits: Vec<Commit>) -> Vec<Result<Committed, CommitError>> {
        let mut answers = Vec::with_capacity(commits.len());
        for commit in commits {
            answers.push(self.commit(commit).await);
        }
        answers
    }

    /// Returns whether a [hook](implement::DecisionHook) with this name takes part in the decisions of this handle of the store.
    /// An inline projection is a hook with the name of the projection: its view changes in the commits of the events, and
    /// nothing else may follow the log for it.
    fn runs_hook(&self, name: &str) -> bool;

    /// Removes for good the events that [rules and deletions](crate::retention) hide: writes a scavenge point, completes earlier
    /// points, and then this one. Commits and reads continue. One scavenge runs at a time; a second one waits. After an
    /// interruption, what was removed stays removed, and the next scavenge does the rest. Dropping its future need not end it.
    ///
    /// # Errors
    /// [`CommitError`] when the point could not be written, or the infrastructure failed on the way: repeat the scavenge.
    async fn scavenge(&self, how: &Scavenge) -> Result<ScavengeReport, CommitError>;

    /// Closes the store for all its handles: commits that wait already are written, and everything acknowledged is on disk when
    /// this returns. Later calls return [`StoreError::Closed`], and so do followers of the [head](EventReader::watch_head) once
    /// they have seen all events. Closing again does nothing.
    ///
    /// # Errors
    /// [`StoreError`] when the last sync failed. The store is closed all the same.
    async fn close(&self) -> Result<(), StoreError>;
}

/// A row of a side table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
}

/// Which rows of a table: those whose key begins with a prefix, bounded by a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowScan {
    /// The table.
    pub table: Table,
    /// What the keys begin with; empty for the whole table.
    pub prefix: Bytes,
    /// The key after which to go on, in the direction of the scan; `None` begins at the first.
    pub after: Option<Bytes>,
    /// In the order of the keys, or against it.
    pub direction: Direction,
    /// How many rows to return at the most.
    pub limit: usize,
}

impl RowScan {
    /// The first `limit` rows whose keys begin with `prefix`.
    #[must_use]
    pub fn new(table: Table, prefix: impl Into<Bytes>, limit: usize) -> Self {
        Self { table, prefix: prefix.into(), after: None, direction: Direction::Forward, limit }
    }

    /// Continues after a key that an earlier scan returned.
    #[must_use]
    pub fn after(mut self, key: impl Into<Bytes>) -> Self {
        self.after = Some(key.into());
        self
    }

    /// Against the order of the keys.
    #[must_use]
    pub fn backward(mut self) -> Self {
        self.direction = Direction::Backward;
        self
    }
}
