//! A copy of the damaged directory that may be changed, and the databases that can be opened in it.

use std::fs;
use std::path::{Path, PathBuf};

use rocksdb::{ColumnFamilyDescriptor, DB, DBRecoveryMode};

use super::sources::Sources;
use super::{RepairError, Report, refused};
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
/// What tells a directory of ours from any other.
const MARKER: &str = "es-repair";

/// The directory of a repair. It is removed when it is dropped.
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
    /// Copies the store, and sets right in the copy what is certain.
    pub(super) fn new(store: &Path, notes: &mut Vec<String>) -> Result<Self, RepairError> {
        let scratch = Self { directory: create(store)? };
        let copy = scratch.store();
        access::create_directory(&copy).map_err(refused("create the directory", &copy))?;
        for entry in fs::read_dir(store).map_err(refused("read the directory", store))? {
            let entry = entry.map_err(refused("read the directory", store))?;
            let (from, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let is_needed = name != "LOCK" && !name.starts_with("LOG");
            if !is_needed || !entry.file_type().map_err(refused("look at", &from))?.is_file() {
                continue;
            }
            let to = copy.join(&name);
            // NOTE: RocksDB never changes a table file. All other files are copied, because they are changed here.
            if !(name.ends_with(TABLE) && fs::hard_link(&from, &to).is_ok()) {
                fs::copy(&from, &to).map_err(refused("copy", &from))?;
            }
        }
        let is_log = |name: &str| name.ends_with(LOG) || name.starts_with(MANIFEST);
        for (name, at) in log_file::repair_bits(&copy, is_log).map_err(refused("repair", &copy))? {
            notes.push(format!(
                "one bit of the record at byte {at} of {name} is set right: its checksum says which one it was"
            ));
        }
        // ORDER: behind that, because what can be set right must not be passed over.
        for (name, at) in log_file::bridge_broken_records(&copy).map_err(refused("repair", &copy))? {
            notes.push(format!("the record at byte {at} of {name} cannot be read; the records after it can"));
        }
        repair_current(&copy, notes)?;
        Ok(scratch)
    }

    fn store(&self) -> PathBuf {
        self.directory.join("store")
    }

    /// Opens what can be opened. A store whose manifest is gone comes in two: its tables, and its write-ahead log.
    pub(super) fn open(&self, damaged: &Path, mark: Option<Mark>, report: &mut Report) -> Result<Sources, RepairError> {
        let copy = self.store();
        let (databases, log_directory) = match open(&copy) {
            Ok(database) => (vec![database], copy),
            Err(error) => {
                let note =
                    "the manifest, which says which tables there are, is made anew from the tables and the log files";
                report.notes.push(format!("{note}, because {}", error.into_string()));
                report
                    .loss
                    .other
                    .push("rows, and claims of unique keys by removed events, may be of an earlier time, or be there though removed".to_owned());
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
            batches::survey(&log_directory).map_err(refused("look at the write-ahead log in", &log_directory))?;
        let has_hole = inspected.latest_sequence_number() < databases.last().map_or(0, Database::sequence)
            || survey.gap(recovery::needed_log(&inspected)).is_some();
        let is_short = mark.is_some_and(|mark| readable < mark.sequence);
        if has_hole || is_short {
            let what = if has_hole { "in the middle" } else { "at the end" };
            report.loss.other.push(format!("changes of rows that stood {what} of the write-ahead log"));
        }
        Ok(Sources::new(databases))
    }

    /// The tables under a manifest that RocksDB makes of them, and the write-ahead log under one of an empty store. The families
    /// of a log are numbers, which only the manifest names; an empty store gives its families the same numbers.
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
            fs::remove_file(&own).map_err(refused("remove", &own))?;
        }
        let mut files = numbered_files(&copy)?;
        files.sort();
        for (number, file) in files.into_iter().filter(|(_, path)| path.extension().is_some_and(|end| end == "log")) {
            // NOTE: RocksDB reads the log files from the number on that the manifest names, in the order of their numbers.
            let to = log.join(format!("{:06}{LOG}", highest + 1 + number));
            fs::rename(&file, &to).map_err(refused("rename", &file))?;
        }
        let mut databases = Vec::new();
        if has_tables(&copy)? {
            for name in names(&copy)?.iter().filter(|name| *name == CURRENT || name.starts_with(MANIFEST)) {
                fs::remove_file(copy.join(name)).map_err(refused("remove", &copy))?;
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

/// A new directory beside the store, or among the temporary files where nothing can be written beside it.
fn create(store: &Path) -> Result<PathBuf, RepairError> {
    let name = store.file_name().unwrap_or_default().to_string_lossy();
    let sibling = store.with_file_name(format!("{name}.repairing"));
    if sibling.join(MARKER).exists() {
        // NOTE: of a repair that was killed.
        fs::remove_dir_all(&sibling).map_err(refused("remove what an earlier repair has left in", &sibling))?;
    }
    let temporary = std::env::temp_dir().join(format!("{MARKER}-{}-{name}", std::process::id()));
    let directory = if access::create_directory(&sibling).is_ok() {
        sibling
    } else {
        access::create_directory(&temporary).map_err(refused("create the directory", &temporary))?;
        temporary
    };
    fs::write(directory.join(MARKER), b"").map_err(refused("write to", &directory))?;
    Ok(directory)
}

/// Makes `CURRENT` name the last manifest, where it names none that is there.
fn repair_current(copy: &Path, notes: &mut Vec<String>) -> Result<(), RepairError> {
    let current = copy.join(CURRENT);
    let named = fs::read_to_string(&current).unwrap_or_default();
    let is_valid = named.ends_with('\n') && named.starts_with(MANIFEST) && copy.join(named.trim_end()).is_file();
    let number = |name: &str| name.strip_prefix(MANIFEST).and_then(|number| number.parse::<u64>().ok());
    let last = names(copy)?.into_iter().filter_map(|name| Some((number(&name)?, name))).max();
    if let Some((_, last)) = last.filter(|_| !is_valid) {
        fs::write(&current, format!("{last}\n")).map_err(refused("write", &current))?;
        notes.push(format!("the file CURRENT is missing or torn; the last manifest is {last}"));
    }
    Ok(())
}

fn names(directory: &Path) -> Result<Vec<String>, RepairError> {
    let entries = fs::read_dir(directory).map_err(refused("read the directory", directory))?;
    let names: Result<_, _> = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect();
    names.map_err(refused("read the directory", directory))
}

fn has_tables(directory: &Path) -> Result<bool, RepairError> {
    Ok(names(directory)?.iter().any(|name| name.ends_with(TABLE)))
}

/// Files whose names begin with a number, or end with one behind a dash.
fn numbered_files(directory: &Path) -> Result<Vec<(u64, PathBuf)>, RepairError> {
    let number = |name: &str| name.split(['.', '-']).find_map(|part| part.parse().ok());
    Ok(names(directory)?.into_iter().filter_map(|name| Some((number(&name)?, directory.join(&name)))).collect())
}

/// Opens a database so that what cannot be read hides nothing else.
fn open(directory: &Path) -> Result<Database, rocksdb::Error> {
    let families = DB::list_cf(&rocksdb::Options::default(), directory)?;
    let mut options = rocksdb::Options::default();
    options::set_recovery(&mut options, DBRecoveryMode::SkipAnyCorruptedRecord);
    // NOTE: a table that is missing or has another length is an error only when it is read.
    options.set_paranoid_checks(false);
    options.set_max_open_files(access::open_files(64));
    let families = families.into_iter().map(|name| ColumnFamilyDescriptor::new(name, rocksdb::Options::default()));
    let db = DB::open_cf_descriptors_read_only(&options, directory, families, false)?;
    Ok(Database::new(db, directory.to_owned()))
}
