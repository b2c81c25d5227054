//! [`CrashingStore`]: a durable store that crashes before or after a commit.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use es_core::store::Committed;
use es_core::store::implement::StoreLayer;
use es_core::{Commit, CommitError, EventStore};
use es_rocksdb::{OpenError, RocksDbStore};

use crate::failure::Failure;
use crate::local::crash::CrashPoint;

/// How often a directory is opened that the crashed run has not released yet.
const OPEN_ATTEMPTS: u32 = 500;
const OPEN_PAUSE: Duration = Duration::from_millis(10);

/// A store that crashes before or after a commit.
#[derive(Debug)]
pub(crate) struct CrashingStore {
    pub(crate) store: RocksDbStore,
    crash: Arc<CrashPoint>,
}

#[async_trait]
impl StoreLayer for CrashingStore {
    fn inner(&self) -> &dyn EventStore {
        &self.store
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        self.crash.pass("before the commit").await;
        let committed = self.store.commit(commit).await;
        self.crash.pass("after the commit").await;
        committed
    }
}

impl CrashingStore {
    pub(crate) async fn open(directory: &Path, crash: &Arc<CrashPoint>) -> Result<Arc<Self>, Failure> {
        Ok(Arc::new(Self { store: open(directory).await?, crash: Arc::clone(crash) }))
    }
}

/// Opens a store. Waits until the crashed run has released it.
pub(crate) async fn open(directory: &Path) -> Result<RocksDbStore, Failure> {
    for _ in 1..OPEN_ATTEMPTS {
        match RocksDbStore::open(directory).await {
            Err(OpenError::AlreadyOpen { .. }) => tokio::time::sleep(OPEN_PAUSE).await,
            opened => return Ok(opened?),
        }
    }
    Ok(RocksDbStore::open(directory).await?)
}
