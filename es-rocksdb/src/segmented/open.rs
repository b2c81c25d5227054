//! Opening of a segmented store: the index, the log, and the events that are in the log only.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use es_core::model::LogId;
use es_core::store::implement::{Decider, KeySecret, ahead_of_clock, check_clock};
use es_core::{Position, RecordedEvent, StoreError};
use es_log::{Batch, Body, Log, LogOptions};
use rocksdb::{Cache, ColumnFamilyDescriptor, DB, WriteBatch};

use crate::database::{Database, Tier};
use crate::error::OpenError;
use crate::key;
use crate::open::{self, Identity};
use crate::options::{self, Durability, Options};
use crate::overlay::LogEnd;
use crate::recent::RecentIds;
use crate::retention::{Operators, first_key, has_removed};
use crate::rows;
use crate::schema::{Cf, META_CREATED, META_FORMAT, META_KEY_SECRET, META_STORE_ID};
use crate::segmented::codec::LogDecoder;
use crate::segmented::decide::Decisions;
use crate::segmented::index::{END, Index, of_log};
use crate::segmented::layout::{self, FAMILIES, FORMAT_VERSION, INDEX, LOG, TABLES};
use crate::segmented::pending::PendingCommits;
use crate::segmented::publish::Publisher;
use crate::segmented::seal;

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
        true => open::resolve_or_create(directory)?,
        false => open::resolve(directory)?,
    };
    let is_new = inspect(&directory)?;
    if is_new && !options.create_if_missing {
        return Err(OpenError::NoSuchDirectory { directory });
    }
    let database = Arc::new(open_index(&directory, options)?);
    let log = Arc::new(open_log(&directory, options)?);
    let identity = identify(&database, &log, options)?;
    let opened = restore(&database, &log, options);
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
/// [`OpenError::NotAStore`] if the directory has other files.
fn inspect(directory: &Path) -> Result<bool, OpenError> {
    let io_error = |error| OpenError::io(directory, "inspect the directory", error);
    let mut is_new = true;
    for entry in std::fs::read_dir(directory).map_err(io_error)? {
        let name = entry.map_err(io_error)?.file_name();
        match name.to_string_lossy().as_ref() {
            LOG | INDEX => is_new = false,
            TABLES | "lost+found" => {}
            "CURRENT" => return Err(OpenError::not_a_store(directory, "a store of the layout without segments")),
            other => return Err(OpenError::not_a_store(directory, format!("other files, such as {other}"))),
        }
    }
    Ok(is_new)
}

fn open_index(directory: &Path, options: &Options) -> Result<Database, OpenError> {
    let path = directory.join(INDEX);
    let mut db = options::database(options);
    db.create_if_missing(true);
    db.create_missing_column_families(true);
    // The log has all changes, so RocksDB needs none of its own. The families whose changes are in memory are flushed
    // together, so that they are at one point of the log after a crash.
    db.set_atomic_flush(true);
    db.set_track_and_verify_wals_in_manifest(false);
    let cache = Cache::new_lru_cache(options.block_cache_bytes);
    let families =
        FAMILIES.iter().map(|cf| ColumnFamilyDescriptor::new(cf.name(), options::family(*cf, options, &cache)));
    let default = ColumnFamilyDescriptor::new(rocksdb::DEFAULT_COLUMN_FAMILY_NAME, rocksdb::Options::default());
    let db = DB::open_cf_descriptors(&db, &path, families.chain([default]))
        .map_err(|error| OpenError::of_rocksdb(directory, "open the index", error))?;
    Ok(Database::new(db, directory.to_owned()))
}

fn open_log(directory: &Path, options: &Options) -> Result<Log, OpenError> {
    let log = LogOptions {
        base_time: options.clock.now().timestamp_micros(),
        durability: match options.durability {
            Durability::Sync => es_log::Durability::Sync,
            Durability::Buffered => es_log::Durability::Buffered,
        },
        // The queue limits the commits in flight, so that no commit blocks its thread because the frame is full.
        frame_bytes: options.queue_bytes.max(1 << 20),
        tail_bytes: options.tail_bytes,
        first_segment: options.log_segment_bytes / 8,
        largest_segment: options.log_segment_bytes,
        // A hook cannot undo a decision that was not written.
        on_write_failure: es_log::OnWriteFailure::Stop,
        ..LogOptions::default()
    };
    Log::open(directory.join(LOG), log).map_err(|error| match error {
        es_log::OpenError::Io { operation, path, source } => {
            OpenError::io(directory, format!("{operation} {}", path.display()), source)
        }
        es_log::OpenError::Locked { .. } => OpenError::AlreadyOpen { directory: directory.to_owned() },
        error => OpenError::damaged(directory, error.to_string()),
    })
}

/// Reads the identity of a store; gives a new store its identity.
fn identify(database: &Database, log: &Log, options: &Options) -> Result<Identity, OpenError> {
    let directory = database.directory();
    let in_store = |error| OpenError::of_store(directory, "read the description of the store", error);
    let format = database.get(Cf::Meta, META_FORMAT, Tier::Any).map_err(StoreError::from).map_err(in_store)?;
    match format {
        None if log.last_frame() == 0 => create(database, options).map_err(in_store)?,
        None => return Err(OpenError::damaged(directory, "expected a format version in the index, found none")),
        Some(version) => {
            let found = open::decode_format(directory, &version)?;
            if found != FORMAT_VERSION {
                return Err(OpenError::damaged(directory, format!("expected layout {FORMAT_VERSION}, found {found}")));
            }
        }
    }
    Ok(Identity { log_id: log.log_id(), ..open::read_identity(database)? })
}

fn create(database: &Database, options: &Options) -> Result<(), StoreError> {
    let meta = database.family(Cf::Meta)?;
    let mut batch = WriteBatch::new();
    batch.put_cf(meta, META_FORMAT, FORMAT_VERSION.to_be_bytes());
    batch.put_cf(meta, META_KEY_SECRET, KeySecret::random().as_bytes());
    batch.put_cf(meta, META_STORE_ID, LogId::new().as_uuid().as_bytes());
    batch.put_cf(meta, META_CREATED, options.clock.now().timestamp_micros().to_be_bytes());
    layout::write(database, batch)?;
    // ORDER: on disk before the first commit, whose unique keys are hashed with the secret.
    layout::flush(database)
}

/// Reads the log after the last table, and returns the state of decisions and readers.
fn restore(
    database: &Arc<Database>,
    log: &Log,
    options: &Options,
) -> Result<(Arc<Publisher>, Arc<Decider>), StoreError> {
    let applied = layout::applied(database)?;
    if applied > log.head() {
        let detail = format!("expected the log up to position {applied:?}, as in the index, found {:?}", log.head());
        return Err(StoreError::damaged("the log", detail));
    }
    let index = Index::new(Position::following(applied), RecentIds::of_database(database)?, options.index_run);
    let mut replay = Replay { database, log, index: &index, decoder: LogDecoder::default(), end: LogEnd::default() };
    let mut reader = log.read_after(applied);
    while let Some(batch) = reader.next_batch().map_err(of_log)? {
        replay.apply(&batch)?;
    }
    let Replay { mut end, mut decoder, .. } = replay;
    let view = index.view(database, log, END);
    if let (None, Some(head)) = (end.head, log.head()) {
        let last = view.event(head, Tier::Any, &mut decoder)?;
        end = LogEnd { head: Some(head), recorded_at: Some(last.recorded_at) };
    }
    if let Some(ahead) = ahead_of_clock(end.recorded_at, options.clock.now()) {
        tracing::warn!(
            directory = %database.directory().display(), recorded_at = ?end.recorded_at, ?ahead,
            "the log is ahead of the clock; events get the time of the last event until the clock has caught up"
        );
    }
    let retention = view.retention_up_to(END)?;
    drop(view);
    let has_removed = has_removed(database)?;
    let operators = Operators::new(retention.clone(), has_removed);
    let decisions = Decisions {
        end,
        pending: PendingCommits::default(),
        operators: Operators::new(retention, has_removed),
        stopped: None,
    };
    let decider = Arc::new(Decider::new(rows::locks(database)?));
    let is_synced = options.durability == Durability::Sync;
    Ok((Arc::new(Publisher::new(Arc::clone(database), index, decisions, operators, is_synced)), decider))
}

/// Applies the log after the last table to the index in memory, and its rows and keys to RocksDB.
struct Replay<'a> {
    database: &'a Database,
    log: &'a Log,
    index: &'a Index,
    decoder: LogDecoder,
    end: LogEnd,
}

impl Replay<'_> {
    fn apply(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let mut events: Vec<RecordedEvent> = Vec::new();
        let mut changes = WriteBatch::new();
        let (meta, keys, rows) =
            (self.database.family(Cf::Meta)?, self.database.family(Cf::Keys)?, self.database.family(Cf::Rows)?);
        for record in batch.records() {
            let record = record.map_err(|error| StoreError::damaged("the log", error.to_string()))?;
            if let Some(event) = self.decoder.event(&record, batch.bytes())? {
                if event.is_removed() {
                    changes.put_cf(meta, first_key(&event.stream), key::revision(event.revision.next()));
                }
                events.push(event);
                continue;
            }
            match record.body {
                Body::Row(row) => {
                    let key = [&key::prefix(row.table), row.key].concat();
                    match row.value {
                        Some(value) => changes.put_cf(rows, key, value),
                        None => changes.delete_cf(rows, key),
                    }
                }
                Body::Key(key) => match key.value {
                    Some(value) => changes.put_cf(keys, key.key, value),
                    None => changes.delete_cf(keys, key.key),
                },
                Body::Event(_) | Body::Tombstone(_) | Body::Opaque(_) => {}
            }
        }
        if !changes.is_empty() {
            layout::write(self.database, changes)?;
        }
        if let Some(last) = events.last() {
            self.end = LogEnd { head: Some(last.position), recorded_at: Some(last.recorded_at) };
        }
        self.index.extend(&events);
        // A long log is indexed run by run, so that it needs no more memory than a short one.
        while let Some(full) = self.index.oldest_full(self.end.head) {
            let ids = seal::seal(self.database, self.log, &full, &self.database.directory().join(TABLES))?;
            self.index.remove_oldest(&ids);
        }
        Ok(())
    }
}
