//! The list of streams, and the description of a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use es_core::model::LogId;
use es_core::store::StoreInfo;
use es_core::{Position, Revision, StoreError, StreamId, Timestamp};
use uuid::Uuid;

use crate::database::{Database, Fault, Tier, bad_name, item};
use crate::schema::Cf;
use crate::shared::{Shared, off_executor};

/// The identity of an open store.
pub(crate) struct Described {
    pub(crate) directory: PathBuf,
    pub(crate) store_id: Uuid,
    pub(crate) log_id: LogId,
    pub(crate) created: Timestamp,
    pub(crate) head: Option<Position>,
}

impl Shared {
    /// Returns streams in the byte order of their names, each with the revision of its last event.
    pub(crate) async fn streams(
        self: &Arc<Self>,
        prefix: &str,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<(StreamId, Revision)>, StoreError> {
        let (prefix, after) = (prefix.as_bytes().to_vec(), after.cloned());
        let read = move |database: &Database, tier: Tier| match tier {
            Tier::Cached => Err(Fault::NotCached),
            Tier::Any => scan(database, &prefix, after.as_ref(), limit),
        };
        self.point(read).await
    }

    /// Describes the store.
    pub(crate) async fn describe(&self, described: Described) -> Result<StoreInfo, StoreError> {
        described.with_files(self.last_recorded(), self.ahead_of_clock()).await
    }
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

fn scan(
    database: &Database,
    prefix: &[u8],
    after: Option<&StreamId>,
    limit: usize,
) -> Result<Vec<(StreamId, Revision)>, Fault> {
    let mut heads = database.iterate(Cf::Heads, prefix.to_vec(), Tier::Any)?;
    let after_name = after.map_or(prefix, |after| after.as_str().as_bytes());
    heads.seek(after_name.max(prefix));
    let mut streams = Vec::new();
    while streams.len() < limit {
        let Some((name, _)) = item(&heads, Cf::Heads)? else { break };
        let stream = std::str::from_utf8(name).ok().and_then(|name| StreamId::new(name).ok());
        let stream = stream.ok_or_else(|| bad_name(Cf::Heads, name))?;
        if after != Some(&stream)
            && let Some(revision) = database.revision(&stream, Tier::Any)?
        {
            streams.push((stream, revision));
        }
        heads.next();
    }
    Ok(streams)
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
