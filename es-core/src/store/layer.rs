//! [`StoreLayer`]: a store in front of another store.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::model::{EventId, LogId, OriginId, Position, RecordedEvent, Revision, StreamId, Table, UniqueKey};
use crate::retention::{Retained, Scavenge, ScavengeReport};
use crate::store::decider::Replication;
use crate::store::{
    Commit, CommitError, Committed, EventReader, EventStore, EventStream, HeadWatch, LogRead, Row, RowScan, StoreError,
    StoreInfo, StreamRead,
};

/// A store in front of another store. Every method forwards to the inner store by default; a layer overrides the
/// methods that it changes. Every layer implements [`EventReader`] and [`EventStore`]. Each method has the contract of
/// the method with the same name there.
///
/// ```
/// use std::sync::Arc;
/// use async_trait::async_trait;
/// use es_core::store::implement::StoreLayer;
/// use es_core::store::Committed;
/// use es_core::{Commit, CommitError, EventStore};
///
/// /// Logs each commit.
/// #[derive(Debug)]
/// struct Logged(Arc<dyn EventStore>);
///
/// #[async_trait]
/// impl StoreLayer for Logged {
///     fn inner(&self) -> &dyn EventStore {
///         &*self.0
///     }
///
///     async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
///         println!("{} events", commit.events().len());
///         self.0.commit(commit).await
///     }
/// }
///
/// let store: Arc<dyn EventStore> = Arc::new(Logged(Arc::new(es_core::store::memory::MemoryStore::new())));
/// # let _ = store;
/// ```
#[async_trait]
pub trait StoreLayer: fmt::Debug + Send + Sync + 'static {
    /// Returns the inner store.
    fn inner(&self) -> &dyn EventStore;

    /// Forwards to [`EventReader::read_stream`].
    async fn read_stream(&self, read: StreamRead) -> Result<EventStream, StoreError> {
        self.inner().read_stream(read).await
    }

    /// Forwards to [`EventReader::read_log`].
    async fn read_log(&self, read: LogRead) -> Result<EventStream, StoreError> {
        self.inner().read_log(read).await
    }

    /// Forwards to [`EventReader::head`].
    async fn head(&self) -> Result<Option<Position>, StoreError> {
        self.inner().head().await
    }

    /// Forwards to [`EventReader::revision`].
    async fn revision(&self, stream: &StreamId) -> Result<Option<Revision>, StoreError> {
        self.inner().revision(stream).await
    }

    /// Forwards to [`EventReader::find`].
    async fn find(&self, id: EventId) -> Result<Option<RecordedEvent>, StoreError> {
        self.inner().find(id).await
    }

    /// Forwards to [`EventReader::owner`].
    async fn owner(&self, key: &UniqueKey) -> Result<Option<StreamId>, StoreError> {
        self.inner().owner(key).await
    }

    /// Forwards to [`EventReader::row`].
    async fn row(&self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.inner().row(table, key).await
    }

    /// Forwards to [`EventReader::rows`].
    async fn rows(&self, scan: RowScan) -> Result<Vec<Row>, StoreError> {
        self.inner().rows(scan).await
    }

    /// Forwards to [`EventReader::retained`].
    async fn retained(&self, stream: &StreamId) -> Result<Retained, StoreError> {
        self.inner().retained(stream).await
    }

    /// Forwards to [`EventReader::streams`].
    async fn streams(
        &self,
        prefix: &str,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<(StreamId, Revision)>, StoreError> {
        self.inner().streams(prefix, after, limit).await
    }

    /// Forwards to [`EventReader::info`].
    async fn info(&self) -> Result<StoreInfo, StoreError> {
        self.inner().info().await
    }

    /// Forwards to [`EventStore::commit`].
    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        self.inner().commit(commit).await
    }

    /// Calls [`commit`](Self::commit) of this layer for each commit. A layer that does not change commits overrides
    /// this to forward to [`EventStore::commit_all`] of the inner store.
    async fn commit_all(&self, commits: Vec<Commit>) -> Vec<Result<Committed, CommitError>> {
        let mut results = Vec::with_capacity(commits.len());
        for commit in commits {
            results.push(StoreLayer::commit(self, commit).await);
        }
        results
    }

    /// Forwards to [`EventStore::scavenge`].
    async fn scavenge(&self, how: &Scavenge) -> Result<ScavengeReport, CommitError> {
        self.inner().scavenge(how).await
    }

    /// Forwards to [`EventStore::compact`].
    async fn compact(&self) -> Result<(), StoreError> {
        self.inner().compact().await
    }

    /// Forwards to [`EventStore::close`].
    async fn close(&self) -> Result<(), StoreError> {
        self.inner().close().await
    }

    /// Forwards to [`EventReader::log_id`].
    fn log_id(&self) -> LogId {
        self.inner().log_id()
    }

    /// Forwards to [`EventReader::watch_head`].
    fn watch_head(&self) -> HeadWatch {
        self.inner().watch_head()
    }

    /// Forwards to [`EventStore::opening`].
    fn opening(&self) -> Option<u64> {
        self.inner().opening()
    }

    /// Forwards to [`EventStore::runs_hook`].
    fn runs_hook(&self, name: &str) -> bool {
        self.inner().runs_hook(name)
    }

    /// Forwards to [`EventStore::is_own_origin`].
    fn is_own_origin(&self, origin: OriginId) -> bool {
        self.inner().is_own_origin(origin)
    }

    /// Forwards to [`EventStore::replication`].
    fn replication(&self) -> Option<Arc<dyn Replication>> {
        self.inner().replication()
    }
}

#[async_trait]
impl<L: StoreLayer> EventReader for L {
    fn log_id(&self) -> LogId {
        StoreLayer::log_id(self)
    }

    fn watch_head(&self) -> HeadWatch {
        StoreLayer::watch_head(self)
    }

    async fn read_stream(&self, read: StreamRead) -> Result<EventStream, StoreError> {
        StoreLayer::read_stream(self, read).await
    }

    async fn read_log(&self, read: LogRead) -> Result<EventStream, StoreError> {
        StoreLayer::read_log(self, read).await
    }

    async fn head(&self) -> Result<Option<Position>, StoreError> {
        StoreLayer::head(self).await
    }

    async fn revision(&self, stream: &StreamId) -> Result<Option<Revision>, StoreError> {
        StoreLayer::revision(self, stream).await
    }

    async fn find(&self, id: EventId) -> Result<Option<RecordedEvent>, StoreError> {
        StoreLayer::find(self, id).await
    }

    async fn owner(&self, key: &UniqueKey) -> Result<Option<StreamId>, StoreError> {
        StoreLayer::owner(self, key).await
    }

    async fn row(&self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        StoreLayer::row(self, table, key).await
    }

    async fn rows(&self, scan: RowScan) -> Result<Vec<Row>, StoreError> {
        StoreLayer::rows(self, scan).await
    }

    async fn retained(&self, stream: &StreamId) -> Result<Retained, StoreError> {
        StoreLayer::retained(self, stream).await
    }

    async fn streams(
        &self,
        prefix: &str,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<(StreamId, Revision)>, StoreError> {
        StoreLayer::streams(self, prefix, after, limit).await
    }

    async fn info(&self) -> Result<StoreInfo, StoreError> {
        StoreLayer::info(self).await
    }
}

#[async_trait]
impl<L: StoreLayer> EventStore for L {
    fn opening(&self) -> Option<u64> {
        StoreLayer::opening(self)
    }

    fn runs_hook(&self, name: &str) -> bool {
        StoreLayer::runs_hook(self, name)
    }

    fn is_own_origin(&self, origin: OriginId) -> bool {
        StoreLayer::is_own_origin(self, origin)
    }

    fn replication(&self) -> Option<Arc<dyn Replication>> {
        StoreLayer::replication(self)
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        StoreLayer::commit(self, commit).await
    }

    async fn commit_all(&self, commits: Vec<Commit>) -> Vec<Result<Committed, CommitError>> {
        StoreLayer::commit_all(self, commits).await
    }

    async fn scavenge(&self, how: &Scavenge) -> Result<ScavengeReport, CommitError> {
        StoreLayer::scavenge(self, how).await
    }

    async fn compact(&self) -> Result<(), StoreError> {
        StoreLayer::compact(self).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        StoreLayer::close(self).await
    }
}
