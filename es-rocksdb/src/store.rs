//! [`RocksDbStore`]: the handle of a store whose events are in a log of segments.

pub(crate) mod pinned_disk;
pub(crate) mod read_only;
pub(crate) mod snapshot;

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use es_core::model::{ErrorChain, LogId, OriginId, Table, UniqueKey};
use es_core::retention::{Retained, Retention, Scavenge, ScavengeReport};
use es_core::store::implement::{Decider, PrepareHook, Replication, ValidCommit};
use es_core::store::{
    Committed, EventStream, HeadWatch, InvalidCommit, Row, RowScan, StartHookError, StoreInfo, Visitor,
};
use es_core::{
    Commit, CommitError, EventId, EventReader, EventStore, LogRead, Position, RecordedEvent, Revision, StoreError,
    StreamId, StreamRead, Timestamp,
};
use es_log::{Log, PendingCommit, ReadableLog, Turn};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::engine::database::{Fault, Tier};
use crate::engine::memory::Memory;
use crate::error::OpenError;
use crate::executor::{may_block_here, off_executor};
use crate::index::END;
use crate::open::directory::Identity;
use crate::open::{self, OpenedLog};
use crate::options::Options;
use crate::reader::description::Described;
use crate::reader::shared::{CloseOnDrop, Core, SharedStore};
use crate::reader::stream_buffers::StreamBuffers;
use crate::record::codec::{EncodedCommit, IdleDecoders};
use crate::stats::Stats;
use crate::sync::thread;
use crate::sync::{AtomicBool, Mutex, PoisonError, RwLock};
use crate::writer::decide::{Accepted, DecisionInputs, Refused, not_appended, prefetch};
use crate::writer::publish::Publisher;
use crate::writer::seal;
use crate::{reader, scavenge};

/// The smallest cost of a commit in the queue, in bytes: its own size, the answer, the index entries of a small event.
const MIN_COST: u32 = 16 * 1024;

/// The number of full runs in memory at which commits wait until one is written to tables.
const MAX_FULL_RUNS: usize = 4;

/// An event store in a directory. The [crate documentation](crate) lists its guarantees.
///
/// A handle is cheap to clone, and all clones refer to one store. [`close`](EventStore::close) writes the waiting
/// commits and unlocks the directory. Dropping the last handle does the same, but blocks the thread, and logs errors
/// instead of returning them. An open [`EventStream`] does not keep the store open: its next batch is
/// [`StoreError::Closed`].
///
/// # Commits
///
/// A commit is decided on the thread of its task, one commit at a time, and added to the open frame of the log. One
/// write and one sync store all commits of a frame; meanwhile the next frame fills. The cost of an append condition is
/// the number of entries after its position in the most selective of its indexes: pass the position up to which the log
/// was read.
///
/// A lone commit is written on the thread of its task, if that is a worker of a multi-thread runtime. Tokio first moves
/// the worker's other tasks to another thread ([`block_in_place`](tokio::task::block_in_place)); futures in the same
/// task, such as other arms of a `join!`, continue after the sync. In all other cases, and for concurrent commits, a
/// thread of the log writes.
///
/// # Reads
///
/// A read runs on the executor if its data is in memory. Otherwise it blocks its thread, if that is a worker of a
/// multi-thread runtime, as a lone commit does, or runs on tokio's blocking threads. Outside a tokio runtime, it blocks
/// the thread that polls it.
#[derive(Clone)]
pub struct RocksDbStore {
    pub(crate) inner: Arc<SharedStore>,
    _close: Arc<CloseOnDrop>,
}

/// A commit that was decided.
enum Begun {
    Accepted(Accepted, PendingCommit),
    Refused(Refused),
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
    /// It reads the part of the log that is not in index tables yet: at most some 100,000 events.
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
            move || open::open(&directory, &options).and_then(|opened| Self::start(opened, &options))
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

    pub(crate) fn start(opened: OpenedLog, options: &Options) -> Result<Self, OpenError> {
        let OpenedLog { log, publisher, decider, identity, directory, tables } = opened;
        let Identity { id: store_id, log_id, created, secret } = identity;
        let handles = Arc::clone(&publisher.handles);
        let sealer = thread::Builder::new().name("es-rocksdb-index".into()).spawn({
            let (publisher, log) = (Arc::clone(&publisher), Arc::downgrade(&log));
            let compresses = options.compress_log;
            move || seal::run(&publisher, &log, &tables, compresses)
        });
        let sealer = sealer.map_err(|error| OpenError::io(&directory, "start the thread of the index", error))?;
        publisher.signal_full_run(handles.visible.head());
        let capacity = u32::try_from(options.queue_bytes).unwrap_or(u32::MAX).max(MIN_COST);
        let permits = usize::try_from(capacity).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let opening = log.opens();
        let inner = SharedStore {
            core: RwLock::new(Some(Core { log: ReadableLog::clone(&log), writer: Some(log), publisher, secret })),
            handles,
            decider,
            sealer: Mutex::new(Some(sealer)),
            room: Arc::new(Semaphore::new(permits)),
            capacity,
            is_closed: AtomicBool::new(false),
            maintaining: Arc::default(),
            read_batch: options.read_batch,
            decoders: IdleDecoders::default(),
            buffers: StreamBuffers::new(options.stream_buffer_bytes),
            clock: Arc::clone(&options.clock),
            directory,
            store_id,
            log_id,
            created,
            opening,
        };
        Ok(Self::of(inner))
    }

    /// Creates the handle of a store that is only read. It is not for commits.
    pub(crate) fn of_snapshot(
        log: ReadableLog,
        publisher: Arc<Publisher>,
        decider: Arc<Decider>,
        identity: Identity,
        directory: PathBuf,
        options: &Options,
    ) -> Self {
        let Identity { id: store_id, log_id, created, secret } = identity;
        let handles = Arc::clone(&publisher.handles);
        let inner = SharedStore {
            core: RwLock::new(Some(Core { log, writer: None, publisher, secret })),
            handles,
            decider,
            sealer: Mutex::new(None),
            room: Arc::new(Semaphore::new(0)),
            capacity: 0,
            is_closed: AtomicBool::new(false),
            maintaining: Arc::default(),
            read_batch: options.read_batch,
            decoders: IdleDecoders::default(),
            buffers: StreamBuffers::new(options.stream_buffer_bytes),
            clock: Arc::clone(&options.clock),
            directory,
            store_id,
            log_id,
            created,
            opening: 0,
        };
        Self::of(inner)
    }

    fn of(inner: SharedStore) -> Self {
        let inner = Arc::new(inner);
        let close = Arc::new(CloseOnDrop(Arc::clone(&inner)));
        Self { inner, _close: close }
    }

    /// Prepares the hooks. Each takes part in every later commit.
    async fn start_hooks(&self, hooks: &[Arc<dyn PrepareHook>]) -> Result<(), StartHookError> {
        let at_end = |start: &mut dyn FnMut(Option<Position>) -> bool| {
            let started = self.inner.with(|core| {
                let decisions = core.publisher.decisions()?;
                Ok(start(decisions.end.head))
            });
            // A closed or stopped store takes no commits, so that it does not matter whether the hook takes part.
            started.unwrap_or_else(|_| start(self.inner.handles.visible.head()))
        };
        for hook in hooks {
            self.inner.decider.start(self, &**hook, at_end).await?;
        }
        Ok(())
    }

    /// Returns the counters since the store was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.handles.counters.read()
    }

    /// Returns the memory that RocksDB uses for this store.
    ///
    /// # Errors
    /// - [`StoreError::Closed`] if the store is closed.
    /// - [`StoreError::Io`] if RocksDB does not return a number.
    pub async fn memory(&self) -> Result<Memory, StoreError> {
        let inner = Arc::clone(&self.inner);
        off_executor(move || inner.with(|core| Memory::of(&core.publisher.database))).await?
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
        reader::ahead_of_log(&self.inner)
    }

    /// Returns all retention rules and deletions.
    #[must_use]
    pub fn retention(&self) -> Retention {
        // A closed store has none.
        self.inner.with(|core| Ok(core.publisher.operators.all())).unwrap_or_default()
    }
}

impl fmt::Debug for RocksDbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = self.inner.handles.visible.head();
        f.debug_struct("RocksDbStore")
            .field("directory", &self.inner.directory)
            .field("head", &head)
            .finish_non_exhaustive()
    }
}

impl SharedStore {
    fn cost(&self, commit: &ValidCommit) -> u32 {
        u32::try_from(commit.weight().saturating_mul(2)).unwrap_or(u32::MAX).clamp(MIN_COST, self.capacity)
    }

    /// Waits until the queue has room for a commit and the index has written enough events to tables. Fails if it
    /// cannot write them, and while a failed write is tried again.
    async fn room(&self, commit: &ValidCommit) -> Result<OwnedSemaphorePermit, StoreError> {
        let cost = self.cost(commit);
        // Commits that wait for a failed write keep their room.
        let room = self.handles.visible.unless_stalled(Arc::clone(&self.room).acquire_many_owned(cost)).await?;
        let room = room.map_err(|_| StoreError::Closed)?;
        self.wait_for_tables(|core| Ok((core.publisher.index.full_runs() < MAX_FULL_RUNS).then_some(()))).await?;
        Ok(room)
    }

    /// Encodes a commit, and reads what its decision needs.
    async fn draft(self: &Arc<Self>, commit: ValidCommit) -> Result<EncodedCommit, StoreError> {
        let draft = EncodedCommit::new(commit)?;
        let prefetched = self.with(|core| match prefetch(&core.view(END), &core.secret, &draft, Tier::Cached) {
            Ok(()) => Ok(true),
            Err(Fault::NotCached) => Ok(false),
            Err(Fault::Store(error)) => Err(error),
        })?;
        if prefetched {
            return Ok(draft);
        }
        let inner = Arc::clone(self);
        off_executor(move || {
            inner.with(|core| Ok(prefetch(&core.view(END), &core.secret, &draft, Tier::Any)?))?;
            Ok(draft)
        })
        .await?
    }

    /// Decides on a commit and adds it to the open frame of the log.
    fn begin<'a>(&self, core: &Core, log: &'a Log, draft: &mut EncodedCommit) -> (Begun, Option<Turn<'a>>) {
        let Core { publisher, secret, .. } = core;
        let inputs = DecisionInputs {
            decider: &self.decider,
            index: &publisher.index,
            database: &publisher.database,
            log,
            secret,
        };
        let begun = log.begin(|frame| {
            let mut decisions =
                publisher.decisions().map_err(|error| Refused { answer: Err(error.into()), after: 0 })?;
            decisions.decide(&inputs, draft, frame, self.clock.now())
        });
        match begun {
            Ok((accepted, pending, turn)) => (Begun::Accepted(accepted, pending), turn),
            Err(refused) => (Begun::Refused(refused), None),
        }
    }

    /// Waits for the answer to a commit.
    async fn answer(&self, begun: Begun) -> Result<Committed, CommitError> {
        match begun {
            Begun::Accepted(Accepted { events, number }, pending) => {
                pending.await.map_err(not_appended)?;
                self.handles.visible.wait_published(number).await?;
                Ok(Committed { events: Arc::unwrap_or_clone(events), repeated: false })
            }
            Begun::Refused(Refused { answer, after }) => {
                self.handles.visible.wait_published(after).await?;
                answer
            }
        }
    }
}

/// Writes the frame of a lone commit on this thread if it may block; otherwise a thread of the log writes it.
fn write_or_leave(turn: Option<Turn<'_>>) {
    match turn {
        Some(turn) if may_block_here() => tokio::task::block_in_place(|| turn.write()),
        turn => drop(turn),
    }
}

#[async_trait]
impl EventReader for RocksDbStore {
    async fn read_stream(&self, read: StreamRead) -> Result<EventStream, StoreError> {
        Ok(reader::read_stream(&self.inner, read, self.inner.open_head()?))
    }

    async fn visit_stream(&self, read: StreamRead, visitor: &mut Visitor<'_>) -> Result<(), StoreError> {
        reader::visit_stream(&self.inner, read, self.inner.open_head()?, visitor).await
    }

    async fn read_log(&self, read: LogRead) -> Result<EventStream, StoreError> {
        Ok(reader::read_log(&self.inner, read, self.inner.open_head()?))
    }

    async fn visit_log(&self, read: LogRead, visitor: &mut Visitor<'_>) -> Result<Option<Position>, StoreError> {
        reader::visit_log(&self.inner, read, self.inner.open_head()?, visitor).await
    }

    async fn head(&self) -> Result<Option<Position>, StoreError> {
        self.inner.open_head()
    }

    fn log_id(&self) -> LogId {
        self.inner.log_id
    }

    fn watch_head(&self) -> HeadWatch {
        self.inner.handles.visible.watch()
    }

    async fn revision(&self, stream: &StreamId) -> Result<Option<Revision>, StoreError> {
        let Some(head) = self.inner.open_head()? else { return Ok(None) };
        let stream = stream.clone();
        self.inner.read(move |core, tier| reader::revision(&core.view(head), &stream, tier)).await
    }

    async fn find(&self, id: EventId) -> Result<Option<RecordedEvent>, StoreError> {
        let Some(head) = self.inner.open_head()? else { return Ok(None) };
        let now = self.inner.clock.now();
        self.inner.read(move |core, tier| reader::find(core, id, head, now, tier)).await
    }

    async fn owner(&self, key: &UniqueKey) -> Result<Option<StreamId>, StoreError> {
        let key = key.clone();
        let read = move |core: &_, tier| reader::owner(core, &key, tier);
        let Some(owner) = self.inner.read_changing(read).await? else { return Ok(None) };
        // ORDER: after the claim is read. A deletion that this misses was not acknowledged when the read started.
        let begins = self.inner.with(|core| Ok(core.publisher.operators.of(&owner.stream).begins()))?;
        Ok(owner.holder(begins))
    }

    async fn row(&self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let (table, key) = (table.clone(), Bytes::copy_from_slice(key));
        self.inner.read_changing(move |core, tier| core.publisher.database.row(&table, &key, tier)).await
    }

    async fn rows(&self, scan: RowScan) -> Result<Vec<Row>, StoreError> {
        self.inner.read_changing(move |core, tier| reader::rows(core, &scan, tier)).await
    }

    async fn retained(&self, stream: &StreamId) -> Result<Retained, StoreError> {
        let (head, stream, now) = (self.inner.open_head()?, stream.clone(), self.inner.clock.now());
        self.inner.read(move |core, tier| reader::retained(core, &stream, head, now, tier)).await
    }

    async fn streams(
        &self,
        prefix: &str,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<(StreamId, Revision)>, StoreError> {
        let Some(head) = self.inner.open_head()? else { return Ok(Vec::new()) };
        let (prefix, after, inner) = (prefix.to_owned(), after.cloned(), Arc::clone(&self.inner));
        let list = move || inner.with(|core| Ok(reader::streams(&core.view(head), &prefix, after.as_ref(), limit)?));
        off_executor(list).await?
    }

    async fn info(&self) -> Result<StoreInfo, StoreError> {
        let described = Described {
            directory: self.inner.directory.clone(),
            store_id: self.inner.store_id,
            log_id: self.inner.log_id,
            created: self.inner.created,
            head: self.inner.open_head()?,
        };
        reader::info(&self.inner, described).await
    }
}

#[async_trait]
impl EventStore for RocksDbStore {
    /// Returns a number that grows with each opening. The lock of the directory excludes other processes.
    fn opening(&self) -> Option<u64> {
        Some(self.inner.opening)
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        // ORDER: the limits are checked before the room is reserved; the draft uses memory, and is made after it.
        let commit = commit.validated()?;
        let _room = self.inner.room(&commit).await?;
        let mut draft = self.inner.draft(commit).await?;
        let begun = self.inner.with_log(|core, log| {
            let (begun, turn) = self.inner.begin(core, log, &mut draft);
            write_or_leave(turn);
            Ok(begun)
        })?;
        self.inner.answer(begun).await
    }

    /// Writes the commits with as few syncs as the room of the queue allows.
    async fn commit_all(&self, commits: Vec<Commit>) -> Vec<Result<Committed, CommitError>> {
        let mut answers = Vec::with_capacity(commits.len());
        let mut commits: VecDeque<_> = commits.into_iter().map(Commit::validated).collect();
        while !commits.is_empty() {
            let group = self.next_group(&mut commits).await;
            for begun in self.begin_all(group) {
                answers.push(match begun {
                    Ok((begun, _room)) => self.inner.answer(begun).await,
                    Err(error) => Err(error),
                });
            }
        }
        answers
    }

    fn runs_hook(&self, name: &str) -> bool {
        self.inner.decider.runs(name)
    }

    fn replication(&self) -> Option<Arc<dyn Replication>> {
        self.inner.decider.replication()
    }

    fn is_own_origin(&self, origin: OriginId) -> bool {
        self.inner.decider.is_own_origin(origin)
    }

    /// Removes hidden events: from the log, by rewriting the segments that have them, and from the index, by compacting
    /// the ranges that have them. Afterwards no segment and no table contains them. The manifest of RocksDB can name
    /// their tags until the store is opened again.
    async fn scavenge(&self, how: &Scavenge) -> Result<ScavengeReport, CommitError> {
        scavenge::scavenge(self, &self.inner, how).await
    }

    /// Rewrites the segments of the log without rows and unique keys that the index has, compresses them, and compacts
    /// the index.
    ///
    /// # Errors
    /// - [`StoreError::Closed`] if the store is closed, also if it is closed during the compaction.
    /// - [`StoreError::Damaged`] if a file is corrupt.
    /// - [`StoreError::Io`] if a read or a write fails, for example on a full disk.
    async fn compact(&self) -> Result<(), StoreError> {
        scavenge::compact(&self.inner).await
    }

    /// Writes the waiting commits, waits for running reads, and closes the store for all handles. Afterwards the
    /// directory is unlocked and all acknowledged commits are on disk, also with
    /// [`Durability::Buffered`](crate::Durability::Buffered).
    ///
    /// If the future is dropped after its first poll, the store is closed nevertheless.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the last sync fails. The store is closed nevertheless.
    async fn close(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        off_executor(move || inner.close()).await?
    }
}

/// A commit that is ready for its decision, with its room in the queue; or why there is none.
type Drafted = Result<(EncodedCommit, OwnedSemaphorePermit), CommitError>;

impl RocksDbStore {
    /// Takes the next commits for which the queue has room together: at least one.
    async fn next_group(&self, commits: &mut VecDeque<Result<ValidCommit, InvalidCommit>>) -> Vec<Drafted> {
        let mut group = Vec::new();
        while let Some(next) = commits.front() {
            // ORDER: only the first commit waits for room. Two callers that each hold a part of the room and wait for
            // the rest would deadlock.
            let room = match next {
                Ok(commit) if group.is_empty() => Some(self.inner.room(commit).await),
                Ok(commit) => match Arc::clone(&self.inner.room).try_acquire_many_owned(self.inner.cost(commit)) {
                    Ok(room) => Some(Ok(room)),
                    Err(_) => break,
                },
                Err(_) => None,
            };
            let drafted = match (commits.pop_front(), room) {
                (Some(Ok(commit)), Some(Ok(room))) => match self.inner.draft(commit).await {
                    Ok(draft) => Ok((draft, room)),
                    Err(error) => Err(error.into()),
                },
                (_, Some(Err(error))) => Err(error.into()),
                (Some(Err(invalid)), _) => Err(invalid.into()),
                (None, Some(Ok(_))) | (_, None) => break,
            };
            group.push(drafted);
        }
        group
    }

    /// Decides on commits, and adds those that are accepted to one frame of the log if possible.
    fn begin_all(&self, group: Vec<Drafted>) -> Vec<Result<(Begun, OwnedSemaphorePermit), CommitError>> {
        let core = self.inner.core.read().unwrap_or_else(PoisonError::into_inner);
        let open = core.as_ref().and_then(|core| Some((core, &**core.writer.as_ref()?)));
        // The turn of the first commit is kept until all of them are in the frame.
        let mut first_turn = None;
        let begin = |drafted: Drafted| {
            let (mut draft, room) = drafted?;
            let (core, log) = open.ok_or(StoreError::Closed)?;
            let (begun, turn) = self.inner.begin(core, log, &mut draft);
            first_turn = first_turn.take().or(turn);
            Ok((begun, room))
        };
        let begun = group.into_iter().map(begin).collect();
        write_or_leave(first_turn);
        begun
    }
}
