//! File permissions of a store, the limit of open files of the process, and attempts to read files that are replaced.
//!
//! The directory of a store is accessible to its user only (mode 0700), so that the modes of its files decide nothing.
//! RocksDB gives its files the default mode of the process. The files of a new store are restricted as well; those that
//! RocksDB creates later have mode 0600 if the process has `umask 077`. Modes of existing stores are not changed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use es_log::MARK_FILE;

use crate::schema::LOG;

/// The number of descriptors that are left for log files and for the rest of the process.
const RESERVED: u64 = 16;
/// The smallest number of open files that RocksDB accepts.
const MIN_OPEN_FILES: u64 = 20;
/// How many databases a backup has open at a time.
const SHARES: u64 = 3;
/// The maximum number of attempts to read files that another process replaces meanwhile, and the pause between them.
pub(crate) const REPLACED_ATTEMPTS: u32 = 100;
pub(crate) const REPLACED_PAUSE: Duration = Duration::from_millis(20);

/// Creates a directory that only its user can access. An existing directory is not changed.
pub(crate) fn create_directory(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Returns options that create a file which only its user can access.
pub(crate) fn file_options() -> fs::OpenOptions {
    let mut options = File::options();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Restricts the files in a directory of a new store to its user.
pub(crate) fn restrict_files(directory: &Path) -> io::Result<()> {
    #[cfg(unix)]
    for entry in fs::read_dir(directory)? {
        use std::os::unix::fs::PermissionsExt;
        match fs::set_permissions(entry?.path(), fs::Permissions::from_mode(0o600)) {
            // RocksDB can remove a file that was listed.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let _ = directory;
    Ok(())
}

/// Returns the store directory that contains a path, or that the path itself names, after links are resolved. The path
/// need not exist.
pub(crate) fn enclosing_store(directory: &Path) -> io::Result<Option<PathBuf>> {
    let full = resolve_links(directory)?;
    let has = |directory: &Path, name: &str| directory.join(name).is_file();
    let is_store = |directory: &Path| {
        has(&directory.join(LOG), MARK_FILE)
            // A store of an earlier format, or another RocksDB database.
            || (has(directory, "CURRENT") && has(directory, "IDENTITY"))
    };
    Ok(full.ancestors().find(|directory| is_store(directory)).map(Path::to_owned))
}

/// Syncs a file, or the entries of a directory. Directories cannot be synced on systems other than Unix.
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    if cfg!(not(unix)) && path.is_dir() {
        return Ok(());
    }
    std::fs::File::open(path)?.sync_all()
}

/// Returns the full path of a directory without links. The directory need not exist; a link to a directory that does
/// not exist is an error.
pub(crate) fn resolve_links(directory: &Path) -> io::Result<PathBuf> {
    let full = std::path::absolute(directory)?;
    match fs::canonicalize(&full) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !full.is_symlink() => {}
        resolved => return resolved,
    }
    let existing = full.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(&full);
    let missing = full.strip_prefix(existing).unwrap_or(Path::new(""));
    Ok(fs::canonicalize(existing)?.join(missing))
}

/// Returns the number of files that the process may have open; `None` if it is not limited.
pub(crate) fn file_limit() -> Option<u64> {
    #[cfg(unix)]
    return rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    None
}

/// Returns RocksDB's limit of open files for a store that is written: the requested one, or half of the files that the
/// process may have open.
pub(crate) fn open_files(requested: i32) -> i32 {
    let limit = file_limit().map_or(i32::MAX, |limit| clamped(limit / 2));
    requested.min(limit)
}

/// Returns RocksDB's limit of open files for a store that is only read: -1 if all of its tables can be open at a time.
///
/// Another process can remove an open table, but not one that was opened and closed. A read of such a table fails. So
/// all tables are opened at once, unless that would exceed the limit of the process.
pub(crate) fn open_files_for_reading(directory: &Path) -> i32 {
    let Some(limit) = file_limit() else { return -1 };
    let free = limit.saturating_sub(open_descriptors()).saturating_sub(RESERVED);
    if tables(directory) <= free { -1 } else { clamped(free / SHARES) }
}

fn clamped(files: u64) -> i32 {
    i32::try_from(files.max(MIN_OPEN_FILES)).unwrap_or(i32::MAX)
}

/// Returns the number of files that a process should be allowed to have open to read a store.
pub(crate) fn needed_files(directory: &Path) -> u64 {
    // A backup also opens the backup before and the new one. The result is a round number, and never a small one.
    (tables(directory).saturating_mul(SHARES) + RESERVED * 2).next_multiple_of(256)
}

/// Returns the number of table files in a directory.
fn tables(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(|name| name.ends_with(".sst"))).count()
        as u64
}

/// Returns the number of files that the process has open; 0 if the system does not list them.
fn open_descriptors() -> u64 {
    fs::read_dir("/dev/fd").map_or(0, |entries| entries.count() as u64)
}

/// Returns whether an error of RocksDB reports that the process has too many files open.
pub(crate) fn is_about_the_file_limit(message: &str) -> bool {
    message.contains("Too many open files")
}

/// Returns the advice for a process that may not have enough files open.
pub(crate) fn file_limit_text(limit: u64, needed: u64) -> String {
    format!(
        "this process may have {limit} files open, expected about {needed}; raise the limit with `ulimit -n {needed}` \
         and try again"
    )
}

/// Returns the file that an error of RocksDB names: `IO error: While open a file: DIRECTORY/000012.sst: Too many open
/// files`.
pub(crate) fn file_of_message(message: &str) -> Option<&Path> {
    let (_, rest) = message.split_once("While ")?;
    let (_, rest) = rest.split_once(": ")?;
    rest.rsplit_once(": ").map(|(file, _)| Path::new(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_an_error_is_found() {
        for file in ["store/000012.sst", "/data/a: b/000012.sst"] {
            let message = format!("IO error: While open a file for random read: {file}: Too many open files");
            assert_eq!(file_of_message(&message), Some(Path::new(file)));
        }
        assert_eq!(file_of_message("Corruption: Too many open files"), None);
    }
}
