//! A log that is opened for reading while another process writes it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use es_core::Position;
use es_log::{DirectoryLock, Disk, DiskFile, Log, ReadableLog};

use crate::support::{SimDisk, commit, options};

const DIRECTORY: &str = "/log";
/// The offset of the first frame in a segment.
const FIRST_FRAME: u64 = 64;

/// A disk on which the first frames are written just after they were read for the first time.
#[derive(Debug)]
struct LateDisk {
    disk: SimDisk,
    was_read: Arc<AtomicBool>,
}

#[derive(Debug)]
struct LateFile {
    file: Arc<dyn DiskFile>,
    was_read: Arc<AtomicBool>,
}

fn not_used<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Disk for LateDisk {
    fn create_directory(&self, _: &Path) -> io::Result<()> {
        not_used()
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.disk.names(directory)
    }

    fn open(&self, _: &Path) -> io::Result<Arc<dyn DiskFile>> {
        not_used()
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open_read_only(path)?;
        let was_read = Arc::clone(&self.was_read);
        Ok(if path.ends_with(segment()) { Arc::new(LateFile { file, was_read }) } else { file })
    }

    fn create(&self, _: &Path) -> io::Result<Arc<dyn DiskFile>> {
        not_used()
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        not_used()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        not_used()
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        not_used()
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        not_used()
    }
}

impl DiskFile for LateFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.file.read_at(buffer, offset)?;
        if offset == FIRST_FRAME && !self.was_read.swap(true, Ordering::Relaxed) {
            buffer[..read].fill(0);
        }
        Ok(read)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        not_used()
    }

    fn write_zeros(&self, _: u64, _: u64) -> io::Result<()> {
        not_used()
    }

    fn sync(&self) -> io::Result<()> {
        not_used()
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }
}

fn segment() -> PathBuf {
    Path::new(DIRECTORY).join("00000001.seg")
}

/// Regression: the reader found no frame at the end, then searched for later ones, found those that were written
/// meanwhile, and called the log damaged.
#[test]
fn frames_that_are_written_during_an_opening_for_reading_are_no_damage() {
    let disk = SimDisk::new(1);
    let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens");
    commit(&log, 1, 1).expect("it commits");
    commit(&log, 2, 1).expect("it commits");
    let late = LateDisk { disk, was_read: Arc::default() };
    let was_read = Arc::clone(&late.was_read);
    let reader = ReadableLog::open(PathBuf::from(DIRECTORY), Arc::new(late)).expect("it opens");
    assert!(was_read.load(Ordering::Relaxed));
    assert_eq!(reader.head(), Position::new(2));
}
