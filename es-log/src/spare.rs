//! [`Spare`]: the next segment, filled with zeros before it is needed.
//!
//! A write to blocks that are written already changes no metadata of the file, so that a sync does not wait for the
//! journal of the file system.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::segment;
use crate::sync::{Condvar, Mutex, lock, wait};

/// The number of bytes that are filled per sync, so that a sync of the log does not wait for a long one.
const SYNC_STEP: u64 = 8 << 20;

/// A file of zeros, on disk, with the name of a spare segment.
#[derive(Debug)]
pub(crate) struct SpareFile {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) number: u32,
    pub(crate) size: u32,
}

#[derive(Debug)]
enum SpareState {
    /// Nothing is requested.
    Idle,
    Requested {
        number: u32,
        size: u32,
    },
    Filling,
    Ready(SpareFile),
    Failed(io::Error),
    Closed,
}

/// The next segment: requested by the writer, filled by a thread.
#[derive(Debug)]
pub(crate) struct Spare {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    state: Mutex<SpareState>,
    changed: Condvar,
    /// Whether a thread fills requested segments. Otherwise the writer does.
    has_thread: bool,
}

impl Spare {
    pub(crate) fn new(disk: Arc<dyn Disk>, directory: PathBuf, has_thread: bool) -> Self {
        Self { disk, directory, state: Mutex::new(SpareState::Idle), changed: Condvar::new(), has_thread }
    }

    /// Requests a segment, unless one is requested or ready.
    pub(crate) fn request(&self, number: u32, size: u32) {
        let mut state = lock(&self.state);
        if self.has_thread && matches!(*state, SpareState::Idle | SpareState::Failed(_)) {
            *state = SpareState::Requested { number, size };
            self.changed.notify_all();
        }
    }

    /// Returns a segment of at least `size` bytes. Waits until it is filled.
    ///
    /// # Errors
    /// Those of filling it. A later call tries again.
    pub(crate) fn take(&self, number: u32, size: u32) -> io::Result<SpareFile> {
        let mut state = lock(&self.state);
        if !self.has_thread {
            return fill(&*self.disk, &self.directory, number, size);
        }
        let mut is_requested = !matches!(*state, SpareState::Failed(_));
        loop {
            match std::mem::replace(&mut *state, SpareState::Idle) {
                SpareState::Ready(spare) if spare.number == number && spare.size >= size => return Ok(spare),
                SpareState::Failed(error) if is_requested => return Err(error),
                SpareState::Closed => {
                    *state = SpareState::Closed;
                    return Err(io::Error::other("the log is closed"));
                }
                SpareState::Idle | SpareState::Ready(_) | SpareState::Failed(_) => {
                    is_requested = true;
                    *state = SpareState::Requested { number, size };
                    self.changed.notify_all();
                }
                SpareState::Requested { size: requested, .. } => {
                    *state = SpareState::Requested { number, size: requested.max(size) };
                }
                SpareState::Filling => *state = SpareState::Filling,
            }
            state = wait(&self.changed, state);
        }
    }

    /// Fills requested segments until the log is closed.
    pub(crate) fn run(&self) {
        let mut state = lock(&self.state);
        loop {
            match *state {
                SpareState::Closed => return,
                SpareState::Requested { number, size } => {
                    *state = SpareState::Filling;
                    drop(state);
                    let filled = fill(&*self.disk, &self.directory, number, size);
                    state = lock(&self.state);
                    if !matches!(*state, SpareState::Closed) {
                        *state = filled.map_or_else(SpareState::Failed, SpareState::Ready);
                    }
                    self.changed.notify_all();
                }
                _ => state = wait(&self.changed, state),
            }
        }
    }

    /// Ends [`run`](Self::run). The file of a spare segment stays until the log is opened.
    pub(crate) fn close(&self) {
        *lock(&self.state) = SpareState::Closed;
        self.changed.notify_all();
    }
}

/// Creates a file of zeros that is on disk. Removes it after a failure.
pub(crate) fn fill(disk: &dyn Disk, directory: &Path, number: u32, size: u32) -> io::Result<SpareFile> {
    let path = directory.join(segment::spare_name(number));
    let fill = || {
        let file = disk.create(&path)?;
        let mut at = 0;
        while at < u64::from(size) {
            let length = SYNC_STEP.min(u64::from(size) - at);
            file.write_zeros(at, length)?;
            file.sync()?;
            at += length;
        }
        Ok(SpareFile { file, number, size })
    };
    fill().inspect_err(|_| {
        // The space is needed. The error of the fill is the one to report.
        let _ = disk.remove(&path);
    })
}
