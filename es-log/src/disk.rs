//! [`Disk`]: the file system as the log uses it. Tests replace it to inject failures; [`SystemDisk`] is the real one.

use std::fmt::Debug;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The operations on files and directories.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Creates a directory that only its user can access, and its parents. An existing directory is not changed.
    ///
    /// # Errors
    /// Those of the file system.
    fn create_directory(&self, directory: &Path) -> io::Result<()>;

    /// Returns the names of the files in a directory. Names that are not UTF-8 are left out.
    ///
    /// # Errors
    /// Those of the file system.
    fn names(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// Those of the file system.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading.
    ///
    /// # Errors
    /// Those of the file system.
    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Creates an empty file for reading and writing; an existing one becomes empty.
    ///
    /// # Errors
    /// Those of the file system.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Renames a file. An existing target is replaced.
    ///
    /// # Errors
    /// Those of the file system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Those of the file system.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Waits until the entries of a directory are on disk.
    ///
    /// # Errors
    /// Those of the file system.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// Creates a file and locks it exclusively until the returned value is dropped.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if another handle has the lock; others from the file system.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>>;
}

/// An open file. All methods can be called from several threads.
pub trait DiskFile: Debug + Send + Sync {
    /// Reads bytes at an offset, as many as there are. Returns their number; 0 at the end.
    ///
    /// # Errors
    /// Those of the file system.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes at an offset.
    ///
    /// # Errors
    /// Those of the file system. A part of the bytes may be written then.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Writes zeros, so that later writes to this range change no metadata of the file.
    ///
    /// # Errors
    /// Those of the file system. A part of the zeros may be written then.
    fn write_zeros(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Waits until the content of the file is on disk (`fdatasync`).
    ///
    /// # Errors
    /// Those of the file system. It is then unknown which writes are on disk.
    fn sync(&self) -> io::Result<()>;

    /// Returns the length of the file.
    ///
    /// # Errors
    /// Those of the file system.
    fn length(&self) -> io::Result<u64>;
}

/// A lock of a directory.
pub trait DirectoryLock: Debug + Send + Sync {
    /// Returns whether the path of the lock still names the locked file. It does not after the directory was removed,
    /// moved or replaced. Costs one look-up of a file name.
    fn is_in_place(&self) -> bool;
}

/// The file system of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        if directory.is_dir() {
            return Ok(());
        }
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(directory)?;
        // The entries of the parents that were created.
        let full = fs::canonicalize(directory)?;
        full.ancestors().skip(1).try_for_each(|parent| match self.sync_directory(parent) {
            // A parent that is not readable existed before.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            result => result,
        })
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(SystemFile(File::options().read(true).write(true).open(path)?)))
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(SystemFile(File::open(path)?)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(SystemFile(new_file_options().truncate(true).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        // Other systems cannot sync directories.
        if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        let file = new_file_options().truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let identity = Identity::of(&file.metadata()?);
        Ok(Box::new(SystemLock { path: path.to_owned(), identity, _file: file }))
    }
}

/// Returns whether an operation failed because the process or the system has no file descriptor left (`EMFILE`,
/// `ENFILE`). No sync fails for this reason.
pub(crate) fn lacks_descriptor(error: &io::Error) -> bool {
    cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24))
}

/// Returns options that create a file which only its user can access.
fn new_file_options() -> fs::OpenOptions {
    let mut options = File::options();
    options.read(true).write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[derive(Debug)]
struct SystemFile(File);

/// The number of zeros per write.
const ZEROS: usize = 1 << 20;

impl DiskFile for SystemFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            #[cfg(unix)]
            let result = std::os::unix::fs::FileExt::read_at(&self.0, buffer, offset);
            #[cfg(windows)]
            let result = std::os::windows::fs::FileExt::seek_read(&self.0, buffer, offset);
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    #[cfg(unix)]
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, bytes, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = std::os::windows::fs::FileExt::seek_write(&self.0, bytes, offset)?;
            bytes = bytes.get(written..).unwrap_or_default();
            offset += written as u64;
        }
        Ok(())
    }

    fn write_zeros(&self, offset: u64, length: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS];
        let end = offset + length;
        let mut at = offset;
        while at < end {
            let part = usize::try_from(end - at).unwrap_or(ZEROS).min(ZEROS);
            self.write_at(zeros.get(..part).unwrap_or(&zeros), at)?;
            at += part as u64;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[derive(Debug)]
struct SystemLock {
    path: PathBuf,
    identity: Identity,
    /// Holds the lock.
    _file: File,
}

impl DirectoryLock for SystemLock {
    fn is_in_place(&self) -> bool {
        match fs::metadata(&self.path) {
            Ok(metadata) => Identity::of(&metadata) == self.identity,
            // A directory that is no longer accessible may still be in place.
            Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        }
    }
}

/// Identifies a file independently of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    number: u64,
}

impl Identity {
    #[cfg(unix)]
    fn of(metadata: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self { device: metadata.dev(), number: metadata.ino() }
    }

    /// On other systems, the directory of an open file cannot be replaced, so that all identities can be equal.
    #[cfg(not(unix))]
    fn of(_: &fs::Metadata) -> Self {
        Self { device: 0, number: 0 }
    }
}
