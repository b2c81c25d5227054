//! The command `compact`.

use std::path::Path;

use es_core::retention::Note;
use serde::{Deserialize, Serialize};

use super::administer::administer;
use super::job;
use crate::answer::print;
use crate::failure::Failure;
use crate::progress::Bar;
use crate::service::Target;
use crate::text::format_bytes;

#[derive(Serialize, Deserialize)]
struct Compacted {
    bytes_before: u64,
    bytes_after: u64,
}

pub(super) async fn run(target: &Target, json: bool) -> Result<(), Failure> {
    let compacted = match target {
        Target::Directory(directory) => compact(directory).await?,
        Target::Service(service) => job::run(service, "/compact", &Note::default(), None, "compact").await?,
    };
    let Compacted { bytes_before, bytes_after } = compacted;
    print(json, || format!("{} before, {} after", format_bytes(bytes_before), format_bytes(bytes_after)), &compacted)
}

async fn compact(directory: &Path) -> Result<Compacted, Failure> {
    let _bar = Bar::new("compact");
    administer(directory, async |store, admin| {
        let bytes = async || store.info().await.map(|info| info.bytes_on_disk.unwrap_or_default());
        let bytes_before = bytes().await?;
        admin.compact().await?;
        Ok(Compacted { bytes_before, bytes_after: bytes().await? })
    })
    .await
}
