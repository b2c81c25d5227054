//! [`Scratch`]: a temporary copy of the index of the damaged store. The repair changes it to open it.

use std::fs;
use std::path::{Path, PathBuf};

use rocksdb::{ColumnFamilyDescriptor, DB};

use super::sources::Sources;
use super::{RepairError, io_error};
use crate::access;
use crate::engine::database::Database;

const CURRENT: &str = "CURRENT";
const MANIFEST: &str = "MANIFEST-";
const TABLE: &str = ".sst";
/// The file that marks a directory of a repair.
const MARKER: &str = "es-repair";

/// The temporary directory of a repair. Dropping it removes the directory.
#[derive(Debug)]
pub(super) struct Scratch {
    directory: PathBuf,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            tracing::warn!(directory = %self.directory.display(), %error, "could not remove the scratch directory");
        }
    }
}

impl Scratch {
    /// Copies the index of a store, which is in the directory `index`.
    pub(super) fn new(store: &Path, index: &Path, notes: &mut Vec<String>) -> Result<Self, RepairError> {
        let scratch = Self { directory: create(store)? };
        let copy = scratch.store();
        access::create_directory(&copy).map_err(io_error("create the directory", &copy))?;
        for entry in fs::read_dir(index).map_err(io_error("read the directory", index))? {
            let entry = entry.map_err(io_error("read the directory", index))?;
            let (from, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let is_needed = name != "LOCK" && !name.starts_with("LOG");
            if !is_needed || !entry.file_type().map_err(io_error("inspect", &from))?.is_file() {
                continue;
            }
            let to = copy.join(&name);
            // RocksDB never changes a table file, so that a link is sufficient. The other files are changed here.
            if !(name.ends_with(TABLE) && fs::hard_link(&from, &to).is_ok()) {
                fs::copy(&from, &to).map_err(io_error("copy", &from))?;
            }
        }
        repair_current(&copy, notes)?;
        Ok(scratch)
    }

    fn store(&self) -> PathBuf {
        self.directory.join("store")
    }

    /// Opens the copy. Returns whether its manifest is the original one; `None` if the copy cannot be opened.
    pub(super) fn open_index(&self, notes: &mut Vec<String>) -> Option<(Sources, bool)> {
        let copy = self.store();
        let error = match open(&copy) {
            Ok(database) => return Some((Sources::new(database), true)),
            Err(error) => error.into_string(),
        };
        for name in names(&copy).ok()?.iter().filter(|name| *name == CURRENT || name.starts_with(MANIFEST)) {
            fs::remove_file(copy.join(name)).ok()?;
        }
        let opened = DB::repair(&rocksdb::Options::default(), &copy).and_then(|()| open(&copy));
        let note = match &opened {
            Ok(_) => "the manifest of the index, which lists its tables, was rebuilt from the tables",
            Err(_) => "the index cannot be opened, and is written again from the log",
        };
        notes.push(format!("{note}, because {error}"));
        Some((Sources::new(opened.ok()?), false))
    }
}

/// Creates a directory beside the store, or in the directory for temporary files if that fails.
fn create(store: &Path) -> Result<PathBuf, RepairError> {
    let name = store.file_name().unwrap_or_default().to_string_lossy();
    let sibling = store.with_file_name(format!("{name}.repairing"));
    if sibling.join(MARKER).exists() {
        // A killed repair has left it.
        fs::remove_dir_all(&sibling).map_err(io_error("remove the directory of an interrupted repair,", &sibling))?;
    }
    let temporary = std::env::temp_dir().join(format!("{MARKER}-{}-{name}", std::process::id()));
    let directory = if access::create_directory(&sibling).is_ok() {
        sibling
    } else {
        access::create_directory(&temporary).map_err(io_error("create the directory", &temporary))?;
        temporary
    };
    fs::write(directory.join(MARKER), b"").map_err(io_error("write to", &directory))?;
    Ok(directory)
}

/// Writes the name of the last manifest to `CURRENT`, if that does not name an existing one.
fn repair_current(copy: &Path, notes: &mut Vec<String>) -> Result<(), RepairError> {
    let current = copy.join(CURRENT);
    let named = fs::read_to_string(&current).unwrap_or_default();
    let is_valid = named.ends_with('\n') && named.starts_with(MANIFEST) && copy.join(named.trim_end()).is_file();
    let number = |name: &str| name.strip_prefix(MANIFEST).and_then(|number| number.parse::<u64>().ok());
    let last = names(copy)?.into_iter().filter_map(|name| Some((number(&name)?, name))).max();
    if let Some((_, last)) = last.filter(|_| !is_valid) {
        fs::write(&current, format!("{last}\n")).map_err(io_error("write", &current))?;
        notes.push(format!("the file CURRENT is missing or torn; the last manifest is {last}"));
    }
    Ok(())
}

fn names(directory: &Path) -> Result<Vec<String>, RepairError> {
    let entries = fs::read_dir(directory).map_err(io_error("read the directory", directory))?;
    let names: Result<_, _> = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect();
    names.map_err(io_error("read the directory", directory))
}

/// Opens a database so that readable data can be read despite damage elsewhere.
fn open(directory: &Path) -> Result<Database, rocksdb::Error> {
    let families = DB::list_cf(&rocksdb::Options::default(), directory)?;
    let mut options = rocksdb::Options::default();
    // Then a table file that is missing or has a wrong length is an error only when it is read.
    options.set_paranoid_checks(false);
    options.set_max_open_files(access::open_files(64));
    let families = families.into_iter().map(|name| ColumnFamilyDescriptor::new(name, rocksdb::Options::default()));
    let db = DB::open_cf_descriptors_read_only(&options, directory, families, false)?;
    Ok(Database::new(db, directory.to_owned()))
}
