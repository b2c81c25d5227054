//! The files of a backup.
//!
//! ```text
//!   1 open the segments ──► 2 link the tables, copy the manifest ──► 3 find the end of the log ──► 4 link the segments
//! ```
//!
//! The log is read after the index, so that it has every change that the index has. If another process changes the
//! manifest during step 2, or replaces a segment, the copy starts again.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use es_core::StoreError;
use es_core::model::LogId;
use es_log::{Body, ReadableLog, SegmentFile, SystemDisk};

use super::BackupError;
use super::files::{self, io_error};
use crate::access;
use crate::engine::layout::{FrameEnd, INDEX, LOG};
use crate::error::OpenError;
use crate::index::of_log;
use crate::open::of_log_opening;
use crate::store::read_only::ReadOnlyStore;
use crate::store::snapshot::{PinnedLog, manifests};
use crate::verify::Progress;

/// The number of bytes that are compared at a time.
const CHUNK: usize = 256 * 1024;

/// What [`copy`] found.
#[derive(Debug, Default)]
pub(super) struct CopyOutcome {
    /// Whether the last backup has another content in a file that should not have changed.
    pub(super) differs_from_last: bool,
}

/// Copies the files of a store, which may be open, to an empty directory. Files that the last backup has as well are
/// links to its files.
pub(super) fn copy(
    store: &Path,
    to: &Path,
    last: Option<&Path>,
    progress: Progress<'_>,
) -> Result<CopyOutcome, BackupError> {
    for part in [LOG, INDEX] {
        access::create_directory(&to.join(part)).map_err(io_error("create the directory", to))?;
    }
    for _ in 0..access::REPLACED_ATTEMPTS {
        files::empty(&to.join(INDEX))?;
        let pinned = PinnedLog::begin(store)?;
        let mut copied = CopyOutcome::default();
        if copy_index(store, to, last, &mut copied)?
            && let Some(log) = pinned.finish()?
        {
            let log_files = LogFiles { store, to, last, pinned: &pinned, log: &log };
            let result = log_files.copy(&mut copied, progress);
            // A segment that was replaced has none of the rows that the index got meanwhile, and the copy of the index
            // has none of them either. Its content can also end early.
            let is_consistent = pinned.disk().is_consistent().map_err(io_error("inspect the log of", store))?;
            if is_consistent {
                return result.map(|()| copied);
            }
            files::empty(&to.join(LOG))?;
        }
        std::thread::sleep(access::REPLACED_PAUSE);
    }
    Err(OpenError::replaced_each_time(store, "copy the index").into())
}

/// Links the tables of the index, and copies its other files. Returns `false` if another process changed the index
/// meanwhile.
fn copy_index(store: &Path, to: &Path, last: Option<&Path>, copied: &mut CopyOutcome) -> Result<bool, BackupError> {
    let before = manifests(store);
    let (from, to) = (store.join(INDEX), to.join(INDEX));
    for file in files::store_files(&from)? {
        let Some(name) = file.file_name() else { continue };
        let target = to.join(name);
        let is_table = file.extension().is_some_and(|extension| extension == "sst");
        let length = before.iter().find(|(manifest, _)| manifest == name).map(|(_, length)| *length);
        let result = match is_table {
            true => link(&file, last.map(|last| last.join(INDEX).join(name)).as_deref(), &target, copied),
            false => copy_file(&file, &target, length.unwrap_or(u64::MAX)),
        };
        match result {
            // RocksDB removed it after the directory was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            result => result.map_err(io_error("copy", &file))?,
        }
    }
    Ok(manifests(store) == before)
}

/// Links a file that never changes: to the last backup if that has the same content, otherwise to the store. Copies it
/// if it cannot be linked, for example because the backups are on another disk.
fn link(file: &Path, last: Option<&Path>, to: &Path, copied: &mut CopyOutcome) -> io::Result<()> {
    if let Some(last) = last.filter(|last| last.exists()) {
        let length = |path: &Path| path.metadata().map(|metadata| metadata.len());
        if length(file)? == length(last)? {
            let mut other = File::open(last)?;
            let is_same = is_same_content(&mut other, |take| for_each_chunk(File::open(file)?, take));
            if is_same? && fs::hard_link(last, to).is_ok() {
                return Ok(());
            }
            copied.differs_from_last |= !is_same_file(file, last);
        }
    }
    if fs::hard_link(file, to).is_ok() { Ok(()) } else { copy_file(file, to, u64::MAX) }
}

/// Returns whether two paths name one file, as far as the system can tell.
fn is_same_file(one: &Path, other: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let identity = |path: &Path| path.metadata().map(|metadata| (metadata.dev(), metadata.ino())).ok();
        identity(one).is_some() && identity(one) == identity(other)
    }
    #[cfg(not(unix))]
    {
        let _ = (one, other);
        false
    }
}

/// Calls `take` with the content of a file.
fn for_each_chunk(mut file: File, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            read => take(buffer.get(..read).unwrap_or_default())?,
        }
    }
}

/// Receives the chunks of a file.
type Take<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

/// Returns whether a file has exactly the bytes that `read` passes on.
fn is_same_content(file: &mut File, read: impl FnOnce(Take<'_>) -> io::Result<()>) -> io::Result<bool> {
    let (mut is_same, mut buffer) = (true, Vec::new());
    read(&mut |chunk| {
        buffer.resize(chunk.len(), 0);
        is_same = is_same && file.read_exact(&mut buffer).is_ok() && buffer == chunk;
        Ok(())
    })?;
    Ok(is_same && file.read(&mut [0])? == 0)
}

/// Copies the first bytes of a file.
fn copy_file(from: &Path, to: &Path, length: u64) -> io::Result<()> {
    let mut target = access::file_options().create_new(true).write(true).open(to)?;
    io::copy(&mut File::open(from)?.take(length), &mut target)?;
    target.sync_all()
}

/// The segments of a snapshot.
struct LogFiles<'a> {
    store: &'a Path,
    to: &'a Path,
    last: Option<&'a Path>,
    pinned: &'a PinnedLog,
    log: &'a ReadableLog,
}

impl LogFiles<'_> {
    fn copy(&self, copied: &mut CopyOutcome, progress: Progress<'_>) -> Result<(), BackupError> {
        let to = self.to.join(LOG);
        let segments = self.log.segments();
        let total = segments.len() as u64;
        for segment in segments {
            let target = to.join(&segment.name);
            let linked = if segment.is_sealed { self.link(&segment, &target, copied) } else { Ok(false) };
            let result = linked.and_then(|linked| if linked { Ok(()) } else { self.copy_segment(&segment, &target) });
            result.map_err(io_error("copy", &target))?;
            progress("segments", u64::from(segment.number), Some(total));
        }
        self.log.write_mark(&SystemDisk, &to).map_err(io_error("write the high-water mark in", &to))
    }

    /// Links a sealed segment. Returns `false` if it must be copied.
    fn link(&self, segment: &SegmentFile, to: &Path, copied: &mut CopyOutcome) -> io::Result<bool> {
        let file = self.store.join(LOG).join(&segment.name);
        if let Some(last) = self.last.map(|last| last.join(LOG).join(&segment.name)).filter(|last| last.exists()) {
            let mut other = File::open(&last)?;
            let is_same = is_same_content(&mut other, |take| self.log.read_segment(segment.number, take))?;
            if is_same && fs::hard_link(&last, to).is_ok() {
                return Ok(true);
            }
            // The segment can have been active, or was rewritten since, and is shorter then.
            copied.differs_from_last |= !is_same && other.metadata()?.len() == file.metadata()?.len();
        }
        if fs::hard_link(&file, to).is_err() {
            return Ok(false);
        }
        // A rewrite can have replaced the file.
        if self.pinned.disk().is_link_of(to, &file)? {
            return Ok(true);
        }
        fs::remove_file(to)?;
        Ok(false)
    }

    fn copy_segment(&self, segment: &SegmentFile, to: &Path) -> io::Result<()> {
        let mut target = access::file_options().create_new(true).write(true).open(to)?;
        self.log.read_segment(segment.number, |bytes| target.write_all(bytes))?;
        target.sync_all()
    }
}

/// Returns the number of changes of rows and unique keys in the log after a frame.
pub(super) fn changes_after(backup: &ReadOnlyStore, FrameEnd { frame, head }: FrameEnd) -> Result<u64, StoreError> {
    let (mut changes, mut log) = (0, backup.snapshot().log().read_after_frame(frame, head));
    while let Some(batch) = log.next_batch().map_err(of_log)? {
        let is_change = |body: &Body<'_>| matches!(body, Body::Row(_) | Body::Key(_));
        changes += batch.records().filter(|record| record.as_ref().is_ok_and(|record| is_change(&record.body))).count();
    }
    Ok(changes as u64)
}

/// Makes a store of a backup in an empty directory. The log gets another id, because it will assign its next positions
/// to other events than the original store.
pub(super) fn restore(from: &Path, to: &Path, progress: Progress<'_>) -> Result<(), BackupError> {
    let index = to.join(INDEX);
    access::create_directory(&index).map_err(io_error("create the directory", &index))?;
    for file in files::store_files(&from.join(INDEX))? {
        let Some(name) = file.file_name() else { continue };
        copy_file(&file, &index.join(name), u64::MAX).map_err(io_error("copy", &file))?;
    }
    let log = ReadableLog::open(from.join(LOG), Arc::new(SystemDisk));
    let log = log.map_err(|error| of_log_opening(from, error))?;
    let total = log.segments().len() as u64;
    let copied = log.copy_with_id(&to.join(LOG), Arc::new(SystemDisk), LogId::new(), |segment| {
        progress("segments", u64::from(segment), Some(total));
    });
    copied.map_err(of_log)?;
    files::sync_all(to)
}
