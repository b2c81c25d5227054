//! [`ReadOnlyStore`]: a read-only store, which other processes can write to at the same time.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use es_core::model::{LogId, Table, UniqueKey};
use es_core::retention::{Retained, Retention};
use es_core::store::{EventStream, HeadWatch, Row, RowScan, StoreInfo, Visitor};
use es_core::{
    EventId, EventReader, LogRead, Position, RecordedEvent, Revision, StoreError, StreamId, StreamRead, Timestamp,
};
use uuid::Uuid;

use crate::error::OpenError;
use crate::executor::off_executor;
use crate::retention::HiddenEvents;
use crate::store::snapshot::Snapshot;
use crate::verify::{Progress, Verification};

/// A read-only snapshot of a store. It takes no lock and writes nothing, so that it can be opened while a service has
/// the store open, and on a read-only file system.
///
/// It is a consistent snapshot of the log, the indexes, the rows and the unique keys, taken when it is opened. It
/// includes all data that the operating system had received by then: with
/// [`Durability::Sync`](crate::Durability::Sync), at least every commit that was acknowledged before. The snapshot
/// never changes; [`refresh`](Self::refresh) returns a newer one.
///
/// It implements [`EventReader`] and not [`EventStore`](es_core::EventStore). Opening reads the part of the log that is
/// not in index tables into memory: up to five [runs](crate::Options::index_run). An open snapshot keeps the disk space
/// of files that the service has replaced since, and one descriptor for each table file and each segment (about 64 MiB
/// each). If the process may not have as many files open (`ulimit -n`), the snapshot opens files when it needs them; a
/// read then fails if the service has replaced a table since.
#[derive(Clone)]
pub struct ReadOnlyStore {
    snapshot: Snapshot,
}

impl ReadOnlyStore {
    /// Opens a snapshot of the store in this directory.
    ///
    /// # Errors
    /// - [`OpenError::NoSuchDirectory`] if the directory has no store.
    /// - [`OpenError::NotAStore`] if the directory has other files.
    /// - [`OpenError::NewerFormat`] or [`OpenError::OlderFormat`] if the store has another format version.
    /// - [`OpenError::Damaged`] if acknowledged events are lost or a file is corrupt.
    /// - [`OpenError::Io`] if the operating system or RocksDB returns an error, or if the service replaced files during
    ///   each of 100 attempts.
    pub async fn open(directory: impl AsRef<Path> + Send) -> Result<Self, OpenError> {
        let directory = directory.as_ref().to_owned();
        let opened = off_executor({
            let directory = directory.clone();
            move || Self::open_blocking(&directory)
        });
        opened.await.unwrap_or_else(|error| Err(OpenError::io(&directory, "open the store for reading", error)))
    }

    /// Opens a snapshot on this thread.
    pub(crate) fn open_blocking(directory: &Path) -> Result<Self, OpenError> {
        Ok(Self { snapshot: Snapshot::open(directory)? })
    }

    /// Opens a newer snapshot, or returns `None` if nothing was written since this one was opened.
    ///
    /// It reads the high-water mark of the log, and opens the store again if that has changed.
    ///
    /// # Errors
    /// The errors of [`open`](Self::open).
    pub async fn refresh(&self) -> Result<Option<Self>, OpenError> {
        if self.snapshot.is_current()? { Ok(None) } else { Self::open(self.directory()).await.map(Some) }
    }

    /// Verifies the whole store: the checksum of each record, positions and revisions without gaps, and that the log,
    /// the streams, the heads, the ids, the unique keys and the indexes agree in both directions.
    ///
    /// It reads each file once or twice, with as many threads as there are processors, and blocks the calling thread.
    /// It uses about 50 bytes of memory for each row that the log has, and for each unique key that is claimed and
    /// later released; otherwise memory does not grow with the store.
    ///
    /// `progress` is called periodically; see [`Progress`].
    ///
    /// # Errors
    /// [`StoreError::Io`] if a read fails. Damage is no error: [`Verification::damage`] lists it.
    pub fn verify(&self, progress: Progress<'_>) -> Result<Verification, StoreError> {
        self.snapshot.verify(progress)
    }

    /// Returns the absolute path of the directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.snapshot.directory()
    }

    /// Returns the id of the store, which its backups and their restored copies share. The id of the log is another one
    /// after a restore; see [`log_id`](EventReader::log_id).
    #[must_use]
    pub fn store_id(&self) -> Uuid {
        self.snapshot.identity().id
    }

    /// Returns the time when the store was created.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        self.snapshot.identity().created
    }

    /// Returns by how much the last recorded time is ahead of the clock, if that is more than a minute; see
    /// [`RocksDbStore::ahead_of_clock`](crate::RocksDbStore::ahead_of_clock).
    #[must_use]
    pub fn ahead_of_clock(&self) -> Option<Duration> {
        self.snapshot.ahead_of_clock()
    }

    /// Reads the log including [hidden](es_core::retention) events, in the given form. No position is skipped.
    #[must_use]
    pub fn read_log_with_hidden(&self, read: LogRead, hidden: HiddenEvents) -> EventStream {
        self.snapshot.read_log_with_hidden(read, hidden)
    }

    /// Visits the events that [`read_log_with_hidden`](Self::read_log_with_hidden) returns, until the visitor breaks.
    /// Returns the last position that was scanned, as [`EventReader::visit_log`] does.
    ///
    /// # Errors
    /// [`StoreError::Io`] if a read fails, and [`StoreError::Damaged`] if a record is corrupt or missing.
    pub async fn visit_log_with_hidden(
        &self,
        read: LogRead,
        hidden: HiddenEvents,
        visitor: &mut Visitor<'_>,
    ) -> Result<Option<Position>, StoreError> {
        self.snapshot.visit_log_with_hidden(read, hidden, visitor).await
    }

    /// Returns the number of unique keys that each hidden or removed event holds. A copy of the log without the content
    /// of these events cannot claim the keys, because the store has only a keyed hash of each.
    ///
    /// Scans the index of unique keys. Memory grows with the result.
    ///
    /// # Errors
    /// [`StoreError::Io`] if a read fails, and [`StoreError::Damaged`] if an entry is corrupt.
    pub async fn claims_of_hidden_events(&self) -> Result<HashMap<(StreamId, Revision), u64>, StoreError> {
        self.snapshot.claims_of_hidden_events().await
    }

    /// Returns all retention rules and deletions.
    #[must_use]
    pub fn retention(&self) -> Retention {
        self.snapshot.retention()
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    fn reader(&self) -> &dyn EventReader {
        self.snapshot.reader()
    }
}

impl fmt::Debug for ReadOnlyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = self.watch_head().current();
        f.debug_struct("ReadOnlyStore")
            .field("directory", &self.directory())
            .field("head", &head)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl EventReader for ReadOnlyStore {
    async fn read_stream(&self, read: StreamRead) -> Result<EventStream, StoreError> {
        self.reader().read_stream(read).await
    }

    async fn visit_stream(&self, read: StreamRead, visitor: &mut Visitor<'_>) -> Result<(), StoreError> {
        self.reader().visit_stream(read, visitor).await
    }

    async fn visit_log(&self, read: LogRead, visitor: &mut Visitor<'_>) -> Result<Option<Position>, StoreError> {
        self.reader().visit_log(read, visitor).await
    }

    async fn read_log(&self, read: LogRead) -> Result<EventStream, StoreError> {
        self.reader().read_log(read).await
    }

    async fn head(&self) -> Result<Option<Position>, StoreError> {
        self.reader().head().await
    }

    fn log_id(&self) -> LogId {
        self.reader().log_id()
    }

    fn watch_head(&self) -> HeadWatch {
        self.reader().watch_head()
    }

    async fn revision(&self, stream: &StreamId) -> Result<Option<Revision>, StoreError> {
        self.reader().revision(stream).await
    }

    async fn find(&self, id: EventId) -> Result<Option<RecordedEvent>, StoreError> {
        self.reader().find(id).await
    }

    async fn owner(&self, key: &UniqueKey) -> Result<Option<StreamId>, StoreError> {
        self.reader().owner(key).await
    }

    async fn row(&self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.reader().row(table, key).await
    }

    async fn rows(&self, scan: RowScan) -> Result<Vec<Row>, StoreError> {
        self.reader().rows(scan).await
    }

    async fn retained(&self, stream: &StreamId) -> Result<Retained, StoreError> {
        self.reader().retained(stream).await
    }

    async fn streams(
        &self,
        prefix: &str,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<(StreamId, Revision)>, StoreError> {
        self.reader().streams(prefix, after, limit).await
    }

    async fn info(&self) -> Result<StoreInfo, StoreError> {
        self.reader().info().await
    }
}
