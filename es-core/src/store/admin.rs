//! [`StoreAdmin`]: the operations of an operator on an open store.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::reserved::{RETENTION_CATEGORY, stream_prefix};
use crate::model::{Category, ExpectedRevision, Revision, StreamId};
use crate::retention::{DeleteKind, Note, Retention, Rule, Scavenge, ScavengeReport, Scope};
use crate::store::retention::{delete_snapshot_rows, delete_snapshots_before_begin, delete_stream, snapshots};
use crate::store::{
    Commit, CommitError, Committed, Coverage, EventStore, InvalidCommit, LogRead, Row, RowScan, StoreError,
};

/// The number of rows that are read at once and deleted in one commit.
const PAGE: usize = 1000;

/// The operations of an operator on an open store: retention, deletion, scavenge, compaction and snapshots.
///
/// A service does not stop for any of them: commits, reads, projections and subscriptions continue. The commands of
/// `es` use the same functions. [`ProjectionAdmin`](crate::projection::ProjectionAdmin) is the counterpart for a
/// projection.
///
/// ```
/// # use std::sync::Arc;
/// # use es_core::prelude::*;
/// # use es_core::{Commit, EventType, NewEvent, StreamId, store::memory::MemoryStore};
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// # let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
/// # let stream = StreamId::new("customer-7c9e")?;
/// # let event = NewEvent::json(EventType::new("registered")?, "{}");
/// # store.commit(Commit::to(&stream, ExpectedRevision::NoStream, [event])).await?;
/// use es_core::retention::{DeleteKind, Note, Scavenge};
/// use es_core::store::StoreAdmin;
///
/// let admin = StoreAdmin::new(store); // while the service uses the store
/// let note = Note { by: Some("ada".into()), reason: Some("ticket 4711".into()) };
/// admin.delete_stream(&stream, DeleteKind::Hard, ExpectedRevision::StreamExists, note).await?;
/// let report = admin.scavenge(&Scavenge::default()).await?;
/// assert_eq!((report.events, report.is_complete), (1, true));
/// admin.compact().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct StoreAdmin {
    store: Arc<dyn EventStore>,
}

impl fmt::Debug for StoreAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoreAdmin").field(&self.store).finish()
    }
}

impl StoreAdmin {
    /// Returns the operations on a store. A running service may use the store at the same time.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>) -> Self {
        Self { store }
    }

    /// Sets the rule of a stream or a category. It replaces the existing rule and hides events at once. If the rule of
    /// a category has a `truncate_before`, the head of each of its streams is read before.
    ///
    /// # Errors
    /// - [`CommitError::Conflict`] if `truncate_before` is ahead of the stream.
    /// - [`CommitError::Invalid`] if the rule is empty, its scope is a reserved stream or category, or
    ///   `truncate_before` is ahead of all streams of the category.
    /// - [`CommitError::Store`] if the infrastructure fails.
    pub async fn set_rule(&self, scope: Scope, rule: Rule, note: Note) -> Result<Committed, CommitError> {
        if let (Scope::Category(category), Some(found)) = (&scope, rule.truncate_before) {
            let end = Revision::following(Coverage::of(&*self.store, &scope).await?.last);
            if found > end {
                return Err(InvalidCommit::TruncationAhead { category: category.clone(), end, found }.into());
            }
        }
        self.store.commit(Commit::set_rule(scope, rule, note)).await
    }

    /// Clears the rule of a stream or a category. Has no effect on readers if there is no rule.
    ///
    /// # Errors
    /// [`CommitError::Store`] if the infrastructure fails.
    pub async fn clear_rule(&self, scope: Scope, note: Note) -> Result<Committed, CommitError> {
        self.store.commit(Commit::clear_rule(scope, note)).await
    }

    /// Returns the rules, deletions and scavenge points in force. Reads the events of all operator actions.
    ///
    /// # Errors
    /// [`StoreError`] if the store is closed, damaged, or fails to read.
    pub async fn retention(&self) -> Result<Retention, StoreError> {
        let mut actions = self.store.read_log(LogRead::category(Category::well_known(RETENTION_CATEGORY))).await?;
        let mut retention = Retention::default();
        while let Some(batch) = actions.next_batch().await? {
            for event in &batch {
                retention.apply(event)?;
            }
        }
        Ok(retention)
    }

    /// Deletes a stream, its snapshots and its claims of unique keys. See [`delete_stream`].
    ///
    /// # Errors
    /// The errors of [`delete_stream`].
    pub async fn delete_stream(
        &self,
        stream: &StreamId,
        kind: DeleteKind,
        expected: ExpectedRevision,
        note: Note,
    ) -> Result<Committed, CommitError> {
        delete_stream(&*self.store, stream, kind, expected, note).await
    }

    /// Removes the hidden events, and first the snapshots of deleted streams that an interrupted deletion has left. See
    /// [`EventStore::scavenge`].
    ///
    /// # Errors
    /// The errors of [`EventStore::scavenge`].
    pub async fn scavenge(&self, how: &Scavenge) -> Result<ScavengeReport, CommitError> {
        for (stream, _) in self.retention().await?.deletions() {
            delete_snapshots_before_begin(&*self.store, stream).await?;
        }
        self.store.scavenge(how).await
    }

    /// Rewrites the files of the store without deleted content. See [`EventStore::compact`].
    ///
    /// # Errors
    /// The errors of [`EventStore::compact`].
    pub async fn compact(&self) -> Result<(), StoreError> {
        self.store.compact().await
    }

    /// Deletes the snapshots of a stream or a category, or all snapshots for `None`, in commits of up to 1,000, and
    /// returns their number. Later loads fold the events and take new snapshots. If the future is dropped, the
    /// snapshots deleted so far stay deleted.
    ///
    /// # Errors
    /// [`CommitError::Store`] if the infrastructure fails. Repeat the call.
    pub async fn delete_snapshots(&self, scope: Option<&Scope>) -> Result<u64, CommitError> {
        let prefix = match scope {
            None => Bytes::new(),
            Some(Scope::Stream(stream)) => stream_prefix(stream),
            Some(Scope::Category(category)) => Bytes::copy_from_slice(category.as_str().as_bytes()),
        };
        let (mut deleted, mut after) = (0, None);
        loop {
            let scan = RowScan { after: after.take(), ..RowScan::new(snapshots(), prefix.clone(), PAGE) };
            let rows = self.store.rows(scan).await?;
            let Some(last) = rows.last() else { return Ok(deleted) };
            after = Some(last.key.clone());
            // The prefix of a category can match streams of other categories.
            let matching = rows.into_iter().filter(|row| match scope {
                Some(Scope::Category(category)) => stream_of(row).is_some_and(|of| *category == *of.category_str()),
                Some(Scope::Stream(_)) | None => true,
            });
            let keys: Vec<Bytes> = matching.map(|row| row.key).collect();
            deleted += keys.len() as u64;
            delete_snapshot_rows(&*self.store, keys).await?;
        }
    }
}

/// Returns the stream in the key of a snapshot.
fn stream_of(row: &Row) -> Option<StreamId> {
    let name = row.key.split(|byte| *byte == 0).next()?;
    StreamId::new(std::str::from_utf8(name).ok()?).ok()
}
