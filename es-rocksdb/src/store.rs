//! [`RocksDbStore`]: the handle of a store, and its implementation of [`EventStore`].

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use es_core::model::ErrorChain;
use es_core::model::{LogId, OriginId};
use es_core::model::{Table, UniqueKey};
use es_core::retention::{Retained, Retention, Scavenge, ScavengeReport};
use es_core::store::Committed;
use es_core::store::implement::{Decider, PrepareHook, Replication, ValidCommit};
use es_core::store::{EventStream, HeadWatch, Row, RowScan, StartHookError, StoreInfo, Visitor};
use es_core::{
    Commit, CommitError, EventId, EventReader, EventStore, LogRead, Position, RecordedEvent, Revision, StoreError,
    StreamId, StreamRead, Timestamp,
};
use uuid::Uuid;

use crate::acknowledged::{Mark, MarkFile};
use crate::database::Database;
use crate::draft::Draft;
use crate::error::{OpenError, of_rocksdb};
use crate::group::Closed;
use crate::listing::Described;
use crate::memory::Memory;
use crate::notify::Visible;
use crate::open::{self, Identity, Opened};
use crate::options::{self, Durability, Options, ReadLimits};
use crate::queue::{PendingAnswer, Queue, Reservation};
use crate::retention::Operators;
use crate::rows;
use crate::schema::Cf;
use crate::shared::{Shared, off_executor};
use crate::stats::Stats;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{AtomicBool, Mutex, PoisonError};
use crate::tail::Tail;
use crate::writer::{self, WriteToDisk, Writer, WriterParts};

/// An event store in a directory. The [crate documentation](crate) lists its guarantees.
///
/// A handle is cheap to clone, and all clones refer to one store. [`close`](EventStore::close) writes the queued
/// commits, ends the writer and unlocks the directory. Dropping the last handle does the same, but blocks the thread,
/// and logs errors instead of returning them. An open [`EventStream`] does not keep the store open: its next batch is
/// [`StoreError::Closed`].
///
/// # Commits
///
/// One writer checks the conditions of all commits, one commit at a time. The cost of an append condition is the number
/// of entries after its position in the most selective of its indexes: pass the position up to which the log was read.
///
/// A lone commit is written on the thread of its task, if that is a worker of a multi-thread runtime. Tokio first moves
/// the worker's other tasks to another thread ([`block_in_place`](tokio::task::block_in_place)); futures in the same
/// task, such as other arms of a `join!`, continue after the sync. In all other cases, and for concurrent commits, the
/// writer thread of the store writes.
///
/// # Reads
///
/// A read runs on the executor if its data is in memory, and on tokio's blocking threads otherwise. Outside a tokio
/// runtime, it blocks the thread that polls it.
#[derive(Clone)]
pub struct RocksDbStore {
    inner: Arc<Inner>,
}

/// The name of the writer thread.
pub(crate) const THREAD_NAME: &str = "es-rocksdb-writer";

/// The state that all handles share. Dropping it closes the store.
struct Inner {
    queue: Arc<Queue<Writer>>,
    shared: Arc<Shared>,
    mark: Arc<MarkFile>,
    decider: Arc<Decider>,
    writer: Mutex<Option<JoinHandle<()>>>,
    is_closed: AtomicBool,
    durability: Durability,
    read_batch: ReadLimits,
    directory: PathBuf,
    store_id: Uuid,
    log_id: LogId,
    created: Timestamp,
    /// The number of this opening.
    opening: u64,
}

impl Options {
    /// Opens the store in this directory, as [`RocksDbStore::open_with`] does.
    ///
    /// # Errors
    /// The errors of [`RocksDbStore::open_with`].
    pub async fn open(self, directory: impl AsRef<Path> + Send) -> Result<RocksDbStore, OpenError> {
        RocksDbStore::open_with(directory, self).await
    }
}

impl RocksDbStore {
    /// Opens the store in this directory with the default [`Options`]; creates a missing one.
    ///
    /// # Errors
    /// The errors of [`RocksDbStore::open_with`].
    pub async fn open(directory: impl AsRef<Path> + Send) -> Result<Self, OpenError> {
        Self::open_with(directory, Options::new()).await
    }

    /// Opens the store in this directory with these options.
    ///
    /// It reads the write-ahead log three times. The length of the log is limited to four write buffers.
    ///
    /// # Errors
    /// - [`OpenError::AlreadyOpen`] if another process or another handle has the store open.
    /// - [`OpenError::NoSuchDirectory`] if the directory has no store and
    ///   [`create_if_missing(false)`](Options::create_if_missing) is set.
    /// - [`OpenError::NotAStore`] if the directory has other files.
    /// - [`OpenError::NewerFormat`] or [`OpenError::OlderFormat`] if the store has another format version.
    /// - [`OpenError::Damaged`] if acknowledged events are lost or a file is corrupt.
    /// - [`OpenError::Hook`] if a hook cannot start.
    /// - [`OpenError::Io`] if the operating system or RocksDB returns an error.
    pub async fn open_with(directory: impl AsRef<Path> + Send, options: Options) -> Result<Self, OpenError> {
        let directory = directory.as_ref().to_owned();
        let hooks = options.hooks.clone();
        let opened = off_executor({
            let directory = directory.clone();
            move || open::open(&directory, &options).and_then(|opened| Self::start(opened, &options, None))
        });
        let store = opened.await.unwrap_or_else(|error| Err(OpenError::io(&directory, "open the store", error)))?;
        // ORDER: before a caller has a handle, so that no commit is decided without a hook.
        if let Err(source) = store.start_hooks(&hooks).await {
            // Dropping the handle would do the same and block the executor.
            if let Err(error) = store.close().await {
                let (directory, error) = (directory.display(), ErrorChain(&error));
                tracing::error!(%directory, %error, "could not close the store");
            }
            return Err(OpenError::Hook { directory, source });
        }
        Ok(store)
    }

    /// Prepares the hooks. Each takes part in every later commit.
    async fn start_hooks(&self, hooks: &[Arc<dyn PrepareHook>]) -> Result<(), StartHookError> {
        for hook in hooks {
            self.inner.decider.start(self, &**hook, |start| start(self.inner.shared.visible.head())).await?;
        }
        Ok(())
    }

    /// Starts the writer of an opened store. Tests pass another disk.
    pub(crate) fn start(opened: Opened, options: &Options, disk: Option<WriteToDisk>) -> Result<Self, OpenError> {
        let Opened { database, mark, end, recent, identity, opening } = opened;
        let Identity { id: store_id, log_id, created, secret } = identity;
        let directory = database.directory().to_owned();
        let operators = Operators::load(&database)
            .map_err(|error| OpenError::of_store(&directory, "read rules and deletions", error))?;
        tracing::info!(directory = %directory.display(), id = %log_id, head = ?end.head, "opened the store");
        let visible = Visible::new(end.head, database.sequence());
        let tail = Tail::new(options.tail_bytes);
        let clock = Arc::clone(&options.clock);
        let shared =
            Arc::new(Shared::new(Arc::clone(&database), visible, tail, operators, secret, clock, end.recorded_at));
        let mark = Arc::new(mark);
        let locks = rows::locks(&database)
            .map_err(|error| OpenError::of_store(&directory, "read the locks of transactions", error))?;
        let decider = Arc::new(Decider::new(locks));
        let writer = Writer::new(WriterParts {
            disk: disk.unwrap_or_else(|| production_disk(Arc::clone(&database), options.durability)),
            mark: Arc::clone(&mark),
            decider: Arc::clone(&decider),
            database,
            shared: Arc::clone(&shared),
            clock: Arc::clone(&options.clock),
            is_synced: options.durability == Durability::Sync,
            end,
            cached_heads: options.cached_heads,
            recent,
        });
        let queue = Arc::new(Queue::new(options.queue_bytes, options.commit_batch, writer));
        let writer = thread::Builder::new()
            .name(THREAD_NAME.into())
            .spawn({
                let queue = Arc::clone(&queue);
                move || writer::run(&queue)
            })
            .map_err(|error| OpenError::io(&directory, "start the writer", error))?;
        let inner = Inner {
            queue,
            shared,
            mark,
            decider,
            writer: Mutex::new(Some(writer)),
            is_closed: AtomicBool::new(false),
            durability: options.durability,
            read_batch: options.read_batch,
            directory,
            store_id,
            log_id,
            created,
            opening,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns the counters since the store was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.shared.counters.read()
    }

    /// Returns the memory that RocksDB uses for this store.
    ///
    /// # Errors
    /// - [`StoreError::Closed`] if the store is closed.
    /// - [`StoreError::Io`] if RocksDB does not return a number.
    pub async fn memory(&self) -> Result<Memory, StoreError> {
        self.inner.shared.blocking(Memory::of).await
    }

    /// Returns the absolute path of the directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// Returns the id of the store, which its backups and their restored copies share. The id of the log is another one
    /// after a restore; see [`log_id`](EventReader::log_id).
    #[must_use]
    pub fn store_id(&self) -> Uuid {
        self.inner.store_id
    }

    /// Returns the time when the store was created.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        self.inner.created
    }

    /// Returns by how much the last recorded time is ahead of the clock, if that is more than a minute. Recorded times
    /// never decrease, so later events get the same time until the clock has caught up. The store logs a warning when
    /// it is opened, and at the first such commit.
    #[must_use]
    pub fn ahead_of_clock(&self) -> Option<Duration> {
        self.inner.shared.ahead_of_clock()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    pub(crate) fn mark(&self) -> &Arc<MarkFile> {
        &self.inner.mark
    }

    pub(crate) fn durability(&self) -> Durability {
        self.inner.durability
    }

    /// Returns all retention rules and deletions.
    #[must_use]
    pub fn retention(&self) -> Retention {
        self.inner.shared.operators.all()
    }

    /// Flushes the memtables into table files, which later backups share.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        self.inner.shared.blocking(Database::flush).await
    }

    /// Validates and encodes a commit before it is queued.
    async fn draft(&self, commit: Commit) -> Result<(Draft, Reservation), CommitError> {
        // ORDER: the limits are checked before the reservation; the draft uses memory, and is made after it.
        let commit = commit.validated()?;
        let room = self.inner.queue.room(queued_bytes(&commit)).await.map_err(|Closed| self.inner.refusal())?;
        Ok((Draft::new(commit)?, room))
    }

    /// Encodes and queues as many of the first commits as the queue has room for, and removes them from `commits`.
    async fn queue_next(
        &self,
        commits: &mut VecDeque<ValidCommit>,
    ) -> Result<Vec<Result<PendingAnswer, StoreError>>, Closed> {
        let queue = &self.inner.queue;
        let rooms = queue.rooms(commits.iter().map(queued_bytes)).await?;
        let (mut drafts, mut failed) = (Vec::with_capacity(rooms.len()), Vec::new());
        for (index, (room, commit)) in rooms.into_iter().zip(std::iter::from_fn(|| commits.pop_front())).enumerate() {
            match Draft::new(commit) {
                Ok(draft) => drafts.push((draft, room)),
                Err(error) => failed.push((index, error)),
            }
        }
        let mut answers: Vec<_> = queue.push_all(drafts)?.into_iter().map(Ok).collect();
        for (index, error) in failed {
            answers.insert(index, Err(error));
        }
        Ok(answers)
    }

    /// Waits for the result of a queued commit.
    pub(crate) async fn answer(&self, waiting: PendingAnswer) -> Result<Committed, CommitError> {
        waiting.await.unwrap_or_else(|_| Err(self.inner.refusal()))
    }
}

#[cfg(test)]
impl RocksDbStore {
    /// Returns the open database, for tests with a failing disk.
    pub(crate) fn database_for_test(&self) -> Option<Arc<Database>> {
        self.inner.shared.database()
    }

    /// Returns the number of queued commits.
    pub(crate) fn queued_for_test(&self) -> usize {
        self.inner.queue.len()
    }
}

impl fmt::Debug for RocksDbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = self.inner.shared.visible.head();
        f.debug_struct("RocksDbStore")
            .field("directory", &self.inner.directory)
            .field("head", &head)
            .finish_non_exhaustive()
    }
}

/// Returns the bytes that a commit uses in the queue: its contents and its encoded records.
fn queued_bytes(commit: &ValidCommit) -> usize {
    commit.weight().saturating_mul(2)
}

/// Returns the function that writes a batch to RocksDB.
fn production_disk(database: Arc<Database>, durability: Durability) -> WriteToDisk {
    let options = options::write(durability);
    Box::new(move |batch| Ok(database.raw().write_opt(batch, &options)?))
}

impl Inner {
    fn close(&self) -> Result<(), StoreError> {
        self.is_closed.store(true, Ordering::Release);
        self.queue.close();
        // The lock is held until the writer has ended, so that a concurrent call of `close` waits, too.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let panicked = writer.take().is_some_and(|writer| writer.join().is_err()) || self.queue.is_abandoned();
        // ORDER: after the end of the writer, so that the log does not grow after followers are notified of the close.
        self.shared.visible.close();
        let Some(database) = self.shared.take() else { return Ok(()) };
        let synced = match self.durability {
            Durability::Sync => Ok(()),
            Durability::Buffered => {
                // ORDER: both before the sync, so that it covers them.
                let mark = Mark { sequence: database.sequence(), head: self.shared.visible.head() };
                let synced = database.raw().flush_wal(true);
                synced.map(|()| self.mark.raise(mark)).map_err(|error| of_rocksdb("sync", "write-ahead log", error))
            }
        };
        // From here on the mark does not lag, not even after a power failure.
        let synced = synced.and_then(|()| self.mark.sync().map_err(|error| StoreError::io("sync the mark", error)));
        // ORDER: the writer had the only other reference and has ended: this closes RocksDB and releases its lock.
        drop(database);
        self.mark.unlock();
        tracing::info!(directory = %self.directory.display(), "closed the store");
        if panicked {
            return Err(StoreError::io("end the writer", "it panicked; this is a bug, see the panic message"));
        }
        synced
    }

    /// Returns the error of a commit that was not queued or got no result.
    fn refusal(&self) -> CommitError {
        let error = if self.is_closed.load(Ordering::Acquire) {
            StoreError::Closed
        } else {
            StoreError::Stopped { reason: "its writer ended without being asked to".into() }
        };
        error.into()
    }

    /// Returns the head up to which a new read sees events.
    fn open_head(&self) -> Result<Option<Position>, StoreError> {
        if self.is_closed.load(Ordering::Acquire) { Err(StoreError::Closed) } else { Ok(self.shared.visible.head()) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            let (directory, error) = (self.directory.display(), ErrorChain(&error));
            tracing::error!(%directory, %error, "could not close the store");
        }
    }
}

#[async_trait]
impl EventReader for RocksDbStore {
    async fn read_stream(&self, read: StreamRead) -> Result<EventStream, StoreError> {
        Ok(self.inner.shared.read_stream(self.inner.read_batch, read, self.inner.open_head()?))
    }

    async fn visit_stream(&self, read: StreamRead, visitor: &mut Visitor<'_>) -> Result<(), StoreError> {
        self.inner.shared.visit_stream(self.inner.read_batch, read, self.inner.open_head()?, visitor).await
    }

    async fn visit_log(&self, read: LogRead, visitor: &mut Visitor<'_>) -> Result<Option<Position>, StoreError> {
        self.inner.shared.visit_log(self.inner.read_batch, read, self.inner.open_head()?, None, visitor).await
    }

    async fn read_log(&self, read: LogRead) -> Result<EventStream, StoreError> {
        Ok(self.inner.shared.read_log(self.inner.read_batch, read, self.inner.open_head()?))
    }

    async fn head(&self) -> Result<Option<Position>, StoreError> {
        self.inner.open_head()
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
        self.inner.shared.retained(stream, self.inner.open_head()?).await
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
            head: self.inner.open_head()?,
        };
        self.inner.shared.describe(described).await
    }
}

#[async_trait]
impl EventStore for RocksDbStore {
    /// Returns a number that grows with each opening. The lock of the directory excludes other processes.
    fn opening(&self) -> Option<u64> {
        Some(self.inner.opening)
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        let (draft, room) = self.draft(commit).await?;
        let queue = &self.inner.queue;
        let waiting =
            queue.push_or_serve(draft, room, writer::serve_on_caller).map_err(|Closed| self.inner.refusal())?;
        self.answer(waiting).await
    }

    /// Writes the commits with as few syncs as [`Options::commit_batch`] allows: with one if they fit into one batch.
    async fn commit_all(&self, commits: Vec<Commit>) -> Vec<Result<Committed, CommitError>> {
        let mut answers = Vec::with_capacity(commits.len());
        let (mut valid, mut waiting) = (VecDeque::with_capacity(commits.len()), VecDeque::with_capacity(commits.len()));
        for commit in commits {
            // The answer to a valid commit is filled in below.
            answers.push(commit.validated().map(|commit| valid.push_back(commit)));
        }
        while !valid.is_empty() {
            match self.queue_next(&mut valid).await {
                Ok(queued) => waiting.extend(queued),
                Err(Closed) => break,
            }
        }
        let mut answered = Vec::with_capacity(answers.len());
        for answer in answers {
            answered.push(match answer.map(|()| waiting.pop_front()) {
                Err(invalid) => Err(invalid.into()),
                Ok(Some(Ok(waiting))) => self.answer(waiting).await,
                Ok(Some(Err(error))) => Err(error.into()),
                Ok(None) => Err(self.inner.refusal()),
            });
        }
        answered
    }

    fn runs_hook(&self, name: &str) -> bool {
        self.inner.decider.runs(name)
    }

    fn is_own_origin(&self, origin: OriginId) -> bool {
        self.inner.decider.is_own_origin(origin)
    }

    fn replication(&self) -> Option<Arc<dyn Replication>> {
        self.inner.decider.replication()
    }

    async fn scavenge(&self, how: &Scavenge) -> Result<ScavengeReport, CommitError> {
        self.scavenge_now(how).await
    }

    /// Compacts all column families, one after the other, which makes reads cheaper and the directory smaller.
    ///
    /// Commits and reads continue, more slowly. It rewrites all table files and needs up to twice the disk space while
    /// it runs. RocksDB compacts in the background, too: call this after a scavenge that must leave no bytes, after an
    /// import, or before the directory is copied. A compaction ends after the current column family if its future is
    /// dropped.
    ///
    /// # Errors
    /// - [`StoreError::Closed`] if the store is closed, also if it is closed during the compaction.
    /// - [`StoreError::Damaged`] if a file is corrupt.
    /// - [`StoreError::Io`] if a read or a write fails, for example on a full disk.
    async fn compact(&self) -> Result<(), StoreError> {
        // One flush of all families, so that the write-ahead log files from before the call can be deleted.
        self.inner.shared.blocking(Database::flush).await?;
        for cf in Cf::ALL {
            self.inner.shared.blocking(move |database| database.compact(cf)).await?;
        }
        Ok(())
    }

    /// Writes the queued commits, waits for running reads, and closes the store for all handles. Afterwards the
    /// directory is unlocked and all acknowledged commits are on disk, also with [`Durability::Buffered`].
    ///
    /// If the future is dropped after its first poll, the store is closed nevertheless.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the last sync fails or the writer panicked, and [`StoreError::Damaged`] if RocksDB reports
    /// a corrupt file. The store is closed nevertheless. After an error, a power failure can lose commits that were
    /// acknowledged with [`Durability::Buffered`].
    async fn close(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        off_executor(move || inner.close()).await?
    }
}
