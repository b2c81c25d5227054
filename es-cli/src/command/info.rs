//! `info`

use std::path::{Path, PathBuf};

use es_core::{EventReader, LogRead, Timestamp};
use es_rocksdb::{HiddenEvents, ReadOnlyStore};
use serde::Serialize;

use super::on_disk;
use crate::answer::say;
use crate::failure::Failure;
use crate::text::{bytes, shown, table};

#[derive(Serialize)]
struct Info {
    directory: PathBuf,
    store_id: String,
    created: Timestamp,
    head: Option<u64>,
    last_recorded_at: Option<Timestamp>,
    bytes_on_disk: u64,
    files: u64,
}

pub(super) async fn run(directory: &Path, json: bool) -> Result<(), Failure> {
    let store = ReadOnlyStore::open(directory).await?;
    // NOTE: also where it was removed: its place and its time stay.
    let last = store.read_log_with_hidden(LogRead::all().backward().limit(1), HiddenEvents::WithContent).next().await?;
    let (bytes_on_disk, files) = on_disk(store.directory())?;
    let info = Info {
        directory: store.directory().to_owned(),
        store_id: store.log_id().to_string(),
        created: store.created(),
        head: last.as_ref().map(|last| last.position.get()),
        last_recorded_at: last.as_ref().map(|last| last.recorded_at),
        bytes_on_disk,
        files,
    };
    say(json, || in_words(&info), &info)
}

fn in_words(info: &Info) -> String {
    let rows = [
        ["directory".to_owned(), info.directory.display().to_string()],
        ["store id".to_owned(), info.store_id.clone()],
        ["created".to_owned(), shown(info.created)],
        ["last position".to_owned(), info.head.map_or("no event yet".into(), |head| head.to_string())],
        ["last recorded".to_owned(), info.last_recorded_at.map_or("never".into(), shown)],
        ["on disk".to_owned(), format!("{} in {} files", bytes(info.bytes_on_disk), info.files)],
    ];
    table(["what", "value"], 2, rows).to_string()
}
