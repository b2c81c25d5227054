//! Projections under a supervisor, for tests that start, watch and end them.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use es_core::__private::{StoredGeneration, StoredProjection};
use es_core::projection::{Projection, ProjectionHandle, ProjectionOptions, RunningProjections, Supervisor};
use es_core::{EventStore, StoreError};

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a projection.
///
/// # Panics
/// When it does not start.
pub fn start<P: Projection>(
    store: &Arc<dyn EventStore>,
    projection: P,
    options: ProjectionOptions,
) -> (RunningProjections, ProjectionHandle) {
    let starting = pin!(Supervisor::new().projection(projection, options).start(Arc::clone(store)));
    let Poll::Ready(running) = starting.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("a start does not wait");
    };
    let running = running.expect("started");
    let handle = running.projection(P::NAME).expect("it was given").clone();
    (running, handle)
}

/// Returns the generation of a projection that is read.
///
/// # Errors
/// [`StoreError`] if it cannot be read.
pub async fn active(store: &dyn EventStore, projection: &str) -> Result<Option<StoredGeneration>, StoreError> {
    Ok(StoredProjection::read(store, projection).await?.active)
}

/// Waits until something holds.
///
/// # Panics
/// When it does not within [`PATIENCE`].
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}
