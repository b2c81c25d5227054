//! [`Ahead`]: what a read fetches while its consumer still has what came before.

use std::sync::Arc;

use es_core::StoreError;
use tokio::task::JoinSet;

use crate::database::Database;
use crate::shared::Shared;

/// At most one part of a read, on its way or there. It goes with its owner: what has not begun then never does.
pub(crate) struct Ahead<T>(JoinSet<Result<T, StoreError>>);

impl<T: Send + 'static> Ahead<T> {
    /// Nothing is on its way.
    pub(crate) fn none() -> Self {
        Self(JoinSet::new())
    }

    /// Begins to fetch the next part on a thread that may block. Without a tokio runtime there is none, and nothing begins.
    pub(crate) fn begin(
        &mut self,
        shared: &Arc<Shared>,
        fetch: impl FnOnce(&Database) -> Result<T, StoreError> + Send + 'static,
    ) {
        if tokio::runtime::Handle::try_current().is_ok() {
            let shared = Arc::clone(shared);
            self.0.spawn_blocking(move || shared.locked(fetch));
        }
    }

    /// What was begun, once it is there; `None` where nothing was. Who gives up waiting may ask again.
    pub(crate) async fn take(&mut self) -> Option<Result<T, StoreError>> {
        let fetched = self.0.join_next().await?;
        Some(fetched.unwrap_or_else(|error| Err(StoreError::io("run on a blocking thread", error))))
    }
}
