//! The interface of every store: [`EventReader`] for reads, [`EventStore`] for writes, and [`Commit`], the unit of
//! writing.
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
//! [`memory::MemoryStore`] is the reference implementation; the [conformance suite](crate::testing::conformance) checks
//! every store against it. [`implement`] contains the traits and types for implementing a store, a layer or a hook.
//!
//! A store handles encoded events and rows. It knows nothing of aggregates, codecs, projections and consumers; hooks
//! extend its decision on a commit.

mod admin;
mod commit;
pub(crate) mod decide;
mod decider;
pub(crate) mod deletion_plan;
mod error;
mod head;
pub(crate) mod home;
pub mod implement;
mod key_changes;
mod keys;
mod layer;
pub(crate) mod locks;
pub mod memory;
mod metrics;
mod query;
mod read;
mod report;
pub(crate) mod retention;
mod store_clock;
pub(crate) mod stored_row;
mod tagged;
pub mod transaction;
mod valid;
mod view;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use admin::StoreAdmin;
pub use commit::{
    AppendCondition, Commit, Committed, MAX_COMMIT_BYTES, MAX_COMMIT_EVENTS, MAX_KEYS, MAX_METADATA_BYTES,
    MAX_METADATA_DEPTH, MAX_ORIGINS, MAX_PAYLOAD_BYTES, MAX_ROW_KEY_BYTES, MAX_TAGS,
};
pub use decider::StartHookError;
pub use error::{CommitError, Conflict, FailedCheck, IdConflict, InvalidCommit, StoreError};
pub use head::HeadWatch;
pub(crate) use head::{check_recorded_time, head_not_reached};
pub use home::{Home, NotOwner};
pub use query::{Direction, LogRead, Query, QueryItem, StreamRead};
pub use read::{Batch, EventStream};
pub use report::{
    Coverage, DeletedStream, DeletionEntry, HiddenStream, RetentionReport, RuleEntry, ScavengeEntry, StoreInfo,
    StreamFilter, StreamPage, StreamSummary,
};
pub use retention::delete_stream;
pub(crate) use stored_row::{StoredRow, decode_row, encode_row};
pub(crate) use tagged::CheckedTags;
pub use tagged::TagError;

use crate::model::{EventId, EventView, LogId, OriginId, RecordedEvent};
use crate::model::{Position, Revision};
use crate::model::{StreamId, Table, UniqueKey};
use crate::retention::{Retained, Scavenge, ScavengeReport};

/// A callback that receives the events of a visit. It breaks to end the visit after the current event.
pub type Visitor<'v> = dyn FnMut(EventView<'_>) -> ControlFlow<()> + Send + 'v;

/// Reads of an event log and of the rows stored with it.
///
/// A store that is opened read-only implements only this trait, so a function that only reads takes a
/// `&dyn EventReader`.
///
/// An implementation must
///
/// - make positions visible in order and without gaps: no read observes a gap that is filled later;
/// - return no event that [`Retention`](crate::retention::Retention), folded from its own log, hides;
/// - never panic because of a request or of the data on disk.
#[async_trait]
pub trait EventReader: fmt::Debug + Send + Sync + 'static {
    /// Reads the visible events of one stream. A stream that does not exist has no events.
    ///
    /// The read returns the stream as of the moment when it was opened, except for events that a
    /// [scavenge](EventStore::scavenge) removes before they are returned. If a scavenge has removed all of them, the
    /// read returns the events that are visible now, so a stream that always has visible events never reads as empty.
    ///
    /// # Errors
    /// [`StoreError`] if the store is closed, damaged, or fails to read. The returned stream may also return it.
    async fn read_stream(&self, read: StreamRead) -> Result<EventStream, StoreError>;

    /// Reads the visible events of the log. The read scans events that [retention](crate::retention) hides but does not
    /// return them: a limit counts only visible events, and [`EventStream::scanned`] includes hidden ones.
    ///
    /// # Errors
    /// [`StoreError`] if the store is closed, damaged, or fails to read. The returned stream may also return it.
    async fn read_log(&self, read: LogRead) -> Result<EventStream, StoreError>;

    /// Visits the events that [`read_stream`](Self::read_stream) returns, until the visitor breaks.
    ///
    /// # Errors
    /// [`StoreError`] if the store is closed, damaged, or fails to read.
    async fn visit_stream(&self, read: StreamRead, visitor: &mut Visitor<'_>) -> Result<(), StoreError> {
        read::visit(self.read_stream(read).await?, visitor).await.map(drop)
    }

    /// Visits the events that [`read_log`](Self::read_log) returns, until the visitor breaks. Returns the position of
    /// the last visited event if the visitor broke, otherwise the last position that was scanned for matches.
    ///
    /// A store may call the visitor for many events without yielding to other tasks. A slow visitor should break after
    /// some events; the caller then visits the log again after the returned position.
    ///
    /// # Errors
    /// [`StoreError`] if the store is closed, damaged, or fails to read.
    async fn visit_log(&self, read: LogRead, visitor: &mut Visitor<'_>) -> Result<Option<Position>, StoreError> {
        read::visit(self.read_log(read).await?, visitor).await
    }

    /// Returns the position of the last event that reads scan, even if [retention](crate::retention) hides the event.
    /// Returns `None` if the log is empty.
    ///
    /// # Errors
    /// [`StoreError`] if the store is closed, damaged, or fails to read.
    async fn head(&self) -> Result<Option<Position>, StoreError>;

    /// Returns the id of the log. A position that leaves the process should carry it; see
    /// [`LogPosition`](crate::model::LogPosition). It is chosen when the store is created, and changes when the store
    /// is restored from a backup, or repaired with a loss of events.
    fn log_id(&self) -> LogId;

    /// Returns a watch on the [`head`](Self::head). It wakes when commits become visible, once for all commits that
    /// become visible together. A read sees every event up to the head that the watch returns.
    fn watch_head(&self) -> HeadWatch;

    /// Returns the revision of the last event of a stream, even if [retention](crate::retention) hides the event.
    /// Returns `None` if the stream was never written.
    ///
    /// # Errors
    /// [`StoreError`] if the store is closed, damaged, or fails to read.
    async fn revision(&self, stream: &StreamId) -> Result<Option<Revision>, StoreError>;

    /// Returns the visible event with this id, if there is one.
    ///
    /// # Errors
    /// [`StoreError`] if the store is closed, damaged, or fails to read.
    async fn find(&self, id: EventId) -> Result<Option<RecordedEvent>, StoreError>;

    /// Returns the stream that holds a unique key: the stream that claimed the key, unless it has since released the
    /// key or been deleted.
    ///
    /// # Errors
    /// [`StoreError`] if the store is closed, damaged, or fails to read.
    async fn owner(&self, key: &UniqueKey) -> Result<Option<StreamId>, StoreError>;

    /// Returns the value of a row, if the row exists.
    ///
    /// # Errors
    /// [`StoreError`] if the store is closed, damaged, or fails to read.
    async fn row(&self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Returns rows of a table in the order of their keys.
    ///
    /// # Errors
    /// [`StoreError`] if the store is closed, damaged, or fails to read.
    async fn rows(&self, scan: RowScan) -> Result<Vec<Row>, StoreError>;

    /// Returns the range of a stream that [retention](crate::retention) leaves visible. The call is cheap for a stream
    /// without a rule and without a deletion.
    ///
    /// # Errors
    /// [`StoreError`] if the store is closed, damaged, or fails to read.
    async fn retained(&self, stream: &StreamId) -> Result<Retained, StoreError>;

    /// Returns up to `limit` streams whose names start with `prefix` and sort after `after`, in the byte order of their
    /// names, each with the revision of its last event. Streams without visible events are included.
    ///
    /// # Errors
    /// [`StoreError`] if the store is closed, damaged, or fails to read.
    async fn streams(
        &self,
        prefix: &str,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<(StreamId, Revision)>, StoreError>;

    /// Returns the identity, the age and the size of the store. A store on disk lists its directory.
    ///
    /// # Errors
    /// [`StoreError`] if the store is closed, damaged, or fails to read.
    async fn info(&self) -> Result<StoreInfo, StoreError>;
}

/// An event log with conditional, atomic, idempotent appends.
///
/// In addition to the contract of [`EventReader`], an implementation must
///
/// - have one append path, which calls [`Decider::decide`](implement::Decider::decide), writes the decision atomically,
///   and only then makes it visible and returns;
/// - return from a commit only after every later read sees it and, unless the store was opened without durability,
///   after it is on disk;
/// - number positions from 1 without gaps;
/// - never reuse a position, a revision or an event id, even after a crash, a deletion or a scavenge;
/// - after a failed write, reject writes until it is reopened, or until the same write has succeeded
///   ([`StoreError::Stalled`]): the in-memory state of a [hook](implement::DecisionHook) may be ahead of its rows.
///
/// If the future of a `commit` is dropped, the commit is either written completely or not at all.
#[async_trait]
pub trait EventStore: EventReader {
    /// Writes a commit atomically.
    ///
    /// A repeat of an earlier commit (the same events in the same streams, with the same ids, contents, metadata, times
    /// and causes) returns the result of the first one, whatever its expectations, even after a restart. Its changes of
    /// unique keys and rows are not applied a second time.
    ///
    /// # Errors
    /// - [`CommitError::Conflict`] if a condition does not hold (an expected revision, an append condition, a unique
    ///   key or a row condition), or if the commit writes to a hard-deleted stream.
    /// - [`CommitError::IdConflict`] if the log contains an event id of the commit, but not as part of the same commit.
    /// - [`CommitError::Invalid`] if the commit exceeds a limit.
    /// - [`CommitError::Rejected`] if a hook rejects the commit.
    /// - [`CommitError::Store`] if the infrastructure fails.
    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError>;

    /// Writes commits in order, and returns their results in the same order. Each commit is decided independently: a
    /// rejected one does not stop the others, and commits of other callers may come in between. A store may write
    /// several commits with one sync.
    ///
    /// If the future is dropped, a prefix of the commits may be written.
    async fn commit_all(&self, commits: Vec<Commit>) -> Vec<Result<Committed, CommitError>> {
        let mut results = Vec::with_capacity(commits.len());
        for commit in commits {
            results.push(self.commit(commit).await);
        }
        results
    }

    /// Returns `true` if a [hook](implement::DecisionHook) with this name takes part in the decisions of this store
    /// handle. An inline projection is a hook with the name of the projection: commits update its view, so no follower
    /// of the log may update it.
    fn runs_hook(&self, name: &str) -> bool;

    /// Returns `true` if the events of an origin originated on this node: if it is a present or former origin of the
    /// node. A store without a hook that [replicates](implement::Replication) returns `true`, because it has no other
    /// nodes.
    fn is_own_origin(&self, origin: OriginId) -> bool;

    /// Returns what the [hook](implement::DecisionHook::replication) of a replica knows of the replication of the
    /// store, or `None` if no hook replicates streams.
    fn replication(&self) -> Option<Arc<dyn implement::Replication>>;

    /// Permanently removes the events that [rules and deletions](crate::retention) hide. It writes a scavenge point,
    /// completes earlier points, and then completes the new one.
    ///
    /// Commits and reads continue during a scavenge. Only one scavenge runs at a time; a second one waits. If a
    /// scavenge is interrupted, the events removed so far stay removed, and the next scavenge removes the rest. A
    /// scavenge may continue after its future is dropped; [`Scavenge::progress`] stops it.
    ///
    /// # Errors
    /// [`CommitError`] if the point cannot be written or the infrastructure fails. Repeat the scavenge.
    async fn scavenge(&self, how: &Scavenge) -> Result<ScavengeReport, CommitError>;

    /// Rewrites the files of the store without deleted rows and the content of removed events. Afterwards no file of
    /// the store contains what was deleted before the call, unless a read was open at that time.
    ///
    /// Commits and reads continue, more slowly. The cost is that of reading and writing the whole store. A compaction
    /// ends after the current part if its future is dropped, and can be repeated.
    ///
    /// # Errors
    /// [`StoreError`] if the store is closed, damaged, or fails to write.
    async fn compact(&self) -> Result<(), StoreError>;

    /// Returns the number of this opening of the store, which no earlier opening of the store had, or `None` if the
    /// store may be open in several processes at once. The default is `None`.
    ///
    /// A store that returns a number excludes other processes until it is closed or its process ends. A background
    /// component of another opening can therefore not run any more, and its lease is taken at once.
    fn opening(&self) -> Option<u64> {
        None
    }

    /// Closes the store for all its handles. Waiting commits are written first, and all acknowledged commits are on
    /// disk when this returns. Later calls return [`StoreError::Closed`], and so do [head
    /// watches](EventReader::watch_head) that have seen all events. Closing a closed store has no effect.
    ///
    /// # Errors
    /// [`StoreError`] if the last sync fails. The store is closed even then.
    async fn close(&self) -> Result<(), StoreError>;
}

/// A row of a side table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
}

/// A scan of the rows of a table whose keys have a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowScan {
    /// The table.
    pub table: Table,
    /// The key prefix; empty for the whole table.
    pub prefix: Bytes,
    /// The key after which the scan continues in its direction, or `None` to start at the first key.
    pub after: Option<Bytes>,
    /// The direction of the scan.
    pub direction: Direction,
    /// The maximum number of rows to return.
    pub limit: usize,
}

impl RowScan {
    /// Returns a scan of the first `limit` rows whose keys begin with `prefix`.
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

    /// Scans in descending order of the keys.
    #[must_use]
    pub fn backward(mut self) -> Self {
        self.direction = Direction::Backward;
        self
    }
}
