//! Opening of a store for writing, in the layout that its directory has. Reading and the files of a store need no such
//! choice: [`es_rocksdb::ReadOnlyStore`], `Backups` and `Salvage` detect the layout.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use es_core::{EventReader, EventStore};
use es_rocksdb::{OpenError, Options, SegmentedStore};

/// Opens a store. A store that is created has the default layout.
///
/// # Errors
/// [`OpenError`].
pub async fn open_for_writing(directory: &Path, create_if_missing: bool) -> Result<Arc<dyn EventStore>, OpenError> {
    let options = Options::new().create_if_missing(create_if_missing);
    Ok(match SegmentedStore::is_in(directory) {
        true => Arc::new(options.open_segmented(directory).await?),
        false => Arc::new(options.open(directory).await?),
    })
}

/// Returns by how much the last event is ahead of the clock, if that is more than a minute; `None` also if it cannot be
/// read.
pub async fn ahead_of_clock(store: &dyn EventReader) -> Option<Duration> {
    let info = store.info().await.ok()?;
    info.ahead_of_clock_seconds.map(Duration::from_secs)
}
