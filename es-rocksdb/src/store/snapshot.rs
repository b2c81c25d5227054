//! [`Snapshot`]: a snapshot of a store, which another process may write.
//!
//! ```text
//!   1 open the segments ──► 2 open the index, read-only ──► 3 find the end of the log ──► 4 replay from `applied`
//!     keeps them open         keeps its tables open           opens new segments            in memory
//! ```
//!
//! The log is read after the index, so that it has every change that the index has. A compaction of the log drops rows
//! that the index has: if it replaces a segment during these steps, the index of step 2 may lack the rows, and the
//! opening starts again.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use es_core::model::EventView;
use es_core::retention::Retention;
use es_core::store::implement::{BatchSource, ahead_of_clock};
use es_core::store::{Batch, EventStream, Visitor};
use es_core::{EventReader, LogRead, Position, RecordedEvent, Revision, StoreError, StreamId, Timestamp};
use es_log::{MARK_FILE, ReadableLog};
use rocksdb::DB;
use rocksdb::statistics::StatsLevel;

use crate::access;
use crate::engine::database::Database;
use crate::engine::layout::{INDEX, LOG};
use crate::error::OpenError;
use crate::executor::off_executor;
use crate::open::directory::{self, Identity};
use crate::open::replay::{ReplayAccess, restore};
use crate::open::{families, has_frames, identify, inspect, is_described, missing_family, of_log_opening};
use crate::options::{self, Options};
use crate::reader::shared::SharedStore;
use crate::reader::whole_log::WholeLogSource;
use crate::retention::{HiddenEvents, claims_of_hidden};
use crate::store::RocksDbStore;
use crate::store::pinned_disk::PinnedDisk;
use crate::verify::{self, Inputs};
use crate::verify::{Progress, Verification};

/// The number of descriptors that are left for the rest of the process.
const RESERVED_FILES: u64 = 64;

/// A snapshot of a store. See [`ReadOnlyStore`](crate::ReadOnlyStore).
#[derive(Clone)]
pub(crate) struct Snapshot {
    inner: Arc<ReaderInner>,
}

struct ReaderInner {
    /// A handle without a log for writes.
    store: RocksDbStore,
    identity: Identity,
    log: ReadableLog,
    disk: Arc<PinnedDisk>,
    last_recorded: Option<Timestamp>,
    /// The options with RocksDB's statistics, which count the corrupt blocks that RocksDB skips.
    counts: rocksdb::Options,
}

impl Snapshot {
    /// Opens a snapshot. Retries while another process replaces files.
    pub(crate) fn open(directory: &Path) -> Result<Self, OpenError> {
        let directory = directory::resolve(directory)?;
        if inspect(&directory)? {
            return Err(OpenError::NoSuchDirectory { directory });
        }
        for _ in 0..access::REPLACED_ATTEMPTS {
            let before = manifests(&directory);
            match open_once(&directory) {
                Ok(Some(reader)) => return Ok(reader),
                // The process writes to the manifest before it removes a table.
                Err(error) if manifests(&directory) == before => {
                    return Err(if is_unfinished(&directory) {
                        OpenError::NoSuchDirectory { directory }
                    } else {
                        error
                    });
                }
                _ => tracing::debug!(directory = %directory.display(), "files were replaced while they were opened"),
            }
            std::thread::sleep(access::REPLACED_PAUSE);
        }
        Err(OpenError::replaced_each_time(&directory, "open the store for reading"))
    }

    /// Returns the reader of the events, rows and unique keys.
    pub(crate) fn reader(&self) -> &dyn EventReader {
        &self.inner.store
    }

    pub(crate) fn directory(&self) -> &Path {
        self.inner.store.directory()
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    pub(crate) fn log(&self) -> &ReadableLog {
        &self.inner.log
    }

    pub(crate) fn shared(&self) -> &Arc<SharedStore> {
        &self.inner.store.inner
    }

    /// Returns whether no frame was written since the snapshot was opened, and the directory has the same log.
    pub(crate) fn is_current(&self) -> Result<bool, OpenError> {
        let ReaderInner { log, disk, .. } = &*self.inner;
        // The high-water mark is never replaced in a directory.
        let mark = self.directory().join(LOG).join(MARK_FILE);
        let is_current = disk.is_replaced(&mark).and_then(|is_replaced| Ok(!is_replaced && log.is_current()?));
        is_current.map_err(|error| OpenError::io(self.directory(), "read the end of the log", error))
    }

    /// Verifies the store. See [`ReadOnlyStore::verify`](crate::ReadOnlyStore::verify).
    pub(crate) fn verify(&self, progress: Progress<'_>) -> Result<Verification, StoreError> {
        let (disk, log_directory) = (Arc::clone(&self.inner.disk) as _, self.directory().join(LOG));
        self.shared()
            .with(|core| verify::verify(&Inputs { core, disk, log_directory, counts: &self.inner.counts }, progress))
    }

    pub(crate) fn ahead_of_clock(&self) -> Option<Duration> {
        ahead_of_clock(self.inner.last_recorded, self.shared().clock.now())
    }

    pub(crate) fn read_log_with_hidden(&self, read: LogRead, hidden: HiddenEvents) -> EventStream {
        let head = self.shared().handles.visible.head();
        let without_source = Batch { events: Vec::new(), scanned: read.scanned_to::<RecordedEvent>(head, &[]) };
        let source = head.and_then(|head| WholeLogSource::new(Arc::clone(self.shared()), read, hidden, head));
        source.map_or_else(|| EventStream::ready(without_source), EventStream::new)
    }

    pub(crate) async fn visit_log_with_hidden(
        &self,
        read: LogRead,
        hidden: HiddenEvents,
        visitor: &mut Visitor<'_>,
    ) -> Result<Option<Position>, StoreError> {
        let head = self.shared().handles.visible.head();
        let mut last_scanned = read.scanned_to::<RecordedEvent>(head, &[]);
        let source = head.and_then(|head| WholeLogSource::new(Arc::clone(self.shared()), read, hidden, head));
        let Some(mut source) = source else { return Ok(last_scanned) };
        while let Some(Batch { events, scanned }) = source.next_batch().await? {
            for event in &events {
                if visitor(EventView::from(event)).is_break() {
                    return Ok(Some(event.position));
                }
            }
            last_scanned = scanned;
        }
        Ok(last_scanned)
    }

    pub(crate) fn retention(&self) -> Retention {
        let retention = self.shared().with(|core| Ok(core.publisher.operators.all()));
        // The snapshot is open as long as this handle.
        retention.unwrap_or_default()
    }

    pub(crate) async fn claims_of_hidden_events(&self) -> Result<HashMap<(StreamId, Revision), u64>, StoreError> {
        let shared = Arc::clone(self.shared());
        off_executor(move || {
            let (now, head) = (shared.clock.now(), shared.handles.visible.head());
            shared.with(|core| {
                let (database, operators) = (&core.publisher.database, &core.publisher.operators);
                let Some(head) = head.filter(|_| operators.is_touched()) else { return Ok(HashMap::new()) };
                claims_of_hidden(database, &core.view(head), operators, now, head)
            })
        })
        .await?
    }
}

/// The segments of a log, which are kept open while the index is read.
pub(crate) struct PinnedLog {
    directory: PathBuf,
    disk: Arc<PinnedDisk>,
    before: Vec<PathBuf>,
}

impl PinnedLog {
    /// Opens the segments of the store in a directory.
    pub(crate) fn begin(directory: &Path) -> Result<Self, OpenError> {
        let disk = Arc::new(PinnedDisk::new(free_files(directory)));
        let log_directory = directory.join(LOG);
        match disk.pin_segments(&log_directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !log_directory.exists() => {
                return Err(OpenError::damaged(directory, "expected the directory of the log, found none"));
            }
            pinned => pinned.map_err(|error| OpenError::io(directory, "open the log", error))?,
        }
        let before = disk.segments();
        Ok(Self { directory: directory.to_owned(), disk, before })
    }

    /// Finds the end of the log, after the index was read; `None` if another process replaced a segment meanwhile.
    pub(crate) fn finish(&self) -> Result<Option<ReadableLog>, OpenError> {
        let Self { directory, disk, before } = self;
        let log = ReadableLog::open(directory.join(LOG), Arc::clone(disk) as _);
        let log = log.map_err(|error| of_log_opening(directory, error))?;
        let is_new = |segment: &PathBuf| !before.contains(segment);
        let has_new_sealed = disk.segments().iter().rev().skip(1).any(is_new);
        let is_unreplaced = disk.is_unreplaced().map_err(|error| OpenError::io(directory, "inspect the log", error))?;
        Ok((is_unreplaced && !has_new_sealed).then_some(log))
    }

    pub(crate) fn disk(&self) -> &Arc<PinnedDisk> {
        &self.disk
    }
}

/// Returns whether the creation of the store was interrupted: the log has no frame, and the index lacks a column family
/// or the description, which is written after the families and before the first frame.
fn is_unfinished(directory: &Path) -> bool {
    let index = directory.join(INDEX);
    if has_frames(directory) {
        return false;
    }
    if !index.join("CURRENT").exists() || matches!(missing_family(&index), Ok(Some(_))) {
        return true;
    }
    let Ok((database, _)) = open_index(directory, &Options::new()) else { return false };
    is_described(&database).is_ok_and(|is_described| !is_described)
}

/// Opens a snapshot; `None` if another process replaced a segment meanwhile.
fn open_once(directory: &Path) -> Result<Option<Snapshot>, OpenError> {
    let pinned = PinnedLog::begin(directory)?;
    let options = Options::new().create_if_missing(false);
    let (database, counts) = open_index(directory, &options)?;
    let Some(log) = pinned.finish()? else { return Ok(None) };
    let PinnedLog { disk, .. } = pinned;
    let identity = identify(&database, log.log_id())?;
    let restored = restore(database, &log, &options, ReplayAccess::Reading);
    if !disk.is_consistent().map_err(|error| OpenError::io(directory, "inspect the log", error))? {
        return Ok(None);
    }
    let (publisher, decider) = restored.map_err(|error| OpenError::of_store(directory, "read the log", error))?;
    let end = publisher.decisions().map(|decisions| decisions.end);
    let last_recorded = end.map_err(|error| OpenError::of_store(directory, "read the log", error))?.recorded_at;
    let directory = directory.to_owned();
    let store = RocksDbStore::of_snapshot(log.clone(), publisher, decider, identity.clone(), directory, &options);
    Ok(Some(Snapshot { inner: Arc::new(ReaderInner { store, identity, log, disk, last_recorded, counts }) }))
}

fn open_index(directory: &Path, options: &Options) -> Result<(Database, rocksdb::Options), OpenError> {
    let path = directory.join(INDEX);
    if !path.join("CURRENT").exists() {
        return Err(OpenError::damaged(directory, "expected the file CURRENT in the index, found none"));
    }
    let mut db_options = options::database(options);
    db_options.set_track_and_verify_wals_in_manifest(false);
    // All tables are opened now and stay open, so that they can be read after the writing process has removed them.
    db_options.set_max_open_files(access::open_files_for_reading(&path));
    // Counters only, which cost almost nothing. A verification reads one of them.
    db_options.enable_statistics();
    db_options.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
    let db = DB::open_cf_descriptors_read_only(&db_options, &path, families(options), false);
    let db = db.map_err(|error| OpenError::of_rocksdb(directory, "open the index for reading", error))?;
    Ok((Database::new(db, directory.to_owned()), db_options))
}

/// Returns the number of segments that can be kept open beside the tables of the index.
fn free_files(directory: &Path) -> usize {
    let Some(limit) = access::file_limit() else { return usize::MAX };
    let tables = fs::read_dir(directory.join(INDEX)).map_or(0, |entries| entries.count() as u64);
    usize::try_from(limit.saturating_sub(tables.saturating_add(RESERVED_FILES)) / 2).unwrap_or(usize::MAX)
}

/// Returns the names and the lengths of the manifests. Every change of the tables changes them.
pub(crate) fn manifests(directory: &Path) -> Vec<(std::ffi::OsString, u64)> {
    let Ok(entries) = fs::read_dir(directory.join(INDEX)) else { return Vec::new() };
    let is_manifest = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("MANIFEST");
    let length = |entry: fs::DirEntry| Some((entry.file_name(), entry.metadata().ok()?.len()));
    let mut manifests: Vec<_> = entries.flatten().filter(is_manifest).filter_map(length).collect();
    manifests.sort();
    manifests
}
