//! Opening of a store for writing, and the streams of a replica, which only its node writes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use es_core::retention::Scope;
use es_core::store::implement::is_membership_stream;
use es_core::{EventReader, EventStore, StoreError, StreamId};
use es_replication::ReplicationStatus;
use es_rocksdb::{OpenError, Options};

use crate::failure::Failure;

/// Opens a store.
///
/// # Errors
/// [`OpenError`].
pub async fn open_for_writing(directory: &Path, create_if_missing: bool) -> Result<Arc<dyn EventStore>, OpenError> {
    Ok(Arc::new(Options::new().create_if_missing(create_if_missing).open(directory).await?))
}

/// Returns by how much the last event is ahead of the clock, if that is more than a minute; `None` also if it cannot be
/// read.
pub async fn ahead_of_clock(store: &dyn EventReader) -> Option<Duration> {
    let info = store.info().await.ok()?;
    info.ahead_of_clock_seconds.map(Duration::from_secs)
}

/// The streams of a store that a node replicates.
///
/// Only the node writes them: it stamps each event, and it refuses rules and deletions, which would hide events on this
/// node only. An event without a stamp in one of these streams can prevent the next start of the node.
#[derive(Debug)]
pub struct ReplicatedStreams {
    directory: PathBuf,
    /// `None` if the store is no replica.
    status: Option<ReplicationStatus>,
}

impl ReplicatedStreams {
    /// Reads the replicated streams of the store in a directory.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails or the rows of the replica are damaged.
    pub async fn read(store: &dyn EventReader, directory: &Path) -> Result<Self, StoreError> {
        Ok(Self { directory: directory.to_owned(), status: ReplicationStatus::read(store).await? })
    }

    /// Returns the name of the node; `None` if the store is no replica.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        self.status.as_ref().map(|status| status.node.as_str())
    }

    /// Returns whether the streams of a scope are replicated.
    #[must_use]
    pub fn has(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Stream(stream) => self.has_stream(stream),
            Scope::Category(category) => self.has_category(category.as_str()),
        }
    }

    /// Returns whether a stream is replicated.
    #[must_use]
    pub fn has_stream(&self, stream: &StreamId) -> bool {
        self.has_category(stream.category_str()) || (self.status.is_some() && is_membership_stream(stream))
    }

    fn has_category(&self, name: &str) -> bool {
        self.status.iter().flat_map(|status| &status.categories).any(|category| category.as_str() == name)
    }

    /// Refuses an event, a rule or a deletion of replicated streams.
    ///
    /// # Errors
    /// [`Failure::Replicated`] if the streams of the scope are replicated.
    pub fn check(&self, scope: &Scope) -> Result<(), Failure> {
        let Some(node) = self.node().filter(|_| self.has(scope)) else { return Ok(()) };
        let (directory, node) = (self.directory.clone(), node.to_owned());
        Err(Failure::Replicated { directory, node, scope: scope.clone() })
    }
}
