//! The files of backups.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::BackupError;
use crate::access;
use crate::marker;
use crate::open;
use crate::verify::Progress;

const INCOMPLETE: &str = "incomplete";
const LOCK: &str = "lock";
/// The file by which RocksDB knows that there is a database.
const CURRENT: &str = "CURRENT";

fn refused(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io { action, path, source }
}

/// The complete backups in a directory, oldest first.
pub(super) fn list(directory: &Path) -> Result<Vec<(u32, PathBuf)>, BackupError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(refused("read the directory", directory)(error)),
    };
    let mut backups = Vec::new();
    for entry in entries {
        let entry = entry.map_err(refused("read the directory", directory))?;
        backups.extend(marker::number_of(&entry.path()).map(|number| (number, entry.path())));
    }
    backups.sort();
    Ok(backups)
}

/// Refuses a directory that is, or would be, within a store.
pub(super) fn check_outside(directory: &Path) -> Result<(), BackupError> {
    match access::enclosing_store(directory).map_err(refused("find the full path of", directory))? {
        Some(store) => Err(BackupError::WithinStore { store, directory: directory.to_owned() }),
        None => Ok(()),
    }
}

/// Takes the directory for one backup at a time, until the file is dropped or the process ends.
pub(super) fn lock(directory: &Path) -> Result<File, BackupError> {
    if list(directory)?.is_empty() && !is_empty_except(directory, &[INCOMPLETE, LOCK])? {
        return Err(BackupError::NotEmpty { directory: directory.to_owned() });
    }
    // The parent directory is synced, too: otherwise a power failure can remove the directory with its synced files.
    open::create_durably(directory).map_err(refused("create the directory", directory))?;
    let path = directory.join(LOCK);
    let file = access::file_options().create(true).append(true).open(&path).map_err(refused("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let source = io::Error::new(io::ErrorKind::WouldBlock, "another backup into this directory is under way");
            Err(refused("lock", &path)(source))
        }
        Err(TryLockError::Error(error)) => Err(refused("lock", &path)(error)),
    }
}

/// A directory for the next backup, with what the last one has.
pub(super) fn begin(directory: &Path, last: Option<&Path>) -> Result<PathBuf, BackupError> {
    let incomplete = directory.join(INCOMPLETE);
    if incomplete.exists() {
        fs::remove_dir_all(&incomplete).map_err(refused("remove an incomplete backup", &incomplete))?;
    }
    access::create_directory(&incomplete).map_err(refused("create the directory", &incomplete))?;
    for file in last.map(store_files).transpose()?.into_iter().flatten() {
        let Some(name) = file.file_name() else { continue };
        let (is_table, to) = (file.extension().is_some_and(|extension| extension == "sst"), incomplete.join(name));
        // NOTE: RocksDB never changes a table file, it only removes it. All other files it does change.
        if !(is_table && fs::hard_link(&file, &to).is_ok()) {
            fs::copy(&file, &to).map_err(refused("copy", &file))?;
        }
    }
    Ok(incomplete)
}

/// Gives a backup that is complete its name.
pub(super) fn complete(directory: &Path, incomplete: &Path, number: u32) -> Result<PathBuf, BackupError> {
    let complete = directory.join(format!("{}{number:06}", marker::DIRECTORY_PREFIX));
    // ORDER: after the last write to the backup, and before it has a name.
    marker::write(incomplete).map_err(refused("mark", incomplete))?;
    // ORDER: everything is on the disk before the name is, so that a backup that has a name is whole also after a power failure.
    for file in store_files(incomplete)? {
        sync(&file)?;
    }
    sync(incomplete)?;
    fs::rename(incomplete, &complete).map_err(refused("rename", incomplete))?;
    sync(directory)?;
    Ok(complete)
}

fn sync(path: &Path) -> Result<(), BackupError> {
    access::sync(path).map_err(refused("sync", path))
}

/// The files of a closed store, without its lock, its messages, and the marker of a backup.
fn store_files(directory: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(refused("read the directory", directory))? {
        let entry = entry.map_err(refused("read the directory", directory))?;
        let name = entry.file_name();
        let is_left_out =
            name.to_str().is_some_and(|name| name == "LOCK" || name == marker::FILE_NAME || name.starts_with("LOG"));
        let is_file = entry.file_type().map_err(refused("look at", &entry.path()))?.is_file();
        if is_file && !is_left_out {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a directory has nothing, or is not there, but for these names.
fn is_empty_except(directory: &Path, names: &[&str]) -> Result<bool, BackupError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(refused("read the directory", directory)(error)),
    };
    for entry in entries {
        let name = entry.map_err(refused("read the directory", directory))?.file_name();
        if !names.iter().any(|known| name == *known) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a directory is not there; one that is must be empty.
pub(super) fn is_free(directory: &Path) -> Result<bool, BackupError> {
    if !is_empty_except(directory, &[])? {
        return Err(BackupError::NotEmpty { directory: directory.to_owned() });
    }
    Ok(!directory.exists())
}

/// Copies a closed store into a directory that is [free](is_free), and changes the copy before it is complete.
///
/// The copy is made in a subdirectory, so that the directory has either no store or the changed one.
pub(super) fn copy_store(
    from: &Path,
    to: &Path,
    change: impl FnOnce(&Path) -> Result<(), BackupError>,
    progress: Progress<'_>,
) -> Result<(), BackupError> {
    let incomplete = to.join(INCOMPLETE);
    open::create_durably(&incomplete).map_err(refused("create the directory", &incomplete))?;
    let files = store_files(from)?;
    let total = files.len() as u64;
    for (done, file) in (1..).zip(&files) {
        let Some(name) = file.file_name() else { continue };
        fs::copy(file, incomplete.join(name)).map_err(refused("copy", file))?;
        progress("files", done, Some(total));
    }
    change(&incomplete)?;
    let mut files = store_files(&incomplete)?;
    // ORDER: the file that makes it a store comes last, so that half a copy does not open.
    files.sort_by_key(|file| file.file_name().is_some_and(|name| name == CURRENT));
    for file in &files {
        let Some(name) = file.file_name() else { continue };
        sync(file)?;
        if name == CURRENT {
            sync(to)?;
        }
        fs::rename(file, to.join(name)).map_err(refused("rename", file))?;
    }
    fs::remove_dir_all(&incomplete).map_err(refused("remove", &incomplete))?;
    sync(to)
}

/// Removes what is in a directory.
pub(super) fn empty(directory: &Path) -> Result<(), BackupError> {
    for entry in fs::read_dir(directory).map_err(refused("read the directory", directory))? {
        let path = entry.map_err(refused("read the directory", directory))?.path();
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(refused("remove", &path))?;
    }
    Ok(())
}
