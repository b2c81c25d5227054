//! [`Scratch`]: a temporary copy of the damaged store. The repair changes it to open its databases.

use std::fs;
use std::path::{Path, PathBuf};

use rocksdb::{ColumnFamilyDescriptor, DB, DBRecoveryMode};

use super::sources::Sources;
use super::{RepairError, Report, io_error};
use crate::access;
use crate::acknowledged::Mark;
use crate::database::Database;
use crate::log_file::{self, batches};
use crate::options::{self, Options};
use crate::recovery;

const CURRENT: &str = "CURRENT";
const MANIFEST: &str = "MANIFEST-";
const LOG: &str = ".log";
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
    /// Copies the store, and repairs the log files of the copy.
    pub(super) fn new(store: &Path, notes: &mut Vec<String>) -> Result<Self, RepairError> {
        let scratch = Self::of_index(store, store, notes)?;
        let copy = scratch.store();
        // ORDER: after the correction of flipped bits, so that no record that can be corrected is overwritten.
        for (name, at) in log_file::blank_unreadable_records(&copy).map_err(io_error("repair", &copy))? {
            notes.push(format!("the record at byte {at} of {name} cannot be read; the records after it can"));
        }
        Ok(scratch)
    }

    /// Copies the database of a store, which is in the directory `index`, and repairs its manifest.
    pub(super) fn of_index(store: &Path, index: &Path, notes: &mut Vec<String>) -> Result<Self, RepairError> {
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
        let is_log = |name: &str| name.ends_with(LOG) || name.starts_with(MANIFEST);
        for (name, at) in log_file::repair_bits(&copy, is_log).map_err(io_error("repair", &copy))? {
            notes.push(format!(
                "one bit of the record at byte {at} of {name} was flipped; the checksum of the record corrected it"
            ));
        }
        repair_current(&copy, notes)?;
        Ok(scratch)
    }

    fn store(&self) -> PathBuf {
        self.directory.join("store")
    }

    /// Opens the databases of the copy: one, or two if its manifest is lost, for its table files and its write-ahead
    /// log.
    pub(super) fn open(&self, damaged: &Path, mark: Option<Mark>, report: &mut Report) -> Result<Sources, RepairError> {
        let copy = self.store();
        let (databases, log_directory) = match open(&copy) {
            Ok(database) => (vec![database], copy),
            Err(error) => {
                let note = "the manifest, which lists the table files, was rebuilt from the table and the log files";
                report.notes.push(format!("{note}, because {}", error.into_string()));
                let loss = "possibly the last changes, including deletions, of rows and of claims of unique keys by \
                            removed events";
                report.loss.other.push(loss.to_owned());
                self.open_in_parts(damaged)?
            }
        };
        let readable = databases.iter().map(Database::sequence).max().unwrap_or_default();
        let unreadable = |error: rocksdb::Error| unreadable(damaged, error);
        let inspected = recovery::open_read_only(
            &log_directory,
            DBRecoveryMode::PointInTime,
            &[rocksdb::DEFAULT_COLUMN_FAMILY_NAME],
        )
        .map_err(unreadable)?;
        let survey =
            batches::survey(&log_directory).map_err(io_error("read the write-ahead log in", &log_directory))?;
        let has_hole = inspected.latest_sequence_number() < databases.last().map_or(0, Database::sequence)
            || survey.gap(recovery::needed_log(&inspected)).is_some();
        let is_short = mark.is_some_and(|mark| readable < mark.sequence);
        if has_hole || is_short {
            let place = if has_hole { "in the middle" } else { "at the end" };
            report.loss.other.push(format!("changes of rows {place} of the write-ahead log"));
        }
        Ok(Sources::new(databases))
    }

    /// Opens the copy of an index, which has no write-ahead log. Returns whether its manifest is the original one;
    /// `None` if the copy cannot be opened.
    pub(super) fn open_index(&self, notes: &mut Vec<String>) -> Option<(Sources, bool)> {
        let copy = self.store();
        let error = match open(&copy) {
            Ok(database) => return Some((Sources::new(vec![database]), true)),
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
        Some((Sources::new(vec![opened.ok()?]), false))
    }

    /// Opens the table files with a manifest that RocksDB rebuilds, and the write-ahead log with the manifest of an
    /// empty store. The log has the numbers of column families, and only the manifest has their names; an empty store
    /// assigns the same numbers.
    fn open_in_parts(&self, damaged: &Path) -> Result<(Vec<Database>, PathBuf), RepairError> {
        let unreadable = |error: rocksdb::Error| unreadable(damaged, error);
        let (copy, log) = (self.store(), self.directory.join("log"));
        let options = Options::new();
        let mut creating = options::database(&options);
        creating.create_missing_column_families(true);
        drop(DB::open_cf_descriptors(&creating, &log, options::families(&options)).map_err(unreadable)?);
        let highest = numbered_files(&log)?.into_iter().map(|(number, _)| number).max().unwrap_or_default();
        for (_, own) in
            numbered_files(&log)?.into_iter().filter(|(_, path)| path.extension().is_some_and(|end| end == "log"))
        {
            fs::remove_file(&own).map_err(io_error("remove", &own))?;
        }
        let mut files = numbered_files(&copy)?;
        files.sort();
        for (number, file) in files.into_iter().filter(|(_, path)| path.extension().is_some_and(|end| end == "log")) {
            // RocksDB reads the log files in the order of their numbers, from the number that is in the manifest.
            let to = log.join(format!("{:06}{LOG}", highest + 1 + number));
            fs::rename(&file, &to).map_err(io_error("rename", &file))?;
        }
        let mut databases = Vec::new();
        if has_tables(&copy)? {
            for name in names(&copy)?.iter().filter(|name| *name == CURRENT || name.starts_with(MANIFEST)) {
                fs::remove_file(copy.join(name)).map_err(io_error("remove", &copy))?;
            }
            DB::repair(&rocksdb::Options::default(), &copy).map_err(unreadable)?;
            databases.push(open(&copy).map_err(unreadable)?);
        }
        // ORDER: the log is newer than the tables.
        databases.push(open(&log).map_err(unreadable)?);
        Ok((databases, log))
    }
}

fn unreadable(directory: &Path, error: rocksdb::Error) -> RepairError {
    RepairError::Unreadable { directory: directory.to_owned(), detail: error.into_string() }
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

fn has_tables(directory: &Path) -> Result<bool, RepairError> {
    Ok(names(directory)?.iter().any(|name| name.ends_with(TABLE)))
}

/// Returns the files with a number in their names, such as `000012.log` and `MANIFEST-000011`.
fn numbered_files(directory: &Path) -> Result<Vec<(u64, PathBuf)>, RepairError> {
    let number = |name: &str| name.split(['.', '-']).find_map(|part| part.parse().ok());
    Ok(names(directory)?.into_iter().filter_map(|name| Some((number(&name)?, directory.join(&name)))).collect())
}

/// Opens a database so that readable data can be read despite damage elsewhere.
fn open(directory: &Path) -> Result<Database, rocksdb::Error> {
    let families = DB::list_cf(&rocksdb::Options::default(), directory)?;
    let mut options = rocksdb::Options::default();
    options::set_recovery(&mut options, DBRecoveryMode::SkipAnyCorruptedRecord);
    // Then a table file that is missing or has a wrong length is an error only when it is read.
    options.set_paranoid_checks(false);
    options.set_max_open_files(access::open_files(64));
    let families = families.into_iter().map(|name| ColumnFamilyDescriptor::new(name, rocksdb::Options::default()));
    let db = DB::open_cf_descriptors_read_only(&options, directory, families, false)?;
    Ok(Database::new(db, directory.to_owned()))
}
