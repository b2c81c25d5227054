//! Opening of a store for writing: the index and the log.
//!
//! ```text
//!   opening, rebuild (the index of a repaired store) ──► replay ──► the index, the decisions
//! ```

pub(crate) mod directory;
pub(crate) mod rebuild;
pub(crate) mod replay;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use es_core::StoreError;
use es_core::model::LogId;
use es_core::store::implement::{Decider, KeySecret, check_clock};
use es_log::{Disk, Log, LogOptions, ReadableLog, SystemDisk};
use rocksdb::{Cache, ColumnFamilyDescriptor, DB, WriteBatch};

use crate::access;
use crate::engine::database::{Database, Tier};
use crate::engine::layout::{self, INDEX, LOG, TABLES};
use crate::error::OpenError;
use crate::marker;
use crate::open::directory::Identity;
use crate::open::replay::{ReplayAccess, restore};
use crate::options::{self, Durability, OnWriteFailure, Options};
use crate::schema::{Cf, FORMAT_VERSION, META_CREATED, META_FORMAT, META_KEY_SECRET, META_STORE_ID};
use crate::writer::publish::Publisher;

/// An open store without its handle.
pub(crate) struct OpenedLog {
    pub(crate) log: Arc<Log>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) decider: Arc<Decider>,
    pub(crate) identity: Identity,
    pub(crate) directory: PathBuf,
    /// Where tables are written before they are part of RocksDB.
    pub(crate) tables: PathBuf,
}

/// Opens the store in a directory. Blocks while the log after the last table is read.
pub(crate) fn open(directory: &Path, options: &Options) -> Result<OpenedLog, OpenError> {
    check_clock(options.clock.now()).map_err(|error| OpenError::io(directory, "open the store", error))?;
    let directory = match options.create_if_missing {
        true => directory::resolve_or_create(directory)?,
        false => directory::resolve(directory)?,
    };
    if marker::exists(&directory).map_err(|error| OpenError::io(&directory, "inspect the directory", error))? {
        return Err(OpenError::Backup { directory });
    }
    let is_new = inspect(&directory)?;
    if is_new && !options.create_if_missing {
        return Err(OpenError::NoSuchDirectory { directory });
    }
    check_index(&directory)?;
    let database = open_index(&directory, options)?;
    let is_described = is_described(&database);
    let is_described = is_described.map_err(|error| OpenError::of_store(&directory, "read the description", error))?;
    if is_described && !directory.join(LOG).is_dir() {
        return Err(OpenError::damaged(&directory, "expected the directory of the log, found none"));
    }
    let log = open_log(&directory, options, Arc::new(SystemDisk))?;
    if log.last_frame() == 0 {
        // ORDER: the directories are on disk before the description, which tells that they have existed. An earlier
        // process may have created them and ended before it synced their names.
        access::sync(&directory).map_err(|error| OpenError::io(&directory, "sync the directory", error))?;
    }
    describe(&database, &log, options)?;
    if is_new {
        let restricted = access::restrict_files(&directory.join(INDEX));
        restricted.map_err(|error| OpenError::io(&directory, "set the modes of files", error))?;
    }
    assemble(database, log, options)
}

/// Reads the log after the last table, and returns the parts of the open store.
pub(crate) fn assemble(database: Database, log: Log, options: &Options) -> Result<OpenedLog, OpenError> {
    let (log, directory) = (Arc::new(log), database.directory().to_owned());
    let identity = identify(&database, log.log_id())?;
    let opened = restore(database, &log, options, ReplayAccess::Writing);
    let (publisher, decider) = opened.map_err(|error| OpenError::of_store(&directory, "read the log", error))?;
    let end = publisher.handles.visible.head();
    tracing::info!(directory = %directory.display(), id = %identity.log_id, head = ?end, "opened the store");
    log.follow(Arc::<Publisher>::clone(&publisher));
    let tables = directory.join(TABLES);
    Ok(OpenedLog { log, publisher, decider, identity, directory, tables })
}

/// Returns whether the directory has no store yet.
///
/// # Errors
/// [`OpenError::NotAStore`] if the directory has other files, and [`OpenError::OlderFormat`] if it has a store of an
/// earlier format.
pub(crate) fn inspect(directory: &Path) -> Result<bool, OpenError> {
    let io_error = |error| OpenError::io(directory, "inspect the directory", error);
    if directory.join("CURRENT").try_exists().map_err(io_error)? {
        return Err(earlier_format(directory));
    }
    let mut is_new = true;
    for entry in std::fs::read_dir(directory).map_err(io_error)? {
        let name = entry.map_err(io_error)?.file_name();
        match name.to_string_lossy().as_ref() {
            LOG | INDEX => is_new = false,
            TABLES | marker::FILE_NAME | "lost+found" => {}
            other => return Err(OpenError::not_a_store(directory, format!("other files, such as {other}"))),
        }
    }
    Ok(is_new)
}

/// Returns the error for a directory with a RocksDB database in itself, as stores of the formats 1 to 3 have it.
fn earlier_format(directory: &Path) -> OpenError {
    let format = read_format(directory).and_then(|format| directory::decode_format(directory, &format).ok());
    let error = format.and_then(|found| OpenError::of_format(directory, found));
    error.unwrap_or_else(|| OpenError::not_a_store(directory, "a RocksDB database of another program"))
}

/// Checks that the index of a log is there and has a supported format. Writes nothing: RocksDB would create a new
/// index, and the column families that are missing.
fn check_index(directory: &Path) -> Result<(), OpenError> {
    if !directory.join(LOG).exists() {
        return Ok(());
    }
    let index = directory.join(INDEX);
    if !index.join("CURRENT").exists() {
        if !has_frames(directory) {
            return Ok(());
        }
        return Err(OpenError::damaged(directory, "expected the file CURRENT in the index, found none"));
    }
    let missing = missing_family(&index);
    if let Some(missing) = missing.map_err(|error| OpenError::of_rocksdb(directory, "inspect the index", error))? {
        return Err(OpenError::damaged(
            directory,
            format!("expected the column family {}, found none", missing.name()),
        ));
    }
    match read_format(&index) {
        Some(format) => {
            OpenError::of_format(directory, directory::decode_format(directory, &format)?).map_or(Ok(()), Err)
        }
        // Opening returns the reason, or finds that nothing was written yet.
        None => Ok(()),
    }
}

/// Returns the first column family that an index does not have. The creation of an index creates them one by one.
pub(crate) fn missing_family(index: &Path) -> Result<Option<Cf>, rocksdb::Error> {
    let families = DB::list_cf(&rocksdb::Options::default(), index)?;
    Ok(Cf::ALL.into_iter().find(|cf| !families.iter().any(|family| family == cf.name())))
}

/// Returns whether a log can have a frame. The creation of a store without one may have been interrupted: a power
/// failure can keep the directory of the log and lose that of the index.
pub(crate) fn has_frames(directory: &Path) -> bool {
    match ReadableLog::open(directory.join(LOG), Arc::new(SystemDisk)) {
        Ok(log) => log.last_frame() > 0,
        Err(es_log::OpenError::Io { source, .. }) => source.kind() != std::io::ErrorKind::NotFound,
        Err(_) => true,
    }
}

/// Reads the format version of a database, without writing; `None` if it has none or cannot be read.
fn read_format(database: &Path) -> Option<Vec<u8>> {
    let families = [rocksdb::DEFAULT_COLUMN_FAMILY_NAME, Cf::Meta.name()];
    let database = DB::open_cf_for_read_only(&rocksdb::Options::default(), database, families, false).ok()?;
    database.get_cf(database.cf_handle(Cf::Meta.name())?, META_FORMAT).ok()?
}

pub(crate) fn open_index(directory: &Path, options: &Options) -> Result<Database, OpenError> {
    let path = directory.join(INDEX);
    let db = DB::open_cf_descriptors(&options::database(options), &path, families(options))
        .map_err(|error| OpenError::of_rocksdb(directory, "open the index", error))?;
    Ok(Database::new(db, directory.to_owned()))
}

/// Returns the column families of the index with their options.
pub(crate) fn families(options: &Options) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(options.block_cache_bytes);
    let families =
        Cf::ALL.iter().map(|cf| ColumnFamilyDescriptor::new(cf.name(), options::family(*cf, options, &cache)));
    let mut default = rocksdb::Options::default();
    // The family is empty. But after a lack of space, RocksDB writes again when as much is free as the largest write
    // buffer of a family has.
    default.set_write_buffer_size(options.write_buffer_bytes);
    families.chain([ColumnFamilyDescriptor::new(rocksdb::DEFAULT_COLUMN_FAMILY_NAME, default)]).collect()
}

/// Opens the log of the store in a directory, on this disk.
pub(crate) fn open_log(directory: &Path, options: &Options, disk: Arc<dyn Disk>) -> Result<Log, OpenError> {
    let log = LogOptions {
        base_time: options.clock.now().timestamp_micros(),
        durability: match options.durability {
            Durability::Sync => es_log::Durability::Sync,
            Durability::Buffered => es_log::Durability::Buffered,
        },
        // The queue limits the commits in flight, so that a commit rarely blocks its thread because the frame is full.
        // The log refuses a commit after its decision if the frame then has more than a gibibyte: no frame may.
        frame_bytes: options.queue_bytes.clamp(1 << 20, 512 << 20),
        tail_bytes: options.tail_bytes,
        first_segment: options.log_segment_bytes / 8,
        largest_segment: options.log_segment_bytes,
        // Not `Continue`: neither the store nor a hook can undo a decision that was not written.
        on_write_failure: match options.on_write_failure {
            OnWriteFailure::Retry => es_log::OnWriteFailure::Retry,
            OnWriteFailure::Stop => es_log::OnWriteFailure::Stop,
        },
        disk,
        ..LogOptions::default()
    };
    Log::open(directory.join(LOG), log).map_err(|error| of_log_opening(directory, error))
}

/// Returns the error of a store whose log cannot be opened.
pub(crate) fn of_log_opening(directory: &Path, error: es_log::OpenError) -> OpenError {
    match error {
        es_log::OpenError::Io { operation, path, source } => {
            OpenError::io(directory, format!("{operation} {}", path.display()), source)
        }
        es_log::OpenError::Locked { .. } => OpenError::AlreadyOpen { directory: directory.to_owned() },
        error => OpenError::damaged(directory, error.to_string()),
    }
}

/// Reads the identity of a store with this log.
pub(crate) fn identify(database: &Database, log_id: LogId) -> Result<Identity, OpenError> {
    let directory = database.directory();
    let in_store = |error| OpenError::of_store(directory, "read the description of the store", error);
    let format = database.get(Cf::Meta, META_FORMAT, Tier::Any).map_err(StoreError::from).map_err(in_store)?;
    let Some(version) = format else {
        return Err(OpenError::damaged(directory, "expected a format version in the index, found none"));
    };
    let found = directory::decode_format(directory, &version)?;
    if let Some(error) = OpenError::of_format(directory, found) {
        return Err(error);
    }
    directory::read_identity(database, log_id)
}

/// Returns whether the index has the description of the store, which is the end of its creation.
pub(crate) fn is_described(database: &Database) -> Result<bool, StoreError> {
    Ok(database.get(Cf::Meta, META_FORMAT, Tier::Any)?.is_some())
}

/// Gives a store without a commit its description, unless an earlier opening did.
pub(crate) fn describe(database: &Database, log: &Log, options: &Options) -> Result<(), OpenError> {
    let failed = |error| OpenError::of_store(database.directory(), "write the description of the store", error);
    if log.last_frame() == 0 { create(database, options).map_err(failed) } else { Ok(()) }
}

fn create(database: &Database, options: &Options) -> Result<(), StoreError> {
    if is_described(database)? {
        return Ok(());
    }
    let meta = database.family(Cf::Meta)?;
    let mut batch = WriteBatch::new();
    batch.put_cf(meta, META_FORMAT, FORMAT_VERSION.to_be_bytes());
    batch.put_cf(meta, META_KEY_SECRET, KeySecret::random().as_bytes());
    batch.put_cf(meta, META_STORE_ID, LogId::new().as_uuid().as_bytes());
    batch.put_cf(meta, META_CREATED, options.clock.now().timestamp_micros().to_be_bytes());
    // ORDER: on disk before the first commit, whose unique keys are hashed with the secret.
    layout::write_and_flush(database, &batch)
}
