//! Opens a store for an operation, and closes it afterwards.

use std::path::Path;
use std::sync::Arc;

use es_core::EventStore;
use es_core::retention::Scope;
use es_core::store::StoreAdmin;

use crate::failure::Failure;
use crate::store::{ReplicatedStreams, open_for_writing};

/// Like [`administer`], for a rule or a deletion. Refuses a scope that the node of the store replicates.
pub(super) async fn change_retention<T>(
    directory: &Path,
    scope: &Scope,
    operation: impl AsyncFnOnce(&dyn EventStore, StoreAdmin) -> Result<T, Failure>,
) -> Result<T, Failure> {
    administer(directory, async |store, admin| {
        ReplicatedStreams::read(store, directory).await?.check(scope)?;
        operation(store, admin).await
    })
    .await
}

/// Opens an existing store, runs an operation and closes the store. The error of the operation takes precedence over
/// that of the close.
pub(super) async fn administer<T>(
    directory: &Path,
    operation: impl AsyncFnOnce(&dyn EventStore, StoreAdmin) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let store = open_for_writing(directory, false).await?;
    let result = operation(&*store, StoreAdmin::new(Arc::clone(&store))).await;
    let closed = store.close().await;
    let done = result?;
    closed?;
    Ok(done)
}
