//! Opening of a store: inspects the directory, opens the database, and reads the end of the log.
//!
//! ```text
//!   1 inspect the files ──► 2 inspect the database, read-only ──► 3 open ──► 4 read the end of the log
//!     nothing, a store,       families, format version,             lock
//!     other files             loss by recovery
//! ```
//!
//! Steps 1 and 2 write nothing, so that a store of a later version, a damaged store, and a directory with other files
//! remain unchanged.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::DateTime;
use es_core::model::LogId;
use es_core::store::implement::{KeySecret, ahead_of_clock, check_clock};
use es_core::{StoreError, Timestamp};
use rocksdb::{DB, DBRecoveryMode, WriteBatch};
use uuid::Uuid;

use crate::access;
use crate::acknowledged::{self, MarkFile};
use crate::database::{Database, Tier};
use crate::error::{OpenError, is_about_log_files};
use crate::marker;
use crate::options::{self, Durability, Options};
use crate::overlay::LogEnd;
use crate::recent::RecentIds;
use crate::recovery::{self, Inspection, RecoveredDatabase};
use crate::schema::{Cf, FORMAT_VERSION, META_CREATED, META_FORMAT, META_KEY_SECRET, META_LOG_ID, META_STORE_ID};

/// A store that was opened.
pub(crate) struct Opened {
    pub(crate) database: Arc<Database>,
    pub(crate) mark: MarkFile,
    pub(crate) end: LogEnd,
    pub(crate) recent: RecentIds,
    pub(crate) identity: Identity,
    /// The number of this opening.
    pub(crate) opening: u64,
}

/// The identity of a store, from its metadata.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The id of the store and of its backups.
    pub(crate) id: Uuid,
    /// The id of the log. It differs from the id of the store after a restore.
    pub(crate) log_id: LogId,
    pub(crate) created: Timestamp,
    /// The secret of the hashes of unique keys.
    pub(crate) secret: KeySecret,
}

/// The content of a directory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DirectoryState {
    /// No files, or the first files of a store to which nothing was written yet.
    Empty,
    /// A store.
    Store,
}

/// Opens the store in a directory. Blocks while RocksDB reads the write-ahead log three times.
pub(crate) fn open(directory: &Path, options: &Options) -> Result<Opened, OpenError> {
    check_clock(options.clock.now()).map_err(|error| OpenError::io(directory, "open the store", error))?;
    let directory = if options.create_if_missing { resolve_or_create(directory)? } else { resolve(directory)? };
    if marker::exists(&directory).map_err(|error| OpenError::io(&directory, "inspect the directory", error))? {
        return Err(OpenError::Backup { directory });
    }
    // ORDER: reads the mark before the database, so that the mark is not ahead of the database if another process
    // writes.
    let mark = acknowledged::read(&directory).map_err(|error| OpenError::io(&directory, "read the mark", error))?;
    let (found, readable) = inspect_database(&directory)?;
    let is_examined = match readable {
        Some(readable) => recovery::examine(&directory, mark, readable)?,
        None => false,
    };
    if found == DirectoryState::Empty && !options.create_if_missing {
        return Err(OpenError::NoSuchDirectory { directory });
    }
    let inspection = Inspection { is_new: found == DirectoryState::Empty, is_examined };
    let RecoveredDatabase { db, has_torn_end } = recovery::open_database(&directory, options, inspection)?;
    let database = Database::new(db, directory.clone());
    let identity = identify(&database, &found, options)?;
    let in_log = |error| OpenError::of_store(&directory, "read the end of the log", error);
    let end = end_of_log(&database).map_err(in_log)?;
    if let Some(mark) = mark {
        recovery::check_mark(&database, mark, end.head)?;
    }
    if has_torn_end {
        tracing::warn!(directory = %directory.display(), head = ?end.head, "dropped a torn, unacknowledged commit");
        recovery::check_tail(&database).map_err(in_log)?;
    }
    if let Some(ahead) = ahead_of_clock(end.recorded_at, options.clock.now()) {
        tracing::warn!(
            directory = %directory.display(), recorded_at = ?end.recorded_at, ?ahead,
            "the log is ahead of the clock; events get the time of the last event until the clock has caught up"
        );
    }
    let mark = MarkFile::open(&directory).map_err(|error| match error.kind() {
        // A repair reads the store.
        io::ErrorKind::WouldBlock => OpenError::AlreadyOpen { directory: directory.clone() },
        _ => OpenError::io(&directory, "open the mark", error),
    })?;
    if found == DirectoryState::Empty {
        let restricted = access::restrict_files(&directory);
        restricted.map_err(|error| OpenError::io(&directory, "set the modes of files", error))?;
    }
    let recent = RecentIds::of_database(&database)
        .map_err(|error| OpenError::of_store(&directory, "read the newest event ids", error))?;
    let opening = opening_number(&directory)?;
    Ok(Opened { database: Arc::new(database), mark, end, recent, identity, opening })
}

/// Returns the number of this opening, which is the number of the manifest that the file `CURRENT` names. When RocksDB
/// opens a database, it writes and syncs a new manifest with a greater number than all earlier ones.
fn opening_number(directory: &Path) -> Result<u64, OpenError> {
    let current = fs::read_to_string(directory.join("CURRENT"));
    let current = current.map_err(|error| OpenError::io(directory, "read the file CURRENT", error))?;
    let number = current.trim_end().strip_prefix("MANIFEST-").and_then(|number| number.parse().ok());
    number.ok_or_else(|| {
        OpenError::damaged(directory, format!("expected the name of the manifest in CURRENT, found {current:?}"))
    })
}

/// Inspects the directory, and checks that the store in it can be opened without loss. Writes nothing.
pub(crate) fn examine(directory: &Path) -> Result<DirectoryState, OpenError> {
    let mark = acknowledged::read(directory).map_err(|error| OpenError::io(directory, "read the mark", error))?;
    let (found, readable) = inspect_database(directory)?;
    if let Some(readable) = readable {
        recovery::examine(directory, mark, readable)?;
    }
    Ok(found)
}

/// Returns the full path of a directory; creates the directory if it does not exist.
pub(crate) fn resolve_or_create(directory: &Path) -> Result<PathBuf, OpenError> {
    match resolve(directory) {
        Err(OpenError::NoSuchDirectory { .. }) => {
            let inspect = |error| OpenError::io(directory, "find the full path", error);
            if let Some(store) = access::enclosing_store(directory).map_err(inspect)? {
                let found = format!("a path within the store in {}", store.display());
                return Err(OpenError::not_a_store(directory, found));
            }
            create_durably(directory).map_err(|error| OpenError::io(directory, "create the directory", error))?;
            resolve(directory)
        }
        resolved => resolved,
    }
}

/// Returns the full path of a directory.
///
/// # Errors
/// [`OpenError::NoSuchDirectory`], [`OpenError::NotAStore`] for a file, [`OpenError::Io`].
pub(crate) fn resolve(directory: &Path) -> Result<PathBuf, OpenError> {
    match fs::metadata(directory) {
        Ok(metadata) if !metadata.is_dir() => return Err(OpenError::not_a_store(directory, "a file")),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::NoSuchDirectory { directory: directory.to_owned() });
        }
        Err(error) => return Err(OpenError::io(directory, "inspect the directory", error)),
    }
    // RocksDB identifies a directory by its path: under another path, the same process could open it a second time.
    fs::canonicalize(directory).map_err(|error| OpenError::io(directory, "find the full path", error))
}

/// Creates a directory that only its user can access, and syncs each new directory entry, so that the directory exists
/// after a power failure. Created parent directories have the default mode.
pub(crate) fn create_durably(directory: &Path) -> io::Result<()> {
    let directory = std::path::absolute(directory)?;
    let missing = directory.ancestors().take_while(|ancestor| !ancestor.exists()).count();
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent)?;
    }
    if missing > 0 {
        access::create_directory(&directory)?;
    }
    for parent in directory.ancestors().skip(1).take(missing) {
        access::sync(parent)?;
    }
    Ok(())
}

/// Inspects the directory. Also returns the last readable change of the database, also after an unreadable record;
/// `None` if there is no database or it cannot be read. Writes nothing.
pub(crate) fn inspect_database(directory: &Path) -> Result<(DirectoryState, Option<u64>), OpenError> {
    let io_error = |error| OpenError::io(directory, "inspect the directory", error);
    if !directory.join("CURRENT").try_exists().map_err(io_error)? {
        return inspect_files(directory).map(|found| (found, None));
    }
    // ORDER: before the first read of the database, which is unreliable with such damage.
    recovery::check_log_files(directory)?;
    let families = DB::list_cf(&rocksdb::Options::default(), directory)
        .map_err(|error| OpenError::of_rocksdb(directory, "list the column families", error))?;
    let foreign = families.iter().find(|name| !is_ours(name));
    let (format, readable) = read_format(directory, &families)?;
    let missing = Cf::ALL.iter().map(|cf| cf.name()).find(|name| !families.iter().any(|family| family == name));
    if let Format::Version(found) = format
        && let Some(error) = OpenError::of_format(directory, found)
    {
        return Err(error);
    }
    match (format, missing, foreign) {
        (Format::Unwritten, _, None) => Ok((DirectoryState::Empty, readable)),
        (Format::Foreign, None, None) => {
            Err(OpenError::damaged(directory, "expected a format version in its description, found none"))
        }
        (Format::Unwritten | Format::Foreign, ..) => {
            let names = families.join(", ");
            let found = format!("a RocksDB database of another program, with the column families {names}");
            Err(OpenError::not_a_store(directory, found))
        }
        (_, Some(missing), _) => {
            Err(OpenError::damaged(directory, format!("expected the column family {missing}, found none")))
        }
        (_, None, Some(foreign)) => {
            let expected = Cf::ALL.len();
            Err(OpenError::damaged(directory, format!("expected {expected} column families, found also {foreign}")))
        }
        (Format::Version(_) | Format::Unclear, None, None) => Ok((DirectoryState::Store, readable)),
    }
}

fn is_ours(family: &str) -> bool {
    family == rocksdb::DEFAULT_COLUMN_FAMILY_NAME || Cf::ALL.iter().any(|cf| cf.name() == family)
}

/// Inspects a directory without a database. It is empty if it has no files, or only those that a crash during the
/// creation of a database leaves.
fn inspect_files(directory: &Path) -> Result<DirectoryState, OpenError> {
    let io_error = |error| OpenError::io(directory, "inspect the directory", error);
    for entry in fs::read_dir(directory).map_err(io_error)? {
        let entry = entry.map_err(io_error)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let has_data = name.ends_with(".sst")
            || (name.ends_with(".log") && entry.metadata().map_err(io_error)?.len() > 0)
            || name == acknowledged::FILE_NAME;
        if has_data {
            // RocksDB would create a new database here, and delete these files as obsolete.
            return Err(OpenError::damaged(directory, format!("expected the file CURRENT beside {name}, found none")));
        }
        let is_leftover = ["LOCK", "LOG", "IDENTITY", "MANIFEST-", "OPTIONS-"].iter().any(|own| name.starts_with(own))
            || [".log", ".dbtmp"].iter().any(|own| name.ends_with(own));
        if !is_leftover && name != "lost+found" {
            return Err(OpenError::not_a_store(directory, format!("other files, such as {name}")));
        }
    }
    Ok(DirectoryState::Empty)
}

/// The format of a database.
#[derive(Debug, PartialEq, Eq)]
enum Format {
    Version(u32),
    /// The database is new: nothing was written to it.
    Unwritten,
    /// The database has data, but no format version.
    Foreign,
    /// The database cannot be read, because of damage or because another process is writing. Opening it will return the
    /// reason.
    Unclear,
}

/// Returns the format of the database, and the last readable change, also after an unreadable record.
fn read_format(directory: &Path, families: &[String]) -> Result<(Format, Option<u64>), OpenError> {
    let meta = Cf::Meta.name();
    let has_meta = families.iter().any(|family| family == meta);
    let names: Vec<_> = [rocksdb::DEFAULT_COLUMN_FAMILY_NAME].into_iter().chain(has_meta.then_some(meta)).collect();
    let db = match recovery::open_read_only(directory, DBRecoveryMode::SkipAnyCorruptedRecord, &names) {
        Ok(db) => db,
        Err(error) if is_about_log_files(&error) => {
            return Err(OpenError::of_rocksdb(directory, "inspect the database", error));
        }
        Err(error) => {
            tracing::debug!(directory = %directory.display(), %error, "could not read the database before opening it");
            return Ok((Format::Unclear, None));
        }
    };
    let written = match db.cf_handle(meta) {
        Some(meta) => db
            .get_cf(meta, META_FORMAT)
            .map_err(|error| OpenError::of_rocksdb(directory, "read the format version", error))?,
        None => None,
    };
    let readable = db.latest_sequence_number();
    let format = match written {
        Some(bytes) => Format::Version(decode_format(directory, &bytes)?),
        None if readable == 0 => Format::Unwritten,
        None => Format::Foreign,
    };
    Ok((format, Some(readable)))
}

pub(crate) fn decode_format(directory: &Path, bytes: &[u8]) -> Result<u32, OpenError> {
    match bytes.try_into().map(u32::from_be_bytes) {
        Ok(version) if version > 0 => Ok(version),
        _ => {
            let found = bytes.escape_ascii();
            Err(OpenError::damaged(directory, format!("expected a format version from 1 in 4 bytes, found {found}")))
        }
    }
}

/// Reads the identity of a store; gives a new store its identity.
pub(crate) fn identify(database: &Database, found: &DirectoryState, options: &Options) -> Result<Identity, OpenError> {
    let directory = database.directory();
    let in_store = |error| OpenError::of_store(directory, "read the description of the store", error);
    let read = |key: &[u8]| -> Result<_, StoreError> {
        Ok(database.get(Cf::Meta, key, Tier::Any)?.map(|value| value.to_vec()))
    };
    if *found == DirectoryState::Empty && read(META_FORMAT).map_err(in_store)?.is_none() {
        create(database, options)?;
    }
    let require = |key: &[u8]| {
        let missing =
            || OpenError::damaged(directory, format!("expected {} in its description, found none", key.escape_ascii()));
        read(key).map_err(in_store)?.ok_or_else(missing)
    };
    // Checked again: the inspection may have failed, and another process may have written since.
    let version = decode_format(directory, &require(META_FORMAT)?)?;
    if let Some(error) = OpenError::of_format(directory, version) {
        return Err(error);
    }
    read_identity(database)
}

/// Reads the identity of a store from its metadata.
pub(crate) fn read_identity(database: &Database) -> Result<Identity, OpenError> {
    let directory = database.directory();
    let in_store = |error| OpenError::of_store(directory, "read the description of the store", error);
    let read = |key: &[u8]| -> Result<_, StoreError> {
        Ok(database.get(Cf::Meta, key, Tier::Any)?.map(|value| value.to_vec()))
    };
    let require = |key: &[u8]| {
        let missing =
            || OpenError::damaged(directory, format!("expected {} in its description, found none", key.escape_ascii()));
        read(key).map_err(in_store)?.ok_or_else(missing)
    };
    let id = require(META_STORE_ID)?;
    let id = Uuid::from_slice(&id)
        .map_err(|_| OpenError::damaged(directory, format!("expected a store id of 16 bytes, found {}", id.len())))?;
    let log_id = match read(META_LOG_ID).map_err(in_store)? {
        None => id,
        Some(id) => Uuid::from_slice(&id)
            .map_err(|_| OpenError::damaged(directory, format!("expected a log id of 16 bytes, found {}", id.len())))?,
    };
    let created = require(META_CREATED)?;
    let micros = created.as_slice().try_into().ok().map(i64::from_be_bytes);
    let created = micros.and_then(DateTime::from_timestamp_micros).ok_or_else(|| {
        OpenError::damaged(directory, format!("expected a time of creation, found {}", created.escape_ascii()))
    })?;
    let secret = require(META_KEY_SECRET)?;
    let secret = secret.as_slice().try_into().map(KeySecret::from_bytes).map_err(|_| {
        OpenError::damaged(
            directory,
            format!("expected a secret of {} bytes, found {}", KeySecret::BYTES, secret.len()),
        )
    })?;
    Ok(Identity { id, log_id: LogId::from_uuid(log_id), created, secret })
}

fn create(database: &Database, options: &Options) -> Result<(), OpenError> {
    let directory = database.directory();
    let meta =
        database.family(Cf::Meta).map_err(|error| OpenError::of_store(directory, "describe the store", error))?;
    let mut batch = WriteBatch::new();
    batch.put_cf(meta, META_FORMAT, FORMAT_VERSION.to_be_bytes());
    batch.put_cf(meta, META_KEY_SECRET, KeySecret::random().as_bytes());
    batch.put_cf(meta, META_STORE_ID, LogId::new().as_uuid().as_bytes());
    batch.put_cf(meta, META_CREATED, options.clock.now().timestamp_micros().to_be_bytes());
    database
        .raw()
        .write_opt(batch, &options::write(Durability::Sync))
        .map_err(|error| OpenError::of_rocksdb(directory, "describe the store", error))
}

/// Changes the id of the log of a closed store.
pub(crate) fn set_log_id(directory: &Path, log_id: LogId) -> Result<(), OpenError> {
    let opened = open(directory, &Options::new().create_if_missing(false))?;
    let in_store = |error| OpenError::of_store(directory, "change the id of the log", error);
    let meta = opened.database.family(Cf::Meta).map_err(in_store)?;
    let mut batch = WriteBatch::new();
    batch.put_cf(meta, META_LOG_ID, log_id.as_uuid().as_bytes());
    let written = opened.database.raw().write_opt(batch, &options::write(Durability::Sync));
    written.map_err(|error| OpenError::of_rocksdb(directory, "change the id of the log", error))?;
    opened.database.flush().map_err(in_store)
}

/// Returns the end of the log. Checks that the last event is also stored under its stream and its id, and is the head
/// of its stream.
pub(crate) fn end_of_log(database: &Database) -> Result<LogEnd, StoreError> {
    let Some(last) = database.last_event()? else { return Ok(LogEnd::default()) };
    recovery::check_event(database, &last)?;
    recovery::check_head(database, &last)?;
    Ok(LogEnd { head: Some(last.position), recorded_at: Some(last.recorded_at) })
}
