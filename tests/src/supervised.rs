//! Helpers for tests of projections under a supervisor.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use es_core::__private::{StoredGeneration, StoredProjection};
use es_core::aggregate::OrderOf;
use es_core::projection::{
    AcceptsOrder, Projection, ProjectionHandle, ProjectionOptions, RunningProjections, Supervisor,
};
use es_core::{EventStore, StoreError};

/// The maximum time that a test waits for a condition.
pub const TIMEOUT: Duration = Duration::from_secs(300);

/// Starts a projection. Returns the running projections and the handle of this one.
///
/// # Panics
/// If the projection cannot be started, or the start is not immediate.
pub fn start<P>(
    store: &Arc<dyn EventStore>,
    projection: P,
    options: ProjectionOptions,
) -> (RunningProjections, ProjectionHandle)
where
    P: Projection + AcceptsOrder<OrderOf<P::Source>>,
{
    let starting = pin!(Supervisor::new().projection(projection, options).start(Arc::clone(store)));
    let Poll::Ready(running) = starting.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("the start of a supervisor must not wait");
    };
    let running = running.expect("the projection starts");
    let handle = running.projection(P::NAME).expect("the supervisor has the projection").clone();
    (running, handle)
}

/// Returns the active generation of a projection: the one that readers see.
///
/// # Errors
/// [`StoreError`] if the store cannot be read.
pub async fn active(store: &dyn EventStore, projection: &str) -> Result<Option<StoredGeneration>, StoreError> {
    Ok(StoredProjection::read(store, projection).await?.active)
}

/// Waits until a condition holds. `description` is the condition in the message of the panic.
///
/// # Panics
/// If the condition does not hold within [`TIMEOUT`].
pub async fn wait_until(description: &str, mut holds: impl AsyncFnMut() -> bool) {
    let poll = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, poll).await.unwrap_or_else(|_| panic!("timed out waiting until {description}"));
}
