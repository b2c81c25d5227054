//! Sagas over RocksDB: the process ends at each point of each step, and the store is opened again.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use es_core::EventStore;
use es_tests::stores::rocksdb;
use tempfile::TempDir;

#[path = "../../es-saga/tests/shop/mod.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod shop;

/// The directory of the store in use.
#[derive(Default)]
struct Directory(Mutex<Option<TempDir>>);

impl Directory {
    /// Opens a store in a new directory, and removes the last one.
    async fn create(&self) -> Arc<dyn EventStore> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().to_owned();
        *self.0.lock().expect("no panic") = Some(dir);
        Arc::new(rocksdb(&path).await)
    }

    /// Closes a store and opens it again.
    async fn reopen(&self, store: Arc<dyn EventStore>) -> Arc<dyn EventStore> {
        store.close().await.expect("it is closed");
        drop(store);
        let path: PathBuf = self.0.lock().expect("no panic").as_ref().expect("a directory").path().to_owned();
        Arc::new(rocksdb(&path).await)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_point_leaves_one_effect_for_each_key_on_disk() {
    let directory = Directory::default();
    shop::crash::crash_at_each_point(async || directory.create().await, async |store| directory.reopen(store).await)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_sagas_with_failures_and_restarts_all_end_and_none_is_lost() {
    let directory = Directory::default();
    let store = directory.create().await;
    shop::crash::run_with_failures(store, async |store| directory.reopen(store).await, 100, 11).await;
}
