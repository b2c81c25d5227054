//! Runs tests on every store, and the conformance suite on RocksDB.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use es_core::EventStore;
use es_core::model::Clock;
use es_core::store::implement::PrepareHook;
use es_core::store::memory::MemoryStore;
use es_core::testing::conformance::Harness;
use es_rocksdb::{Options, ReadOnlyStore, RocksDbStore};
use tempfile::TempDir;

/// Runs a test on the memory store and on RocksDB, on a runtime with two threads.
///
/// # Panics
/// If the test panics, or a store cannot be opened.
pub fn on_every_store(test: impl AsyncFn(Arc<dyn EventStore>)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    runtime.expect("a runtime").block_on(async {
        test(Arc::new(MemoryStore::new())).await;
        let dir = tempfile::tempdir().expect("a directory");
        let store = rocksdb(dir.path()).await;
        test(Arc::new(store.clone())).await;
        store.close().await.expect("closed");
    });
}

/// Opens a RocksDB store in a directory, with the [`small`] options.
///
/// # Panics
/// If the store cannot be opened.
pub async fn rocksdb(dir: &Path) -> RocksDbStore {
    small().open(dir).await.expect("the store opens")
}

/// Returns options with small caches and segments, for many stores in one test process.
#[must_use]
pub fn small() -> Options {
    Options::new().block_cache_bytes(8 << 20).write_buffer_bytes(4 << 20).log_segment_bytes(256 << 10)
}

/// Verifies a closed store.
///
/// # Panics
/// If it is not sound.
pub async fn verify(dir: &Path) {
    let store = ReadOnlyStore::open(dir).await.expect("opens");
    let found = store.verify(&mut |_, _, _| {}).expect("verified");
    assert!(found.is_sound(), "{:?}", found.damage);
}

/// Opens stores for the conformance suite, each in a temporary directory that is removed with the harness.
#[derive(Debug)]
pub struct DiskHarness {
    options: Options,
    open: Mutex<HashMap<usize, (RocksDbStore, TempDir)>>,
}

impl Default for DiskHarness {
    fn default() -> Self {
        Self::new(small())
    }
}

impl DiskHarness {
    /// Creates a harness of stores with these options.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options, open: Mutex::default() }
    }
}

impl DiskHarness {
    async fn open_in(&self, dir: TempDir, options: Options) -> Arc<dyn EventStore> {
        let store = options.open(dir.path()).await.expect("the store opens");
        let shared: Arc<dyn EventStore> = Arc::new(store.clone());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(key(&shared), (store, dir));
        shared
    }
}

/// Returns a key that identifies a shared store.
fn key(store: &Arc<dyn EventStore>) -> usize {
    Arc::as_ptr(store).cast::<()>().addr()
}

#[async_trait]
impl Harness for DiskHarness {
    async fn open_with(&self, hooks: Vec<Arc<dyn PrepareHook>>) -> Arc<dyn EventStore> {
        let options = hooks.into_iter().fold(self.options.clone(), Options::hook);
        self.open_in(tempfile::tempdir().expect("a directory"), options).await
    }

    async fn open_with_clock(&self, clock: Arc<dyn Clock>) -> Option<Arc<dyn EventStore>> {
        Some(self.open_in(tempfile::tempdir().expect("a directory"), self.options.clone().clock(clock)).await)
    }

    async fn reopen(&self, store: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>> {
        let opened = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(&store));
        let (handle, dir) = opened.expect("the harness opened it");
        drop(store);
        handle.close().await.expect("closed");
        Some(self.open_in(dir, self.options.clone()).await)
    }
}
