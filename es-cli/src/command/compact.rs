//! `compact`

use es_core::EventStore;
use std::path::Path;

use es_rocksdb::Options;
use serde::Serialize;

use super::on_disk;
use crate::answer::say;
use crate::failure::Failure;
use crate::progress::Bar;
use crate::text::bytes;

#[derive(Serialize)]
struct Compacted {
    bytes_before: u64,
    bytes_after: u64,
}

pub(super) async fn run(directory: &Path, json: bool) -> Result<(), Failure> {
    let store = Options::new().create_if_missing(false).open(directory).await?;
    let (bytes_before, _) = on_disk(directory)?;
    let bar = Bar::new("compact");
    let done = store.compact().await;
    drop(bar);
    let closed = store.close().await;
    done?;
    closed?;
    let (bytes_after, _) = on_disk(directory)?;
    let compacted = Compacted { bytes_before, bytes_after };
    say(json, || format!("{} before, {} after", bytes(bytes_before), bytes(bytes_after)), &compacted)
}
