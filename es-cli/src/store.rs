//! Opening of a store for writing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use es_core::{EventReader, EventStore};
use es_rocksdb::{OpenError, Options};

/// Opens a store.
///
/// # Errors
/// [`OpenError`].
pub async fn open_for_writing(directory: &Path, create_if_missing: bool) -> Result<Arc<dyn EventStore>, OpenError> {
    Ok(Arc::new(Options::new().create_if_missing(create_if_missing).open(directory).await?))
}

/// Returns by how much the last event is ahead of the clock, if that is more than a minute; `None` also if it cannot be
/// read.
pub async fn ahead_of_clock(store: &dyn EventReader) -> Option<Duration> {
    let info = store.info().await.ok()?;
    info.ahead_of_clock_seconds.map(Duration::from_secs)
}
