//! Blocking work of asynchronous operations.

use es_core::StoreError;

/// Runs blocking work on a blocking thread of the tokio runtime; on this thread if there is no runtime.
///
/// # Errors
/// [`StoreError::Io`] when the runtime is shut down, or when `work` panicked.
pub(crate) async fn off_executor<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => {
            runtime.spawn_blocking(work).await.map_err(|error| StoreError::io("run on a blocking thread", error))
        }
        Err(_) => Ok(work()),
    }
}

/// Returns whether blocking work can run on another thread: one of a tokio runtime.
pub(crate) fn has_blocking_threads() -> bool {
    tokio::runtime::Handle::try_current().is_ok()
}

/// Returns whether this thread may wait for the disk inside of [`block_in_place`](tokio::task::block_in_place) without
/// delaying other tasks: a worker of a multi-threaded runtime moves its other tasks to another thread. Without a
/// runtime, the calling thread is blocked, as by [`off_executor`].
///
/// On other threads of a runtime `block_in_place` may panic, because a current-thread runtime or a `LocalSet` has no
/// second thread for its tasks.
pub(crate) fn may_block_here() -> bool {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => {
            runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread
                && tokio::runtime::worker_index().is_some()
        }
        Err(_) => true,
    }
}
