//! The contract of every store: [`EventStore`], its one write primitive [`Commit`], and its reads.
//!
//! ```text
//!            Commit                                 StreamRead / LogRead
//!   events + conditions + rows                  stream, category, type, tag, position
//!               |                                             |
//!               v                                             v
//!   decide(commit, view, now)  -- one writer -->  log  -->  EventStream (bounded batches)
//!               |
//!   Committed { events }   or   CommitError { Conflict | IdConflict | Invalid | Inline | Store }
//! ```
//!
//! [`memory::MemoryStore`] reads as the specification; the [conformance suite](crate::testing::conformance) holds every
//! other store to it.

mod commit;
pub mod decide;
mod error;
mod head;
pub mod memory;
mod query;
mod read;
mod retention;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

pub use commit::{
    Absence, Commit, Committed, KeyChange, MAX_COMMIT_BYTES, MAX_COMMIT_EVENTS, MAX_METADATA_BYTES, MAX_METADATA_DEPTH,
    MAX_PAYLOAD_BYTES, MAX_ROW_KEY_BYTES, MAX_TAGS, RowChange, RowCondition, ValidCommit,
};
pub use error::{CommitError, Conflict, FailedCheck, IdConflict, InvalidCommit, StoreError};
pub use head::{HeadSender, HeadWatch};
pub use query::{Direction, LogRead, Query, QueryItem, StreamRead};
pub use read::{Batch, BatchSource, EventStream};
pub use retention::delete_stream;

use crate::model::{EventId, RecordedEvent};
use crate::model::{Position, Revision};
use crate::model::{StreamId, Table, UniqueKey};
use crate::retention::{Retained, Scavenge, ScavengeReport};

/// A log of events with conditional, atomic, idempotent appends.
///
/// To be correct, a store
///
/// - has one append path, which calls [`decide::decide`] or, with [inline projections](inline),
///   [`InlineProjections::decide`](inline::InlineProjections::decide), writes what it decided wholly or not at all, and only then
///   answers and makes it visible;
/// - acknowledges only what is durable, unless its user opened it otherwise, and what any later read sees;
/// - gives positions from 1 without gaps and makes them visible in order: a reader never sees a gap become filled;
/// - never gives a position, a revision or an event id a second time, also after a crash, a deletion or a scavenge;
/// - returns nothing that [`Retention`](crate::retention::Retention), folded from its own log, hides;
/// - refuses further writes after a failed one until it is reopened, when it cannot know what is on disk;
/// - never panics on what it is asked or on what it finds on disk.
///
/// A `commit` whose future is dropped may or may not be written; it is whole either way.
#[async_trait]
pub trait EventStore: fmt::Debug + Send + Sync + 'static {
    /// Writes a commit wholly, or not at all.
    ///
    /// The same commit again (same event ids, streams, types, payloads and tags) returns what the first time returned,
    /// for every expectation, also after a restart. Its row and key changes are not made again.
    ///
    /// # Errors
    /// [`CommitError`]; each variant says what to do.
    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError>;

    /// Reads one stream: its visible events. A stream that does not exist has none.
    ///
    /// It returns the stream as it was when the read was opened, less what is removed before it is returned. Where that would be
    /// nothing, because a [scavenge](Self::scavenge) has removed all of it meanwhile, it returns what is visible by now: a stream
    /// that always has visible events is never read as an empty one.
    ///
    /// # Errors
    /// [`StoreError`], here or from the stream.
    async fn read_stream(&self, read: StreamRead) -> Result<EventStream, StoreError>;

    /// Reads the log: its visible events. What [retention](crate::retention) hides is looked at and not returned, so that a
    /// limit counts visible events, and [`EventStream::scanned`] passes over it.
    ///
    /// # Errors
    /// [`StoreError`], here or from the stream.
    async fn read_log(&self, read: LogRead) -> Result<EventStream, StoreError>;

    /// The position of the last event that a read sees; `None` for an empty log.
    ///
    /// # Errors
    /// [`StoreError`] when the machinery failed.
    async fn head(&self) -> Result<Option<Position>, StoreError>;

    /// Follows [`head`](Self::head): wakes whenever commits become visible, once for all that became visible together. What
    /// it names, a read sees.
    fn watch_head(&self) -> HeadWatch;

    /// Whether this projection runs inline in this handle of the store: then its view changes in the commits of the events, and
    /// nothing else may follow the log for it.
    fn runs_inline(&self, projection: &str) -> bool;

    /// The revision of the last event of a stream, also where [retention](crate::retention) hides it; `None` where there never
    /// was one.
    ///
    /// # Errors
    /// [`StoreError`] when the machinery failed.
    async fn revision(&self, stream: &StreamId) -> Result<Option<Revision>, StoreError>;

    /// The visible event with this id.
    ///
    /// # Errors
    /// [`StoreError`] when the machinery failed.
    async fn find(&self, id: EventId) -> Result<Option<RecordedEvent>, StoreError>;

    /// The stream that holds a unique key.
    ///
    /// # Errors
    /// [`StoreError`] when the machinery failed.
    async fn owner(&self, key: &UniqueKey) -> Result<Option<StreamId>, StoreError>;

    /// The value of a row.
    ///
    /// # Errors
    /// [`StoreError`] when the machinery failed.
    async fn row(&self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Rows of a table in the order of their keys.
    ///
    /// # Errors
    /// [`StoreError`] when the machinery failed.
    async fn rows(&self, scan: RowScan) -> Result<Vec<Row>, StoreError>;

    /// What [retention](crate::retention) has left of a stream. Costs next to nothing where no rule and no deletion is for it.
    ///
    /// # Errors
    /// [`StoreError`] when the machinery failed.
    async fn retained(&self, stream: &StreamId) -> Result<Retained, StoreError>;

    /// Removes for good what [rules and deletions](crate::retention) hide: writes a scavenge point, and does what it says, after
    /// what earlier points say that was not done yet. Commits and reads go on. There is one scavenge at a time: a second one waits.
    /// If it is interrupted, what was removed is removed, and the next one does the rest. Dropping its future need not end it.
    ///
    /// # Errors
    /// [`CommitError`] when the point could not be written, or the machinery failed on the way: do it again.
    async fn scavenge(&self, how: &Scavenge) -> Result<ScavengeReport, CommitError>;
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
    /// The key behind which to go on, in the direction of the scan; `None` begins at the first.
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

    /// Goes on behind a key that an earlier scan returned.
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
