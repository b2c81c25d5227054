//! [`RocksDbReader`]: a snapshot of a [`RocksDbStore`](crate::RocksDbStore).

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use es_core::model::LogId;
use es_core::model::{Table, UniqueKey};
use es_core::retention::{Retained, Retention};
use es_core::store::{EventStream, HeadWatch, Row, RowScan, StoreInfo, Visitor};
use es_core::{
    EventId, EventReader, LogRead, Position, RecordedEvent, Revision, StoreError, StreamId, StreamRead, Timestamp,
};
use rocksdb::statistics::StatsLevel;
use rocksdb::{DB, DBRecoveryMode};
use uuid::Uuid;

use crate::access;
use crate::acknowledged;
use crate::database::Database;
use crate::error::OpenError;
use crate::listing::Described;
use crate::notify::Visible;
use crate::open::{self, DirectoryState, Identity};
use crate::options::{self, Options, ReadLimits};
use crate::recovery::{self, ExpectedLog};
use crate::retention::{HiddenEvents, Operators, claims_of_hidden};
use crate::shared::{Shared, off_executor};
use crate::tail::Tail;
use crate::verify::{self, Progress, Verification};

/// The number of attempts after which damage is reported while another process writes.
const DAMAGE_ATTEMPTS: u32 = 3;
/// The extension of the files of the write-ahead log.
const LOG: &str = ".log";

/// A read-only snapshot of a [`RocksDbStore`](crate::RocksDbStore). See [`ReadOnlyStore`](crate::ReadOnlyStore).
// This is RocksDB's read-only mode. Its secondary mode, which follows another process, is not used: after a flush some
// of its column families are older than others, and the log would be ahead of the heads.
#[derive(Clone)]
pub(crate) struct RocksDbReader {
    inner: Arc<ReadOnlyInner>,
}

struct ReadOnlyInner {
    shared: Arc<Shared>,
    read_batch: ReadLimits,
    directory: PathBuf,
    store_id: Uuid,
    log_id: LogId,
    created: Timestamp,
    files: Files,
    /// The options with RocksDB's statistics, which count the corrupt blocks that RocksDB skips.
    counts: rocksdb::Options,
}

impl RocksDbReader {
    /// Opens a snapshot of the store in this directory.
    pub(crate) async fn open(directory: impl AsRef<Path> + Send) -> Result<Self, OpenError> {
        let directory = directory.as_ref().to_owned();
        let opened = off_executor({
            let directory = directory.clone();
            move || open_with_retries(&directory)
        });
        opened.await.unwrap_or_else(|error| Err(OpenError::io(&directory, "open the store for reading", error)))
    }

    /// Returns whether nothing was written since this snapshot was opened.
    pub(crate) fn is_current(&self) -> Result<bool, OpenError> {
        Ok(Files::of(&self.inner.directory)? == self.inner.files)
    }

    /// Verifies the store. See [`ReadOnlyStore::verify`](crate::ReadOnlyStore::verify).
    pub(crate) fn verify(&self, progress: Progress<'_>) -> Result<Verification, StoreError> {
        let shared = &self.inner.shared;
        shared.locked(|database| {
            verify::verify(database, &shared.operators, &shared.secret, &self.inner.counts, progress)
        })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.inner.directory
    }

    pub(crate) fn store_id(&self) -> Uuid {
        self.inner.store_id
    }

    pub(crate) fn created(&self) -> Timestamp {
        self.inner.created
    }

    pub(crate) fn ahead_of_clock(&self) -> Option<Duration> {
        self.inner.shared.ahead_of_clock()
    }

    pub(crate) fn read_log_with_hidden(&self, read: LogRead, hidden: HiddenEvents) -> EventStream {
        self.inner.shared.read_log_with(self.inner.read_batch, read, self.inner.shared.visible.head(), Some(hidden))
    }

    pub(crate) async fn visit_log_with_hidden(
        &self,
        read: LogRead,
        hidden: HiddenEvents,
        visitor: &mut Visitor<'_>,
    ) -> Result<Option<Position>, StoreError> {
        let shared = &self.inner.shared;
        shared.visit_log(self.inner.read_batch, read, shared.visible.head(), Some(hidden), visitor).await
    }

    pub(crate) async fn claims_of_hidden_events(&self) -> Result<HashMap<(StreamId, Revision), u64>, StoreError> {
        let shared = Arc::clone(&self.inner.shared);
        let Some(head) = shared.visible.head().filter(|_| shared.operators.is_touched()) else {
            return Ok(HashMap::new());
        };
        let (now, operators) = (shared.clock.now(), Arc::clone(&shared));
        let claims = move |database: &Database| claims_of_hidden(database, database, &operators.operators, now, head);
        shared.blocking(claims).await
    }

    pub(crate) fn retention(&self) -> Retention {
        self.inner.shared.operators.all()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }
}

/// Opens a store. Retries while the service replaces files.
pub(crate) fn open_with_retries(directory: &Path) -> Result<RocksDbReader, OpenError> {
    let directory = open::resolve(directory)?;
    let mut damaged_attempts = 0;
    for _ in 0..access::REPLACED_ATTEMPTS {
        let before = Files::of(&directory)?;
        let opened = open_once(&directory, before.clone());
        // RocksDB reads the manifest first and the write-ahead log second. It does not notice if the service removes a
        // log file in between, after a flush to a new table file. Log files are removed oldest first: if all earlier
        // files still exist, none was missed.
        let after = Files::of(&directory)?;
        let is_whole = before.logs_are_kept_in(&after);
        match opened {
            Ok(store) if is_whole => return Ok(store),
            // The service writes to the manifest before it removes a table file: the files are unchanged.
            Err(error) if is_whole && before == after => return Err(error),
            Err(error) if is_whole && !is_about_a_missing_file(&error) => {
                damaged_attempts += 1;
                if damaged_attempts == DAMAGE_ATTEMPTS {
                    return Err(error);
                }
            }
            _ => tracing::debug!(directory = %directory.display(), "files were replaced while the store was opened"),
        }
        std::thread::sleep(access::REPLACED_PAUSE);
    }
    Err(OpenError::replaced_each_time(&directory, "open the store for reading"))
}

fn is_about_a_missing_file(error: &OpenError) -> bool {
    matches!(error, OpenError::Damaged { detail, .. } if detail.contains("No such file"))
}

fn open_once(directory: &Path, files: Files) -> Result<RocksDbReader, OpenError> {
    // ORDER: the mark is read before the database, so that it is not ahead of it while another process writes.
    let mark = acknowledged::read(directory).map_err(|error| OpenError::io(directory, "read the mark", error))?;
    let survey = recovery::survey(directory)?;
    let (found, readable) = open::inspect_database(directory)?;
    let readable = readable.unwrap_or_default();
    if found == DirectoryState::Empty {
        recovery::examine(directory, mark, readable)?;
        return Err(OpenError::NoSuchDirectory { directory: directory.to_owned() });
    }
    let defaults = Options::new().create_if_missing(false);
    let read_batch = defaults.read_batch;
    let mut db_options = options::database(&defaults);
    // The same mode as in a read-write store after its examination. `ExpectedLog::check` below detects dropped records.
    options::set_recovery(&mut db_options, DBRecoveryMode::PointInTime);
    // All files are opened now and stay open, so that they can be read after the writing process has removed them.
    db_options.set_max_open_files(access::open_files_for_reading(directory));
    // Counters only, which cost almost nothing. Verification reads one of them.
    db_options.enable_statistics();
    db_options.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
    let db = DB::open_cf_descriptors_read_only(&db_options, directory, options::families(&defaults), false);
    let db = db.map_err(|error| OpenError::of_rocksdb(directory, "open the database for reading", error))?;
    ExpectedLog { mark, readable, survey }.check(directory, &db)?;
    let database = Database::new(db, directory.to_owned());
    let Identity { id: store_id, log_id, created, secret } =
        open::identify(&database, &DirectoryState::Store, &defaults)?;
    let end = open::end_of_log(&database);
    let end = end.map_err(|error| OpenError::of_store(directory, "read the end of the log", error))?;
    if let Some(mark) = mark {
        recovery::check_mark(&database, mark, end.head)?;
    }
    let operators = Operators::load(&database);
    let operators = operators.map_err(|error| OpenError::of_store(directory, "read rules and deletions", error))?;
    let visible = Visible::new(end.head, database.sequence());
    let (database, clock) = (Arc::new(database), defaults.clock);
    let shared = Arc::new(Shared::new(database, visible, Tail::new(0), operators, secret, clock, end.recorded_at));
    let inner = ReadOnlyInner {
        shared,
        read_batch,
        directory: directory.to_owned(),
        store_id,
        log_id,
        created,
        files,
        counts: db_options,
    };
    Ok(RocksDbReader { inner: Arc::new(inner) })
}

/// The lengths of the files that every write changes: write-ahead log and manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Files(BTreeMap<String, u64>);

impl Files {
    fn of(directory: &Path) -> Result<Self, OpenError> {
        let io_error = |error| OpenError::io(directory, "inspect the directory", error);
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(directory).map_err(io_error)? {
            let entry = entry.map_err(io_error)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // A file can disappear between the listing and the query of its length.
            if (name.ends_with(LOG) || name.starts_with("MANIFEST"))
                && let Ok(metadata) = entry.metadata()
            {
                files.insert(name, metadata.len());
            }
        }
        Ok(Self(files))
    }

    fn logs_are_kept_in(&self, later: &Self) -> bool {
        self.0.keys().filter(|name| name.ends_with(LOG)).all(|name| later.0.contains_key(name))
    }
}

impl fmt::Debug for RocksDbReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = self.inner.shared.visible.head();
        f.debug_struct("RocksDbReader")
            .field("directory", &self.inner.directory)
            .field("head", &head)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl EventReader for RocksDbReader {
    async fn read_stream(&self, read: StreamRead) -> Result<EventStream, StoreError> {
        Ok(self.inner.shared.read_stream(self.inner.read_batch, read, self.inner.shared.visible.head()))
    }

    async fn visit_stream(&self, read: StreamRead, visitor: &mut Visitor<'_>) -> Result<(), StoreError> {
        self.inner.shared.visit_stream(self.inner.read_batch, read, self.inner.shared.visible.head(), visitor).await
    }

    async fn visit_log(&self, read: LogRead, visitor: &mut Visitor<'_>) -> Result<Option<Position>, StoreError> {
        self.inner.shared.visit_log(self.inner.read_batch, read, self.inner.shared.visible.head(), None, visitor).await
    }

    async fn read_log(&self, read: LogRead) -> Result<EventStream, StoreError> {
        Ok(self.inner.shared.read_log(self.inner.read_batch, read, self.inner.shared.visible.head()))
    }

    async fn head(&self) -> Result<Option<Position>, StoreError> {
        Ok(self.inner.shared.visible.head())
    }

    fn log_id(&self) -> LogId {
        self.inner.log_id
    }

    fn watch_head(&self) -> HeadWatch {
        self.inner.shared.visible.watch()
    }

    async fn revision(&self, stream: &StreamId) -> Result<Option<Revision>, StoreError> {
        self.inner.shared.revision(stream).await
    }

    async fn find(&self, id: EventId) -> Result<Option<RecordedEvent>, StoreError> {
        self.inner.shared.find(id).await
    }

    async fn owner(&self, key: &UniqueKey) -> Result<Option<StreamId>, StoreError> {
        self.inner.shared.owner(key).await
    }

    async fn row(&self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.inner.shared.row(table, key).await
    }

    async fn rows(&self, scan: RowScan) -> Result<Vec<Row>, StoreError> {
        self.inner.shared.rows(scan).await
    }

    async fn retained(&self, stream: &StreamId) -> Result<Retained, StoreError> {
        self.inner.shared.retained(stream, self.inner.shared.visible.head()).await
    }

    async fn streams(
        &self,
        prefix: &str,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<(StreamId, Revision)>, StoreError> {
        self.inner.shared.streams(prefix, after, limit).await
    }

    async fn info(&self) -> Result<StoreInfo, StoreError> {
        let described = Described {
            directory: self.inner.directory.clone(),
            store_id: self.inner.store_id,
            log_id: self.inner.log_id,
            created: self.inner.created,
            head: self.inner.shared.visible.head(),
        };
        self.inner.shared.describe(described).await
    }
}
