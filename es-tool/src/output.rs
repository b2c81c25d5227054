//! [`OutputFile`]: a file that is replaced when its content is complete.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

/// The maximum number of links that are followed, as on Linux.
const MAX_LINKS: usize = 40;
/// The names of standard output.
const STANDARD_OUTPUT: [&str; 4] = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

/// An error of [`OutputFile`]. The target is unchanged, unless it is a device or a FIFO.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The path names a directory. Name a file.
    #[error("expected a file to write to, found a directory: {}", .path.display())]
    Directory {
        /// The path.
        path: PathBuf,
    },
    /// The file exists, and is not replaced. Remove it, or choose another path.
    #[error("expected no file in {}, found one; remove it, or choose another path", .path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// The path names a file in the directory of a store. Choose another path.
    #[error(
        "expected a file outside of the store in {}, found {} within it; choose another path",
        .store.display(), .path.display()
    )]
    WithinStore {
        /// The path.
        path: PathBuf,
        /// The directory of the store.
        store: PathBuf,
    },
    /// The file belongs to another user or group, and this process cannot create a file for that user or group. Remove
    /// the file, or choose another path.
    #[error(
        "expected a file of this user in {}, found one that belongs to {owner}; choose another path", .path.display()
    )]
    OtherOwner {
        /// The path.
        path: PathBuf,
        /// The user and group of the file, as numbers.
        owner: String,
    },
    /// The operating system returned an error. Fix the cause and try again.
    #[error("could not {action} {}", .path.display())]
    Io {
        /// The operation.
        action: &'static str,
        /// The file or directory of the operation.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// A file that is written completely or not at all.
///
/// The content is written to a temporary file in the same directory, which [`finish`](Self::finish) syncs and renames.
/// An [`OutputFile`] that is dropped before leaves the target as it was.
///
/// - Links are followed: the target of the link is replaced, also if it does not exist yet.
/// - A device, a FIFO or an open descriptor (`/dev/fd/3`) is written to directly, and never replaced. The content is
///   appended to the file of a descriptor.
/// - A replaced file keeps its mode and owner.
/// - A file in the directory of a store is refused, by whatever path or link.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    /// A temporary file, and the file that it replaces.
    Temporary { file: BufWriter<NamedTempFile>, target: PathBuf, existing: Existing },
    /// A device, a FIFO or an open descriptor.
    Direct(BufWriter<File>),
}

/// What happens to a file that has the name of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Existing {
    Replace,
    Keep,
}

/// The file that a path names.
enum Target {
    /// A regular file, or a file that does not exist yet, by its full path without links.
    Regular(PathBuf),
    /// A device, a FIFO or an open descriptor.
    Special,
}

impl OutputFile {
    /// Begins to write the file with this path.
    ///
    /// # Errors
    /// - [`OutputError::Directory`] if the path names a directory.
    /// - [`OutputError::WithinStore`] if the file is in the directory of a store.
    /// - [`OutputError::OtherOwner`] if an existing file belongs to another user, and its owner cannot be kept.
    /// - [`OutputError::Io`] if the temporary file cannot be created.
    pub fn create(path: &Path) -> Result<Self, OutputError> {
        Self::begin(path, Existing::Replace)
    }

    /// Like [`create`](Self::create), for a new file: an existing file is never replaced, also if it is created before
    /// [`finish`](Self::finish).
    ///
    /// # Errors
    /// - [`OutputError::Exists`] if there is a file, a directory, a device or a link with this path.
    /// - The errors of [`create`](Self::create).
    pub fn create_new(path: &Path) -> Result<Self, OutputError> {
        if fs::symlink_metadata(path).is_ok() {
            return Err(OutputError::Exists { path: path.to_owned() });
        }
        Self::begin(path, Existing::Keep)
    }

    fn begin(path: &Path, existing: Existing) -> Result<Self, OutputError> {
        let failed = |action| move |source| OutputError::Io { action, path: path.to_owned(), source };
        let sink = match resolve(path).map_err(failed("find"))? {
            Target::Special => {
                // An open of `/dev/fd/3` opens the file of the descriptor again, at its beginning on Linux.
                let file = File::options().append(true).open(path).map_err(failed("open"))?;
                Sink::Direct(BufWriter::new(file))
            }
            Target::Regular(target) => {
                if target.is_dir() {
                    return Err(OutputError::Directory { path: path.to_owned() });
                }
                if let Some(store) = store_with(&target) {
                    return Err(OutputError::WithinStore { path: path.to_owned(), store });
                }
                let file = temporary(&target).map_err(failed("create a temporary file for"))?;
                keep_access(&target, &file, path)?;
                Sink::Temporary { file: BufWriter::new(file), target, existing }
            }
        };
        Ok(Self { path: path.to_owned(), sink })
    }

    /// Like [`create`](Self::create), and refuses a file in the directory `store`, which may have no store yet.
    ///
    /// # Errors
    /// The errors of [`create`](Self::create).
    pub fn create_outside(path: &Path, store: &Path) -> Result<Self, OutputError> {
        if let (Ok(Target::Regular(target)), Ok(store)) = (resolve(path), fs::canonicalize(store))
            && target.starts_with(&store)
            && target != store
        {
            return Err(OutputError::WithinStore { path: path.to_owned(), store });
        }
        Self::create(path)
    }

    /// Completes the file: syncs the content and gives it its name.
    ///
    /// # Errors
    /// - [`OutputError::Exists`] if the file is [new](Self::create_new), and another one was created meanwhile.
    /// - [`OutputError::Io`] if the operating system cannot write, sync or rename the file.
    pub fn finish(self) -> Result<(), OutputError> {
        let path = self.path;
        let failed = |source| OutputError::Io { action: "write", path: path.clone(), source };
        match self.sink {
            Sink::Direct(mut file) => file.flush().map_err(failed),
            Sink::Temporary { file, target, existing } => {
                let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
                // ORDER: the content is synced before the rename, and the rename before success is reported.
                file.as_file().sync_all().map_err(failed)?;
                let persisted = match existing {
                    Existing::Replace => file.persist(&target),
                    Existing::Keep => file.persist_noclobber(&target),
                };
                persisted.map_err(|error| match error.error.kind() {
                    io::ErrorKind::AlreadyExists => OutputError::Exists { path: path.clone() },
                    _ => failed(error.error),
                })?;
                sync_directory(target.parent().unwrap_or(Path::new("/"))).map_err(failed)
            }
        }
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.sink {
            Sink::Temporary { file, .. } => file.write(bytes),
            Sink::Direct(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::Temporary { file, .. } => file.flush(),
            Sink::Direct(file) => file.flush(),
        }
    }
}

/// Writes a whole file, with the rules of [`OutputFile`].
///
/// # Errors
/// The errors of [`OutputFile::create`] and [`OutputFile::finish`].
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), OutputError> {
    let mut file = OutputFile::create(path)?;
    let failed = |source| OutputError::Io { action: "write", path: path.to_owned(), source };
    file.write_all(content.as_ref()).map_err(failed)?;
    file.finish()
}

/// Returns whether a path names standard output: `-`, `/dev/stdout` and the like. A command writes its answer there,
/// too, so it must not open it a second time.
#[must_use]
pub fn is_standard_output(path: &Path) -> bool {
    STANDARD_OUTPUT.iter().any(|name| path == Path::new(name))
}

/// Follows the links of a path, also to a file that does not exist.
fn resolve(path: &Path) -> io::Result<Target> {
    let mut path = std::path::absolute(path)?;
    for _ in 0..=MAX_LINKS {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Target::Regular(path)) };
        // The directory must exist; the file need not.
        let parent = fs::canonicalize(parent)?;
        path = parent.join(name);
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Target::Regular(path)),
            Err(error) => return Err(error),
        };
        if !metadata.is_symlink() {
            let is_replaced = metadata.is_file() || metadata.is_dir();
            return Ok(if is_replaced { Target::Regular(path) } else { Target::Special });
        }
        // A link in /proc is an open descriptor, which need not have a name.
        if parent.starts_with("/proc") {
            return Ok(Target::Special);
        }
        path = parent.join(fs::read_link(&path)?);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "too many levels of symbolic links"))
}

/// Returns the directory of the store that has this file, a full path without links.
fn store_with(file: &Path) -> Option<PathBuf> {
    let has = |directory: &Path, name: &str| directory.join(name).is_file();
    let is_store = |directory: &Path| {
        has(&directory.join("log"), "ACKNOWLEDGED") || (has(directory, "CURRENT") && has(directory, "IDENTITY"))
    };
    file.ancestors().skip(1).find(|directory| is_store(directory)).map(Path::to_owned)
}

/// Creates a temporary file beside a file. It has the mode of any new file.
fn temporary(target: &Path) -> io::Result<NamedTempFile> {
    let mut prefix = target.file_name().unwrap_or_default().to_owned();
    prefix.push(".");
    let mut builder = Builder::new();
    builder.prefix(&prefix).suffix(".incomplete");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(target.parent().unwrap_or(Path::new("/")))
}

/// Gives a temporary file the owner and the mode of the file that it replaces.
#[cfg(unix)]
fn keep_access(target: &Path, file: &NamedTempFile, path: &Path) -> Result<(), OutputError> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

    let Ok(existing) = fs::metadata(target) else { return Ok(()) };
    let failed = |source| OutputError::Io { action: "set the mode of", path: path.to_owned(), source };
    let created = file.as_file().metadata().map_err(failed)?;
    let (user, group) = (existing.uid(), existing.gid());
    if (created.uid(), created.gid()) != (user, group) && fchown(file.as_file(), Some(user), Some(group)).is_err() {
        return Err(OutputError::OtherOwner { path: path.to_owned(), owner: format!("user {user}, group {group}") });
    }
    let mode = fs::Permissions::from_mode(existing.permissions().mode() & 0o777);
    file.as_file().set_permissions(mode).map_err(failed)
}

#[cfg(not(unix))]
fn keep_access(_: &Path, _: &NamedTempFile, _: &Path) -> Result<(), OutputError> {
    Ok(())
}

/// Syncs the entries of a directory. Has no effect on systems other than Unix, which cannot sync a directory.
///
/// # Errors
/// The error of the operating system.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
