//! [`PinnedDisk`]: the files of a log that is only read. Each stays the file that it was when it was opened first.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use es_log::{DirectoryLock, Disk, DiskFile, SystemDisk};

use crate::sync::{Mutex, PoisonError};

/// The ending of the name of a segment.
const SEGMENT: &str = ".seg";

/// A disk that keeps the files open which it has opened, so that a reader still has the old content of a segment that
/// another process replaces. It writes nothing.
#[derive(Debug)]
pub(crate) struct PinnedDisk {
    pinned: Mutex<BTreeMap<PathBuf, Pinned>>,
    /// The largest number of files that are kept open. The others are opened again for each read.
    limit: usize,
}

#[derive(Debug, Clone)]
struct Pinned {
    /// The open file; `None` for one more than are kept open.
    file: Option<Arc<dyn DiskFile>>,
    /// The file that the path named when it was opened first.
    identity: InodeIdentity,
}

/// Identifies a file independently of its name. On other systems than Unix, an open file cannot be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InodeIdentity {
    device: u64,
    number: u64,
    /// The number of a file that is not open can be used again. `None` if the file system does not store the time.
    created: Option<SystemTime>,
}

impl InodeIdentity {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            Ok(Self { device: metadata.dev(), number: metadata.ino(), created: metadata.created().ok() })
        }
        #[cfg(not(unix))]
        {
            let _ = metadata;
            Ok(Self { device: 0, number: 0, created: None })
        }
    }
}

impl PinnedDisk {
    pub(crate) fn new(limit: usize) -> Self {
        Self { pinned: Mutex::default(), limit }
    }

    /// Opens the segments in a directory.
    pub(crate) fn pin_segments(&self, directory: &Path) -> io::Result<()> {
        for name in self.names(directory)?.iter().filter(|name| name.ends_with(SEGMENT)) {
            self.open_read_only(&directory.join(name))?;
        }
        Ok(())
    }

    /// Returns the segments that were opened, in order.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        pinned.keys().filter(|path| path.to_string_lossy().ends_with(SEGMENT)).cloned().collect()
    }

    /// Returns whether no file was replaced since it was opened first.
    pub(crate) fn is_unreplaced(&self) -> io::Result<bool> {
        self.are_unreplaced(|_| true)
    }

    /// Returns whether all files are read as they were when they were opened first: those that are not kept open were
    /// not replaced since.
    pub(crate) fn is_consistent(&self) -> io::Result<bool> {
        self.are_unreplaced(|pinned| pinned.file.is_none())
    }

    fn are_unreplaced(&self, is_checked: impl Fn(&Pinned) -> bool) -> io::Result<bool> {
        let pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (path, pinned) in pinned.into_iter().filter(|(_, pinned)| is_checked(pinned)) {
            if InodeIdentity::of(&path)? != pinned.identity {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns whether a path names another file, or none, than when it was opened first.
    pub(crate) fn is_replaced(&self, path: &Path) -> io::Result<bool> {
        let pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        match (pinned, InodeIdentity::of(path)) {
            (Some(pinned), Ok(identity)) => Ok(identity != pinned.identity),
            (Some(_), Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            (Some(_), Err(error)) => Err(error),
            (None, _) => Ok(false),
        }
    }

    /// Returns whether this path names the file that another one named when it was opened first.
    pub(crate) fn is_link_of(&self, path: &Path, pinned: &Path) -> io::Result<bool> {
        let identity = InodeIdentity::of(path)?;
        let files = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(files.get(pinned).is_some_and(|pinned| pinned.identity == identity))
    }
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "the store is open for reading only")
}

impl Disk for PinnedDisk {
    fn create_directory(&self, _: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        SystemDisk.names(directory)
    }

    fn open(&self, _: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Err(refused())
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        if let Some(file) = pinned.and_then(|pinned| pinned.file) {
            return Ok(file);
        }
        loop {
            let identity = InodeIdentity::of(path)?;
            let file = SystemDisk.open_read_only(path)?;
            // Otherwise the file was replaced while it was opened.
            if InodeIdentity::of(path)? == identity {
                let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
                let kept = (pinned.len() < self.limit).then(|| Arc::clone(&file));
                let first = pinned.entry(path.to_owned()).or_insert(Pinned { file: kept, identity });
                return Ok(first.file.as_ref().map_or(file, Arc::clone));
            }
        }
    }

    fn create(&self, _: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Err(refused())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        Err(refused())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// Regression: only the files that are kept open were compared. A backup of more segments than that could have one
    /// that was rewritten without the rows that its copy of the index did not have yet.
    #[test]
    fn a_replaced_file_is_noticed_also_if_it_is_not_kept_open() {
        let directory = tempfile::tempdir().unwrap();
        let names = ["00000001.seg", "00000002.seg"].map(|name| directory.path().join(name));
        names.iter().for_each(|path| fs::write(path, "before").unwrap());
        let disk = PinnedDisk::new(1);
        disk.pin_segments(directory.path()).unwrap();
        let kept: Vec<&PathBuf> = {
            let pinned = disk.pinned.lock().unwrap();
            names.iter().filter(|path| pinned[*path].file.is_some()).collect()
        };
        let [kept] = kept[..] else { panic!("expected one file that is kept open") };
        let other = names.iter().find(|path| *path != kept).unwrap();
        assert!(disk.is_unreplaced().unwrap() && disk.is_consistent().unwrap());
        for (path, is_consistent) in [(kept, true), (other, false)] {
            let new = directory.path().join("new");
            fs::write(&new, "after").unwrap();
            fs::rename(&new, path).unwrap();
            assert!(!disk.is_unreplaced().unwrap());
            assert_eq!(disk.is_consistent().unwrap(), is_consistent);
        }
    }
}
