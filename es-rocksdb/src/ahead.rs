//! [`Prefetch`]: fetches the next part of a read while the consumer processes the part before.

use std::sync::Arc;

use es_core::StoreError;
use tokio::task::JoinSet;

use crate::database::Database;
use crate::shared::Shared;

/// At most one part of a read that is being fetched or was fetched. Dropping it cancels a fetch that has not started.
pub(crate) struct Prefetch<T>(JoinSet<Result<T, StoreError>>);

impl<T: Send + 'static> Prefetch<T> {
    /// Creates a prefetch without a part.
    pub(crate) fn empty() -> Self {
        Self(JoinSet::new())
    }

    /// Starts to fetch the next part on a blocking thread. Does nothing outside of a tokio runtime.
    pub(crate) fn start(
        &mut self,
        shared: &Arc<Shared>,
        fetch: impl FnOnce(&Database) -> Result<T, StoreError> + Send + 'static,
    ) {
        if tokio::runtime::Handle::try_current().is_ok() {
            let shared = Arc::clone(shared);
            self.0.spawn_blocking(move || shared.locked(fetch));
        }
    }

    /// Waits for the part and returns it; `None` if no fetch was started. Cancel safe: a later call returns the part.
    pub(crate) async fn take(&mut self) -> Option<Result<T, StoreError>> {
        let fetched = self.0.join_next().await?;
        Some(fetched.unwrap_or_else(|error| Err(StoreError::io("run on a blocking thread", error))))
    }
}
