//! The file `BACKUP`, which marks a backup. A backup is not opened for writing, because the next backup continues it.

use std::io::{self, Write};
use std::path::Path;

use crate::access;

/// The name of the file. RocksDB ignores files that it does not know.
pub(crate) const FILE_NAME: &str = "BACKUP";
/// The beginning of the name of a backup's directory; the rest is its number.
pub(crate) const DIRECTORY_PREFIX: &str = "backup-";
/// The content, for people.
const TEXT: &str = "This is a backup of an event store. `es restore` makes a store of it.\n";

/// Marks the store in a directory as a backup.
pub(crate) fn write(directory: &Path) -> io::Result<()> {
    let path = directory.join(FILE_NAME);
    let mut file = access::file_options().create(true).truncate(true).write(true).open(path)?;
    file.write_all(TEXT.as_bytes())?;
    file.sync_all()
}

/// Returns whether the store in a directory is a backup.
pub(crate) fn exists(directory: &Path) -> io::Result<bool> {
    directory.join(FILE_NAME).try_exists()
}

/// Returns the number of a backup by the name of its directory.
pub(crate) fn number_of(directory: &Path) -> Option<u32> {
    directory.file_name()?.to_str()?.strip_prefix(DIRECTORY_PREFIX)?.parse().ok()
}

/// Returns the command that makes a store of a backup.
pub(crate) fn restore_command(backup: &Path) -> String {
    let number = number_of(backup).map(|number| format!(" --number {number}")).unwrap_or_default();
    format!("es restore {}{number} --to DIR", backup.parent().unwrap_or(backup).display())
}
