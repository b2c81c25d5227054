//! The command `info`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use es_core::{EventReader, LogRead, Timestamp};
use es_rocksdb::{HiddenEvents, ReadOnlyStore};
use es_tool::text::table;
use serde::Serialize;

use super::{DiskUsage, disk_usage};
use crate::answer::{print, print_note};
use crate::failure::Failure;
use crate::text::{ahead_note, format_bytes, format_duration, format_time, quoted};

#[derive(Serialize)]
struct Info {
    directory: PathBuf,
    store_id: String,
    log_id: String,
    created: Timestamp,
    head: Option<u64>,
    last_recorded_at: Option<Timestamp>,
    /// By how many seconds the last event is ahead of the clock, if by more than a minute.
    ahead_of_clock_seconds: Option<u64>,
    bytes_on_disk: u64,
    files: u64,
    /// The mode of the directory, in octal; `None` on systems without modes.
    mode: Option<String>,
}

pub(super) async fn run(directory: &Path, json: bool) -> Result<(), Failure> {
    let store = ReadOnlyStore::open(directory).await?;
    // A tombstone counts as well: it keeps its position and its time.
    let last = store.read_log_with_hidden(LogRead::all().backward().limit(1), HiddenEvents::WithContent).next().await?;
    let DiskUsage { bytes: bytes_on_disk, files } = disk_usage(store.directory())?;
    let info = Info {
        directory: store.directory().to_owned(),
        store_id: store.store_id().to_string(),
        log_id: store.log_id().to_string(),
        created: store.created(),
        head: last.as_ref().map(|last| last.position.get()),
        last_recorded_at: last.as_ref().map(|last| last.recorded_at),
        ahead_of_clock_seconds: store.ahead_of_clock().map(|ahead| ahead.as_secs()),
        bytes_on_disk,
        files,
        mode: mode(store.directory())?,
    };
    print(json, || to_text(&info), &info)?;
    if let Some(ahead) = store.ahead_of_clock().filter(|_| !json) {
        print_note(&ahead_note(ahead));
    }
    Ok(())
}

fn to_text(info: &Info) -> String {
    let mut rows = vec![
        ["directory".to_owned(), info.directory.display().to_string()],
        ["store id".to_owned(), info.store_id.clone()],
        ["log id".to_owned(), info.log_id.clone()],
        ["created".to_owned(), format_time(info.created)],
        ["last position".to_owned(), info.head.map_or("no events".into(), |head| head.to_string())],
        ["last recorded".to_owned(), info.last_recorded_at.map_or("never".into(), format_time)],
        ["on disk".to_owned(), format!("{} in {} files", format_bytes(info.bytes_on_disk), info.files)],
    ];
    rows.extend(info.mode.as_ref().map(|mode| ["access".to_owned(), access(mode, &info.directory)]));
    if let Some(seconds) = info.ahead_of_clock_seconds {
        rows.push(["ahead of the clock".to_owned(), format_duration(Duration::from_secs(seconds))]);
    }
    table(["property", "value"], 2, rows).to_string()
}

/// Formats the mode of the directory and its meaning.
fn access(mode: &str, directory: &Path) -> String {
    if mode.ends_with("00") {
        return format!("{mode}: only its user");
    }
    format!(
        "{mode}: other users can read the store; `chmod 700 {}` prevents that",
        quoted(&directory.display().to_string())
    )
}

#[cfg(unix)]
fn mode(directory: &Path) -> Result<Option<String>, Failure> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(directory).map_err(|source| Failure::io("inspect", directory, source))?;
    Ok(Some(format!("{:03o}", metadata.permissions().mode() & 0o777)))
}

#[cfg(not(unix))]
fn mode(_: &Path) -> Result<Option<String>, Failure> {
    Ok(None)
}
