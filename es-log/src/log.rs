//! [`Log`]: an open log.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use es_core::model::LogId;

use crate::answer::PendingCommit;
use crate::catalog::{Catalog, Head, OFFSET_BLOCKS};
use crate::disk::{DirectoryLock, Disk, SystemDisk};
use crate::error::{AppendError, OpenError, RewriteError};
use crate::group::{Follower, Group, GroupSettings, Turn};
use crate::layout::LOCK_FILE;
use crate::open_frame::CommitDraft;
use crate::readable::ReadableLog;
use crate::record::Record;
use crate::recovery::{self, Creation};
use crate::rewrite::{Form, Rewritten};
use crate::spare::Spare;
use crate::sync::{Mutex, lock, thread};
use crate::writer::{Durability, OnWriteFailure, Writer};

/// The number of sync threads.
const SYNC_THREADS: usize = 2;

/// The settings of a log.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// The id of the log. A new log gets this id, or a new one; an existing log must have it.
    pub log_id: Option<LogId>,
    /// The time to which a new log stores times relatively, in microseconds since 1970 in UTC: times near it are short.
    pub base_time: i64,
    /// When a commit is acknowledged.
    pub durability: Durability,
    /// The size of the first segment in bytes; at least 1 KiB. Each further one has twice the size.
    pub first_segment: u32,
    /// The size of the largest segment in bytes.
    pub largest_segment: u32,
    /// The size of the open frame at which commits wait, in bytes. A commit can be larger.
    pub frame_bytes: usize,
    /// The memory for the newest frames, in bytes.
    pub tail_bytes: usize,
    /// The number of cached blocks of offsets: 512 bytes for 1,024 events each.
    pub offset_blocks: NonZeroUsize,
    /// The idle time after which a blank frame confirms the last one; `None` for never.
    pub blank_after: Option<Duration>,
    /// What follows a write that failed before its sync.
    pub on_write_failure: OnWriteFailure,
    /// Whether threads write and fill segments. Otherwise each caller does it itself.
    pub has_threads: bool,
    /// The file system.
    pub disk: Arc<dyn Disk>,
}

impl Default for LogOptions {
    /// Returns segments of 8 to 64 MiB, frames up to 8 MiB, 8 MiB of newest frames, a blank frame after a second.
    fn default() -> Self {
        Self {
            log_id: None,
            base_time: 0,
            durability: Durability::Sync,
            first_segment: 8 << 20,
            largest_segment: 64 << 20,
            frame_bytes: 8 << 20,
            tail_bytes: 8 << 20,
            offset_blocks: OFFSET_BLOCKS,
            blank_after: Some(Duration::from_secs(1)),
            on_write_failure: OnWriteFailure::default(),
            has_threads: true,
            disk: Arc::new(SystemDisk),
        }
    }
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { operation, path: path.to_owned(), source }
}

/// Creates the directory if it is missing, and locks it.
fn lock_directory(disk: &dyn Disk, directory: &Path) -> Result<Box<dyn DirectoryLock>, OpenError> {
    disk.create_directory(directory).map_err(|error| failed("create", directory, error))?;
    let path = directory.join(LOCK_FILE);
    disk.lock(&path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked { directory: directory.to_owned() },
        _ => failed("lock", &path, error),
    })
}

/// An open log. One process has it open for writing at a time.
///
/// All reads are those of [`ReadableLog`]. Dropping the log closes it; [`close`](Self::close) reports failures.
#[derive(Debug)]
pub struct Log {
    group: Arc<Group>,
    readable: ReadableLog,
    spare: Arc<Spare>,
    durability: Durability,
    removed_bytes: u64,
    rewriting: Mutex<()>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Log {
    /// Opens the log in a directory, or creates both.
    ///
    /// Reads the headers of all segments and the frames of the last one. A torn end is removed: no commit in it was
    /// acknowledged.
    ///
    /// # Errors
    /// [`OpenError`]: the log is open elsewhere, is damaged or has lost acknowledged frames; or the file system failed.
    pub fn open(directory: impl AsRef<Path>, options: LogOptions) -> Result<Self, OpenError> {
        let directory = directory.as_ref().to_owned();
        let lock = lock_directory(&*options.disk, &directory)?;
        let sizes = (options.first_segment.max(1024), options.largest_segment.max(1024));
        let creation = Creation { log_id: options.log_id, base_time: options.base_time, sizes };
        let recovered = recovery::recover(&*options.disk, &directory, creation)?;
        let (end, opens) = (recovered.end, recovered.opens);
        let header = end.active.header;
        let head = Head { frame: end.chain.frame - 1, position: end.chain.position - 1 };
        let active = (end.active.end, end.active.offsets.as_slice());
        let limits = (options.tail_bytes, options.offset_blocks);
        let catalog = Arc::new(Catalog::new(end.sealed, header, active, head, limits));
        let disk = options.disk;
        let spare = Arc::new(Spare::new(Arc::clone(&disk), directory.clone(), options.has_threads));
        let writer = Writer {
            disk: Arc::clone(&disk),
            directory: directory.clone(),
            lock,
            durability: options.durability,
            sizes,
            opens,
            active: end.active,
            chain: end.chain,
            mark: recovered.mark,
            has_mark_failed: false,
            spare: Arc::clone(&spare),
            catalog: Arc::clone(&catalog),
        };
        let settings = GroupSettings {
            base_time: header.place.base_time,
            has_threads: options.has_threads,
            frame_bytes: options.frame_bytes,
            blank_after: options.blank_after,
            on_write_failure: options.on_write_failure,
        };
        let log = Self {
            group: Arc::new(Group::new(writer, settings)),
            readable: ReadableLog::new(catalog, disk, directory.clone(), header.place, opens),
            spare,
            durability: options.durability,
            removed_bytes: end.removed_bytes,
            rewriting: Mutex::new(()),
            threads: Mutex::new(Vec::new()),
        };
        if options.has_threads {
            log.start_threads().map_err(|error| failed("start a thread for", &directory, error))?;
        }
        Ok(log)
    }

    fn start_threads(&self) -> io::Result<()> {
        let mut threads = lock(&self.threads);
        for _ in 0..SYNC_THREADS {
            let group = Arc::clone(&self.group);
            threads.push(thread::Builder::new().name("es-log-sync".to_owned()).spawn(move || group.run())?);
        }
        let spare = Arc::clone(&self.spare);
        threads.push(thread::Builder::new().name("es-log-fill".to_owned()).spawn(move || spare.run())?);
        Ok(())
    }

    /// Returns the number of bytes after the last frame that the opening removed: a torn frame.
    #[must_use]
    pub const fn removed_bytes(&self) -> u64 {
        self.removed_bytes
    }

    /// Sets the follower of the frames that are written from now on. A log has one: further calls have no effect.
    pub fn follow(&self, follower: Arc<dyn Follower>) {
        self.group.follow(follower);
    }

    /// Adds a commit, and blocks the thread until it is on disk.
    ///
    /// `draft` adds the records while the log is locked; it must not wait for anything. After an error of it, the
    /// commit is not written.
    ///
    /// # Errors
    /// Those of `draft`, and [`AppendError`]: the variant tells whether the commit can be in the log.
    pub fn commit<R, E: From<AppendError>>(
        &self,
        draft: impl FnOnce(&mut CommitDraft<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        self.group.commit(draft)
    }

    /// Adds a commit. The returned future, or its method `wait`, waits until the commit is on disk.
    ///
    /// Blocks the thread while the open frame is full. Without threads ([`LogOptions::has_threads`]) the commit is
    /// written before this returns.
    ///
    /// # Errors
    /// As [`commit`](Self::commit); the future has the errors of the write.
    pub fn submit<R, E: From<AppendError>>(
        &self,
        draft: impl FnOnce(&mut CommitDraft<'_>) -> Result<R, E>,
    ) -> Result<(R, PendingCommit), E> {
        self.group.submit(draft)
    }

    /// Adds a commit, as [`submit`](Self::submit) does, and returns the turn to write it if the commit is alone. The
    /// caller's thread saves two changes of threads by [`Turn::write`].
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn begin<R, E: From<AppendError>>(
        &self,
        draft: impl FnOnce(&mut CommitDraft<'_>) -> Result<R, E>,
    ) -> Result<(R, PendingCommit, Option<Turn<'_>>), E> {
        self.group.begin(draft)
    }

    /// Seals the active segment, so that it can be rewritten. The next frame begins a segment. A segment without a
    /// frame is not sealed.
    ///
    /// # Errors
    /// [`AppendError`], as for a commit.
    pub fn seal(&self) -> Result<(), AppendError> {
        self.group.seal()
    }

    /// Waits until all commits that were acknowledged before are on disk. With [`Durability::Sync`] they are, so that
    /// this does nothing.
    ///
    /// # Errors
    /// [`AppendError::SyncFailed`], and after it [`AppendError::Stopped`]: the log accepts no further commit until it
    /// is opened again.
    pub fn sync(&self) -> Result<(), AppendError> {
        match self.durability {
            Durability::Sync => Ok(()),
            Durability::Buffered => self.group.sync(),
        }
    }

    /// Rewrites a sealed segment without the records for which `is_unwanted` returns `true`: an event becomes a
    /// tombstone, a row or a unique key is dropped. Positions and other segments do not change. Reads and commits
    /// continue. A reader that has the old file open still returns its events. A compressed segment stays compressed.
    ///
    /// # Errors
    /// [`RewriteError`]; the segment is unchanged then.
    pub fn rewrite(
        &self,
        segment: u32,
        mut is_unwanted: impl FnMut(&Record<'_>) -> bool,
    ) -> Result<Rewritten, RewriteError> {
        let _one_at_a_time = lock(&self.rewriting);
        self.readable.rewrite(segment, Form::Unchanged, &mut is_unwanted)
    }

    /// Rewrites a sealed segment as [`rewrite`](Self::rewrite) does, and compresses it. Does nothing if the segment is
    /// compressed and has no unwanted record. The segment is in memory meanwhile. It takes some tenths of a second of
    /// processor time for each 64 MiB.
    ///
    /// # Errors
    /// [`RewriteError`]; the segment is unchanged then.
    pub fn compress(
        &self,
        segment: u32,
        mut is_unwanted: impl FnMut(&Record<'_>) -> bool,
    ) -> Result<Rewritten, RewriteError> {
        let _one_at_a_time = lock(&self.rewriting);
        self.readable.rewrite(segment, Form::Compressed, &mut is_unwanted)
    }

    /// Waits for the commits in flight, refuses further ones, syncs the high-water mark and ends the threads. Readers
    /// stay valid. A closed log can be opened again after it is dropped.
    ///
    /// # Errors
    /// The cause of the failure that stopped the log, or of a failed sync. All acknowledged commits are on disk
    /// nevertheless.
    pub fn close(&self) -> io::Result<()> {
        let result = self.group.close();
        self.spare.close();
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
        result
    }
}

impl Deref for Log {
    type Target = ReadableLog;

    fn deref(&self) -> &ReadableLog {
        &self.readable
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // All acknowledged commits are on disk.
        let _ = self.close();
    }
}
