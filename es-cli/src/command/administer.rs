//! Opens a store for an operation, and closes it afterwards.

use std::path::Path;
use std::sync::Arc;

use es_core::EventStore;
use es_core::store::StoreAdmin;
use es_rocksdb::{Options, RocksDbStore};

use crate::failure::Failure;

/// Opens an existing store, runs an operation and closes the store. The error of the operation takes precedence over
/// that of the close.
pub(super) async fn administer<T>(
    directory: &Path,
    operation: impl AsyncFnOnce(&RocksDbStore, StoreAdmin) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let store = Options::new().create_if_missing(false).open(directory).await?;
    let result = operation(&store, StoreAdmin::new(Arc::new(store.clone()))).await;
    let closed = store.close().await;
    let done = result?;
    closed?;
    Ok(done)
}
