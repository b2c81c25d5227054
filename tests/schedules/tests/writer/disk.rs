//! [`SlowDisk`]: a disk in memory, whose operations take time, and which records the threads that write.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use es_log::{DirectoryLock, Disk, DiskFile, MARK_FILE};
use shuttle::thread;

use crate::simulated::SimDisk;

/// The name of the threads of a log that write.
const WRITING_THREAD: &str = "es-log-sync";

/// A disk in memory. Other threads can run before each operation on the content of a file.
#[derive(Debug, Clone)]
pub(crate) struct SlowDisk {
    pub(crate) simulated: SimDisk,
    operations: Arc<Operations>,
}

/// What the threads do with a disk.
#[derive(Debug, Default)]
struct Operations {
    /// The number of writes and syncs that have begun and not ended.
    running: AtomicUsize,
    turns: Arc<Turns>,
    /// Whether a thread of the log wrote last.
    was_thread: AtomicBool,
}

/// The number of changes between the threads that write. A test checks with them that its schedules covered both
/// directions.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// From a caller that wrote its own commit to a thread of the log.
    pub(crate) to_thread: AtomicU64,
    /// From a thread of the log to a caller.
    pub(crate) to_callers: AtomicU64,
}

/// Lets another thread run.
fn switch_threads() {
    shuttle::sync::atomic::AtomicBool::new(false).load(Ordering::SeqCst);
}

impl SlowDisk {
    /// Creates an empty disk, which adds to these counts.
    pub(crate) fn new(seed: u64, turns: &Arc<Turns>) -> Self {
        let operations = Arc::new(Operations { turns: Arc::clone(turns), ..Operations::default() });
        Self { simulated: SimDisk::new(seed), operations }
    }

    /// Returns whether a write or a sync is running.
    pub(crate) fn is_busy(&self) -> bool {
        self.operations.running.load(Ordering::Relaxed) > 0
    }

    fn slow(&self, path: &Path, file: io::Result<Arc<dyn DiskFile>>) -> io::Result<Arc<dyn DiskFile>> {
        let has_frames = path.file_name().is_none_or(|name| name != MARK_FILE);
        let (operations, is_written) = (Arc::clone(&self.operations), AtomicBool::new(false));
        Ok(Arc::new(SlowFile { file: file?, operations, has_frames, is_written }))
    }
}

impl Operations {
    fn record_writer(&self) {
        let is_thread = thread::current().name() == Some(WRITING_THREAD);
        match (self.was_thread.swap(is_thread, Ordering::Relaxed), is_thread) {
            (false, true) => self.turns.to_thread.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.turns.to_callers.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// Runs an operation that takes time.
    fn run<T>(&self, operation: impl FnOnce() -> T) -> T {
        self.running.fetch_add(1, Ordering::Relaxed);
        switch_threads();
        let result = operation();
        self.running.fetch_sub(1, Ordering::Relaxed);
        result
    }
}

#[derive(Debug)]
struct SlowFile {
    file: Arc<dyn DiskFile>,
    operations: Arc<Operations>,
    /// Whether it is a segment, and not the high-water mark.
    has_frames: bool,
    is_written: AtomicBool,
}

impl DiskFile for SlowFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        switch_threads();
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.has_frames {
            self.operations.record_writer();
        }
        assert!(!self.is_written.swap(true, Ordering::Relaxed), "two threads write to a file at a time");
        let written = self.operations.run(|| self.file.write_at(bytes, offset));
        self.is_written.store(false, Ordering::Relaxed);
        written
    }

    fn write_zeros(&self, offset: u64, length: u64) -> io::Result<()> {
        self.operations.run(|| self.file.write_zeros(offset, length))
    }

    fn sync(&self) -> io::Result<()> {
        self.operations.run(|| self.file.sync())
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }
}

impl Disk for SlowDisk {
    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        self.simulated.create_directory(directory)
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.simulated.names(directory)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.slow(path, self.simulated.open(path))
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        switch_threads();
        self.slow(path, self.simulated.open_read_only(path))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.slow(path, self.simulated.create(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.simulated.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.simulated.remove(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.simulated.sync_directory(directory)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        self.simulated.lock(path)
    }
}
