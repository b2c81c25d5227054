//! The files of backups.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::BackupError;
use crate::access;
use crate::engine::layout::{INDEX, LOG};
use crate::marker;
use crate::open;

pub(super) const INCOMPLETE: &str = "incomplete";
const LOCK: &str = "lock";

/// Returns the conversion of an error of the operating system that occurred during `action`.
pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io { action, path, source }
}

/// Returns the complete backups in a directory, oldest first.
pub(super) fn list(directory: &Path) -> Result<Vec<(u32, PathBuf)>, BackupError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("read the directory", directory)(error)),
    };
    let mut backups = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io_error("read the directory", directory))?;
        backups.extend(marker::number_of(&entry.path()).map(|number| (number, entry.path())));
    }
    backups.sort();
    Ok(backups)
}

/// Checks that a directory, which need not exist, is not within a store.
pub(super) fn check_outside(directory: &Path) -> Result<(), BackupError> {
    match access::enclosing_store(directory).map_err(io_error("find the full path of", directory))? {
        Some(store) => Err(BackupError::WithinStore { store, directory: directory.to_owned() }),
        None => Ok(()),
    }
}

/// Creates and locks the directory, until the file is dropped or the process ends.
pub(super) fn lock(directory: &Path) -> Result<File, BackupError> {
    // A first backup that was interrupted has left its lock, too. Without that, the incomplete directory is a restore
    // that is under way, or of another program.
    let known: &[&str] = if directory.join(LOCK).exists() { &[INCOMPLETE, LOCK] } else { &[] };
    if list(directory)?.is_empty() && !is_empty_except(directory, known)? {
        return Err(BackupError::NotEmpty { directory: directory.to_owned() });
    }
    // The parent directory is synced, too: otherwise a power failure can remove the directory with its synced files.
    open::directory::create_durably(directory).map_err(io_error("create the directory", directory))?;
    let path = directory.join(LOCK);
    let file = access::file_options().create(true).append(true).open(&path).map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let source = io::Error::new(io::ErrorKind::WouldBlock, "another backup into this directory is under way");
            Err(io_error("lock", &path)(source))
        }
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path)(error)),
    }
}

/// Creates the directory of the next backup.
pub(super) fn begin(directory: &Path) -> Result<PathBuf, BackupError> {
    let incomplete = directory.join(INCOMPLETE);
    if incomplete.exists() {
        fs::remove_dir_all(&incomplete).map_err(io_error("remove an incomplete backup", &incomplete))?;
    }
    access::create_directory(&incomplete).map_err(io_error("create the directory", &incomplete))?;
    Ok(incomplete)
}

/// Marks and syncs a complete backup, and renames it to its number.
pub(super) fn complete(directory: &Path, incomplete: &Path, number: u32) -> Result<PathBuf, BackupError> {
    let complete = directory.join(format!("{}{number:06}", marker::DIRECTORY_PREFIX));
    // ORDER: after the last write to the backup, and before it has a name.
    marker::write(incomplete).map_err(io_error("mark", incomplete))?;
    // ORDER: syncs all files before the name, so that a backup with a number is complete after a power failure.
    sync_all(incomplete)?;
    fs::rename(incomplete, &complete).map_err(io_error("rename", incomplete))?;
    sync(directory)?;
    Ok(complete)
}

/// Syncs a directory, its files, and the directories in it.
pub(super) fn sync_all(directory: &Path) -> Result<(), BackupError> {
    for entry in fs::read_dir(directory).map_err(io_error("read the directory", directory))? {
        let path = entry.map_err(io_error("read the directory", directory))?.path();
        if path.is_dir() { sync_all(&path)? } else { sync(&path)? }
    }
    sync(directory)
}

pub(super) fn sync(path: &Path) -> Result<(), BackupError> {
    access::sync(path).map_err(io_error("sync", path))
}

/// Returns the files of a closed store, without its lock, its log messages, and the marker of a backup.
pub(super) fn store_files(directory: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(io_error("read the directory", directory))? {
        let entry = entry.map_err(io_error("read the directory", directory))?;
        let name = entry.file_name();
        let is_excluded =
            name.to_str().is_some_and(|name| name == "LOCK" || name == marker::FILE_NAME || name.starts_with("LOG"));
        let is_file = entry.file_type().map_err(io_error("inspect", &entry.path()))?.is_file();
        if is_file && !is_excluded {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Returns whether a directory does not exist, or has no entries other than these names.
fn is_empty_except(directory: &Path, names: &[&str]) -> Result<bool, BackupError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(io_error("read the directory", directory)(error)),
    };
    for entry in entries {
        let name = entry.map_err(io_error("read the directory", directory))?.file_name();
        if !names.iter().any(|known| name == *known) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The target of a restore. The store is in a directory within it until it is complete, and no program opens the target
/// as long as that is in it. Dropping an incomplete target removes what this restore has made, and nothing else.
#[derive(Debug)]
pub(super) struct RestoreTarget<'a> {
    directory: &'a Path,
    incomplete: PathBuf,
    is_new: bool,
    is_complete: bool,
}

impl Drop for RestoreTarget<'_> {
    fn drop(&mut self) {
        if self.is_complete {
            return;
        }
        // The error of the restore is returned, not that of the removal.
        let _ = fs::remove_dir_all(&self.incomplete);
        if self.is_new {
            let _ = fs::remove_dir(self.directory);
        }
    }
}

impl<'a> RestoreTarget<'a> {
    /// Creates the directory of the incomplete store in a directory, which must be empty or not exist.
    pub(super) fn create(directory: &'a Path) -> Result<Self, BackupError> {
        if !is_empty_except(directory, &[])? {
            return Err(BackupError::NotEmpty { directory: directory.to_owned() });
        }
        check_outside(directory)?;
        let is_new = !directory.exists();
        open::directory::create_durably(directory).map_err(io_error("create the directory", directory))?;
        let incomplete = directory.join(INCOMPLETE);
        // ORDER: fails if another restore to this directory is under way, before anything would be removed.
        match access::create_directory(&incomplete) {
            Ok(()) => Ok(Self { directory, incomplete, is_new, is_complete: false }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(BackupError::NotEmpty { directory: directory.to_owned() })
            }
            Err(error) => Err(io_error("create the directory", &incomplete)(error)),
        }
    }

    /// Returns the directory of the incomplete store.
    pub(super) fn incomplete(&self) -> &Path {
        &self.incomplete
    }

    /// Moves the store to the target.
    pub(super) fn complete(mut self) -> Result<(), BackupError> {
        // ORDER: an error from here on leaves a directory that no program opens, because a part of the store is moved.
        self.is_complete = true;
        for part in [INDEX, LOG] {
            let path = self.incomplete.join(part);
            fs::rename(&path, self.directory.join(part)).map_err(io_error("rename", &path))?;
        }
        sync(self.directory)?;
        fs::remove_dir_all(&self.incomplete).map_err(io_error("remove", &self.incomplete))?;
        sync(self.directory)
    }
}

/// Removes all entries of a directory.
pub(super) fn empty(directory: &Path) -> Result<(), BackupError> {
    for entry in fs::read_dir(directory).map_err(io_error("read the directory", directory))? {
        let path = entry.map_err(io_error("read the directory", directory))?.path();
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(io_error("remove", &path))?;
    }
    Ok(())
}
