//! The description of a store.

use std::path::{Path, PathBuf};
use std::time::Duration;

use es_core::model::LogId;
use es_core::store::StoreInfo;
use es_core::{Position, StoreError, Timestamp};
use uuid::Uuid;

use crate::executor::off_executor;

/// The identity of an open store.
pub(crate) struct Described {
    pub(crate) directory: PathBuf,
    pub(crate) store_id: Uuid,
    pub(crate) log_id: LogId,
    pub(crate) created: Timestamp,
    pub(crate) head: Option<Position>,
}

impl Described {
    /// Returns the description of a store whose last event has this recorded time, which is so much ahead of the clock.
    pub(crate) async fn with_files(
        self,
        last_recorded_at: Option<Timestamp>,
        ahead_of_clock: Option<Duration>,
    ) -> Result<StoreInfo, StoreError> {
        let Self { directory, store_id, log_id, created, head } = self;
        let files = off_executor(move || StoreFiles::of(directory)).await?;
        let files = files.map_err(|error| StoreError::io("read the directory of the store", error))?;
        Ok(StoreInfo {
            directory: Some(files.directory),
            store_id: Some(store_id),
            log_id,
            created: Some(created),
            head,
            last_recorded_at,
            ahead_of_clock_seconds: ahead_of_clock.map(|ahead| ahead.as_secs()),
            bytes_on_disk: Some(files.bytes),
            files: Some(files.number),
            mode: files.mode,
        })
    }
}

/// The files of a store.
struct StoreFiles {
    directory: PathBuf,
    bytes: u64,
    number: u64,
    /// The mode of the directory, in octal; `None` on systems without modes.
    mode: Option<String>,
}

impl StoreFiles {
    /// Counts the files of a directory and of the directories in it.
    fn of(directory: PathBuf) -> std::io::Result<Self> {
        let (mut bytes, mut number) = (0, 0);
        let mut directories = vec![directory.clone()];
        while let Some(next) = directories.pop() {
            for entry in std::fs::read_dir(&next)? {
                // The store may remove the file after it was listed.
                let entry = entry?;
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() {
                    directories.push(entry.path());
                } else if metadata.is_file() {
                    bytes += metadata.len();
                    number += 1;
                }
            }
        }
        let mode = mode(&directory)?;
        Ok(Self { directory, bytes, number, mode })
    }
}

#[cfg(unix)]
fn mode(directory: &Path) -> std::io::Result<Option<String>> {
    use std::os::unix::fs::PermissionsExt;
    Ok(Some(format!("{:03o}", std::fs::metadata(directory)?.permissions().mode() & 0o777)))
}

#[cfg(not(unix))]
fn mode(_: &Path) -> std::io::Result<Option<String>> {
    Ok(None)
}
