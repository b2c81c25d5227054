//! The command `compact`.

use std::path::Path;
use std::sync::Arc;

use es_core::EventStore;
use es_core::store::StoreAdmin;
use es_rocksdb::Options;
use serde::Serialize;

use super::disk_usage;
use crate::answer::print;
use crate::failure::Failure;
use crate::progress::Bar;
use crate::text::format_bytes;

#[derive(Serialize)]
struct Compacted {
    bytes_before: u64,
    bytes_after: u64,
}

pub(super) async fn run(directory: &Path, json: bool) -> Result<(), Failure> {
    let store = Options::new().create_if_missing(false).open(directory).await?;
    let bytes_before = disk_usage(directory)?.bytes;
    let bar = Bar::new("compact");
    let result = StoreAdmin::new(Arc::new(store.clone())).compact().await;
    drop(bar);
    let closed = store.close().await;
    result?;
    closed?;
    let bytes_after = disk_usage(directory)?.bytes;
    let compacted = Compacted { bytes_before, bytes_after };
    print(json, || format!("{} before, {} after", format_bytes(bytes_before), format_bytes(bytes_after)), &compacted)
}
