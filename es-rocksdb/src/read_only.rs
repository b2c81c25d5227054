//! [`ReadOnlyStore`]: a store opened for reading, also beside the process that writes to it.

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
use es_core::store::{EventStream, HeadWatch, Row, RowScan, Visitor};
use es_core::{
    EventId, EventReader, LogRead, Position, RecordedEvent, Revision, StoreError, StreamId, StreamRead, Timestamp,
};
use rocksdb::statistics::StatsLevel;
use rocksdb::{DB, DBRecoveryMode};
use uuid::Uuid;

use crate::acknowledged;
use crate::database::{Database, Tier, bad_key, bad_name, item};
use crate::error::OpenError;
use crate::key;
use crate::notify::Visible;
use crate::open::{self, DirectoryState, Identity};
use crate::options::{self, Options, ReadLimits};
use crate::recovery::{self, ExpectedLog};
use crate::retention::Operators;
use crate::schema::Cf;
use crate::shared::{Shared, off_executor};
use crate::tail::Tail;
use crate::verify::{self, Progress, Verification};

/// How often opening is tried when files are replaced meanwhile, and the pause between.
const OPEN_ATTEMPTS: u32 = 100;
/// How often damage must be seen to be believed while somebody writes.
const DAMAGE_ATTEMPTS: u32 = 3;
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How the names of the files of the write-ahead log end.
const LOG: &str = ".log";

/// A store that is opened for reading only. It takes no lock and writes nothing, so that it works beside a service that has the
/// store open, and on a disk that is mounted for reading.
///
/// What it shows is the store as it was at one moment, wholly: log, indexes, rows and keys agree. The moment is that of opening:
/// everything that was handed to the operating system by then is there, with [`Durability::Sync`](crate::Durability::Sync) at
/// least every commit acknowledged before. It stays at that moment; [`refresh`](Self::refresh) gives a newer one.
///
/// It implements [`EventReader`] and not [`EventStore`](es_core::EventStore). Opening reads the
/// write-ahead log into memory, which is bounded by four write buffers of the service. As long as it is open, files that the
/// service has replaced meanwhile keep their room on the disk, and one descriptor for each table file is open (about one for
/// 64 MiB).
// NOTE: this is RocksDB's read-only mode. Its mode for following another process ("secondary") is not used: after a flush it
// shows some column families at an older moment than others, so that a log would be ahead of its heads.
#[derive(Clone)]
pub struct ReadOnlyStore {
    inner: Arc<ReadOnlyInner>,
}

struct ReadOnlyInner {
    shared: Arc<Shared>,
    read_batch: ReadLimits,
    directory: PathBuf,
    id: Uuid,
    created: Timestamp,
    files: Files,
    /// What RocksDB counts; it tells of broken blocks that it reads past.
    counts: rocksdb::Options,
}

impl ReadOnlyStore {
    /// Opens the store in this directory as it is now.
    ///
    /// # Errors
    /// [`OpenError`]; each variant says what to do. It is never [`AlreadyOpen`](OpenError::AlreadyOpen).
    pub async fn open(directory: impl AsRef<Path> + Send) -> Result<Self, OpenError> {
        let directory = directory.as_ref().to_owned();
        let opened = off_executor({
            let directory = directory.clone();
            move || open_with_retries(&directory)
        });
        opened.await.unwrap_or_else(|error| Err(OpenError::io(&directory, "open the store for reading", error)))
    }

    /// The store as it is now; `None` where nothing was written since this was opened. To find out costs a look at the
    /// directory; what is new costs opening it again.
    ///
    /// # Errors
    /// The same as of [`open`](Self::open).
    pub async fn refresh(&self) -> Result<Option<Self>, OpenError> {
        let files = Files::of(&self.inner.directory)?;
        if files == self.inner.files { Ok(None) } else { Self::open(&self.inner.directory).await.map(Some) }
    }

    /// Up to `limit` streams whose names begin with `prefix`, in the order of their names' bytes, behind the stream `after`, each
    /// with the revision of its last event.
    ///
    /// # Errors
    /// [`StoreError`] when the disk fails or is damaged.
    pub async fn streams(
        &self,
        prefix: &str,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<(StreamId, Revision)>, StoreError> {
        let (prefix, after) = (prefix.as_bytes().to_vec(), after.cloned());
        self.inner.shared.blocking(move |database| streams(database, &prefix, after.as_ref(), limit)).await
    }

    /// Looks at everything: every record of log and streams with its checksum, positions and revisions without gaps, and log,
    /// streams, heads, ids, unique keys and indexes against each other, in both directions. It reads the whole store, so that it takes about
    /// as long as three scans of the log. It uses about 50 bytes of memory for each unique key that is claimed and released later;
    /// other than that, memory does not grow with the store. It blocks the thread that calls it.
    ///
    /// `progress` is called now and then with what is looked at, how many entries were, and how many there are where that is
    /// known.
    ///
    /// # Errors
    /// [`StoreError`] when looking failed. Damage is no error: it is in the answer.
    pub fn verify(&self, progress: Progress<'_>) -> Result<Verification, StoreError> {
        let shared = &self.inner.shared;
        shared.locked(|database| {
            verify::verify(database, &shared.operators, &shared.secret, &self.inner.counts, progress)
        })
    }

    /// The directory, with its full path.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// When the store was created.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        self.inner.created
    }

    /// Reads the log with what is [hidden](es_core::retention), in the form that is said: so that each position is there.
    #[must_use]
    pub fn read_log_with_hidden(&self, read: LogRead, hidden: HiddenEvents) -> EventStream {
        self.inner.shared.read_log_with(self.inner.read_batch, read, self.inner.shared.visible.head(), Some(hidden))
    }

    /// Visits the events that [`read_log_with_hidden`](Self::read_log_with_hidden) returns, until the visitor breaks.
    /// Returns the last position that was scanned, as [`EventReader::visit_log`] does.
    ///
    /// # Errors
    /// [`StoreError`]: the visit cannot go on.
    pub async fn visit_log_with_hidden(
        &self,
        read: LogRead,
        hidden: HiddenEvents,
        visitor: &mut Visitor<'_>,
    ) -> Result<Option<Position>, StoreError> {
        let shared = &self.inner.shared;
        shared.visit_log(self.inner.read_batch, read, shared.visible.head(), Some(hidden), visitor).await
    }

    /// Returns for each event that a rule hides or that was removed how many unique keys are held by its claims. A copy
    /// of the log without the content of these events does not hold the keys, because the store has only a keyed hash
    /// of each.
    ///
    /// Scans the index of unique keys. Memory grows with the result.
    ///
    /// # Errors
    /// [`StoreError`] when the disk fails or is damaged.
    pub async fn claims_of_hidden_events(&self) -> Result<HashMap<(StreamId, Revision), u64>, StoreError> {
        let shared = Arc::clone(&self.inner.shared);
        if !shared.operators.is_touched() {
            return Ok(HashMap::new());
        }
        let (now, head) = (shared.clock.now(), shared.visible.head());
        let operators = Arc::clone(&shared);
        shared.blocking(move |database| claims_of_hidden(database, &operators.operators, now, head)).await
    }

    /// What operators have said of retention, all together.
    #[must_use]
    pub fn retention(&self) -> Retention {
        self.inner.shared.operators.all()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }
}

/// The form in which a read returns [hidden](es_core::retention) events. An event that a scavenge has removed is a
/// [tombstone](es_core::RecordedEvent::is_removed) in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HiddenEvents {
    /// As tombstones, as if a scavenge had removed them.
    AsTombstones,
    /// With their content.
    WithContent,
}

/// Opens a store, again and again where the service has changed files meanwhile.
pub(crate) fn open_with_retries(directory: &Path) -> Result<ReadOnlyStore, OpenError> {
    let directory = open::resolve(directory)?;
    let mut damaged_attempts = 0;
    for _ in 0..OPEN_ATTEMPTS {
        let before = Files::of(&directory)?;
        let opened = open_once(&directory, before.clone());
        // NOTE: RocksDB reads what is in table files first and the write-ahead log then, and does not miss a log file that the
        // service has removed in between because its content is in a new table file. Log files go oldest first: if those of
        // before are there still, none was missed.
        let after = Files::of(&directory)?;
        let is_whole = before.logs_are_kept_in(&after);
        match opened {
            Ok(store) if is_whole => return Ok(store),
            // NOTE: the service writes to the manifest before it removes a table. Where nothing was written, nobody did.
            Err(error) if is_whole && before == after => return Err(error),
            Err(error) if is_whole && !is_about_a_missing_file(&error) => {
                damaged_attempts += 1;
                if damaged_attempts == DAMAGE_ATTEMPTS {
                    return Err(error);
                }
            }
            _ => tracing::debug!(directory = %directory.display(), "files were replaced while the store was opened"),
        }
        std::thread::sleep(RETRY_PAUSE);
    }
    let reason = "its files were replaced each time that it was tried; try again when the service writes less";
    Err(OpenError::io(&directory, "open the store for reading", reason))
}

fn is_about_a_missing_file(error: &OpenError) -> bool {
    matches!(error, OpenError::Damaged { detail, .. } if detail.contains("No such file"))
}

fn open_once(directory: &Path, files: Files) -> Result<ReadOnlyStore, OpenError> {
    // ORDER: the mark before the database, so that it is not ahead of what is read there, whoever writes just now.
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
    // NOTE: as opening for writing does behind its examination; what this mode drops is looked at below.
    options::set_recovery(&mut db_options, DBRecoveryMode::PointInTime);
    // NOTE: every file is opened at once and kept open, so that it can be read after the process that writes has removed it.
    db_options.set_max_open_files(-1);
    // NOTE: only counters, which cost next to nothing: verification asks for one of them.
    db_options.enable_statistics();
    db_options.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
    let db = DB::open_cf_descriptors_read_only(&db_options, directory, options::families(&defaults), false);
    let db = db.map_err(|error| OpenError::of_rocksdb(directory, "open the database for reading", error))?;
    ExpectedLog { mark, readable, survey }.check(directory, &db)?;
    let database = Database::new(db, directory.to_owned());
    let Identity { id, created, secret } = open::identify(&database, &DirectoryState::Store, &defaults)?;
    let end = open::end_of_log(&database);
    let end = end.map_err(|error| OpenError::of_store(directory, "read the end of the log", error))?;
    if let Some(mark) = mark {
        recovery::check_mark(&database, mark, end.head)?;
    }
    let operators = Operators::load(&database);
    let operators = operators.map_err(|error| OpenError::of_store(directory, "read rules and deletions", error))?;
    let visible = Visible::new(end.head, database.sequence());
    let (database, clock) = (Arc::new(database), defaults.clock);
    let shared = Arc::new(Shared::new(database, visible, Tail::new(0), operators, secret, clock));
    let inner =
        ReadOnlyInner { shared, read_batch, directory: directory.to_owned(), id, created, files, counts: db_options };
    Ok(ReadOnlyStore { inner: Arc::new(inner) })
}

/// The files that change when something is written, with their lengths: write-ahead log and manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Files(BTreeMap<String, u64>);

impl Files {
    fn of(directory: &Path) -> Result<Self, OpenError> {
        let io_error = |error| OpenError::io(directory, "inspect the directory", error);
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(directory).map_err(io_error)? {
            let entry = entry.map_err(io_error)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // NOTE: a file may be gone between its name and its length.
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

fn streams(
    database: &Database,
    prefix: &[u8],
    after: Option<&StreamId>,
    limit: usize,
) -> Result<Vec<(StreamId, Revision)>, StoreError> {
    let mut heads = database.iterate(Cf::Heads, prefix.to_vec(), Tier::Any)?;
    heads.seek(after.map_or(prefix, |after| after.as_str().as_bytes()));
    let mut streams = Vec::new();
    while streams.len() < limit {
        let Some((name, _)) = item(&heads, Cf::Heads)? else { break };
        let stream = std::str::from_utf8(name).ok().and_then(|name| StreamId::new(name).ok());
        let stream = stream.ok_or_else(|| bad_name(Cf::Heads, name))?;
        if after != Some(&stream)
            && let Some(revision) = database.revision(&stream, Tier::Any)?
        {
            streams.push((stream, revision));
        }
        heads.next();
    }
    Ok(streams)
}

fn claims_of_hidden(
    database: &Database,
    operators: &Operators,
    now: Timestamp,
    head: Option<Position>,
) -> Result<HashMap<(StreamId, Revision), u64>, StoreError> {
    let mut entries = database.iterate(Cf::Keys, Vec::new(), Tier::Any)?;
    entries.seek_to_first();
    let mut claims = HashMap::new();
    while let Some((hash, owner)) = item(&entries, Cf::Keys)? {
        let owner = key::decode_owner(owner).map_err(|error| bad_key(Cf::Keys, hash, &error))?;
        let retained = database.retained(&owner.stream, &operators.of(&owner.stream), now, head, Tier::Any)?;
        // A deletion frees the keys that were claimed before the stream begins.
        if (retained.begins..retained.first).contains(&owner.revision) && !retained.is_ended {
            *claims.entry((owner.stream, owner.revision)).or_insert(0) += 1;
        }
        entries.next();
    }
    Ok(claims)
}

impl fmt::Debug for ReadOnlyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = self.inner.shared.visible.head();
        f.debug_struct("ReadOnlyStore")
            .field("directory", &self.inner.directory)
            .field("head", &head)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl EventReader for ReadOnlyStore {
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
        LogId::from_uuid(self.inner.id)
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
}
