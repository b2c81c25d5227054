//! [`Options`] of a store, and all RocksDB options that matter for safety.

use std::sync::Arc;

use es_core::model::{Clock, SystemClock};
use es_core::store::implement::PrepareHook;
use rocksdb::{BlockBasedOptions, Cache, DBCompressionType};

use crate::access;
use crate::schema::Cf;

/// When a commit is acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// After `fdatasync`: the commit survives a power failure. Concurrent commits share one sync.
    #[default]
    Sync,
    /// After the write to the operating system. The commit survives the end of the process, including `kill -9`, but
    /// not a power failure or a crash of the machine: **the most recent acknowledged commits are then lost (about the
    /// last 30 seconds with the default settings of Linux)**, and opening the store may fail with
    /// [`Damaged`](crate::OpenError::Damaged), because the system may have written a later page of the log before an
    /// earlier one. Rows and unique keys of lost commits can be left in the index; a
    /// [verification](crate::ReadOnlyStore::verify) finds them. [`close`](es_core::EventStore::close) syncs. Suitable
    /// for tests, repeatable imports and derived data.
    Buffered,
}

/// What follows a write that failed before its sync, such as without disk space or without a file descriptor. A failed
/// sync stops the store in any case, because a second one can succeed although data is lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum OnWriteFailure {
    /// The write is tried again until it succeeds, so that the store continues by itself when the cause is gone. The
    /// commits that were decided before wait for it, until the store is closed. Further commits are refused at once
    /// with [`StoreError::Stalled`](es_core::StoreError::Stalled). Reads go on.
    ///
    /// For tables of the index, [`write_buffer_bytes`](Options::write_buffer_bytes) must be free first. A table that
    /// cannot be written for another reason than a lack of space stops the store: RocksDB does not try it again.
    #[default]
    Retry,
    /// The store takes no more commits: all fail with [`StoreError::Stopped`](es_core::StoreError::Stopped) until it is
    /// opened again. Reads go on. Suitable for a service that ends and is restarted by another program.
    Stop,
}

/// The options of a store.
///
/// # Memory
///
/// A store uses about block cache + 2 × write buffer + queue + tail + stream buffers + five runs of the index, plus two
/// batches for each open read, plus a small amount for each stream and category that has a retention rule or was
/// deleted, plus half a byte for each event. The number of streams has no influence.
/// [`memory`](crate::RocksDbStore::memory) returns the part that RocksDB uses.
///
/// The resident set of the process is larger, because glibc's allocator keeps freed memory in up to eight arenas per
/// processor. `MALLOC_ARENA_MAX=2` in the environment of the process reduces it, at some cost in throughput.
///
/// ```no_run
/// # use es_core::EventStore;
/// # async fn open() -> Result<(), es_rocksdb::OpenError> {
/// let store = es_rocksdb::Options::new().block_cache_bytes(256 << 20).create_if_missing(false).open("data").await?;
/// # store.close().await.ok();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) durability: Durability,
    pub(crate) on_write_failure: OnWriteFailure,
    pub(crate) create_if_missing: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) block_cache_bytes: usize,
    pub(crate) write_buffer_bytes: usize,
    pub(crate) max_open_files: i32,
    pub(crate) queue_bytes: usize,
    pub(crate) read_batch: ReadLimits,
    pub(crate) hooks: Vec<Arc<dyn PrepareHook>>,
    pub(crate) tail_bytes: usize,
    pub(crate) index_run: RunSize,
    pub(crate) log_segment_bytes: u32,
    pub(crate) compress_log: bool,
    pub(crate) stream_buffer_bytes: usize,
}

/// The size of a batch of a read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadLimits {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

impl ReadLimits {
    /// Returns the smaller limit of each kind.
    pub(crate) fn at_most(self, other: Self) -> Self {
        Self { events: self.events.min(other.events), bytes: self.bytes.min(other.bytes) }
    }
}

/// The size at which the index of the newest events is written to tables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunSize {
    pub(crate) events: u32,
    pub(crate) bytes: usize,
}

const MIB: usize = 1024 * 1024;
/// RocksDB rounds smaller write buffers up to this size.
const MIN_WRITE_BUFFER: usize = 64 * 1024;

impl Options {
    /// Creates the default options: [`Durability::Sync`], [`OnWriteFailure::Retry`], created if missing, the system
    /// clock, and 64 MiB each of block cache and write buffer.
    #[must_use]
    pub fn new() -> Self {
        Self {
            durability: Durability::Sync,
            on_write_failure: OnWriteFailure::Retry,
            create_if_missing: true,
            clock: Arc::new(SystemClock::new()),
            block_cache_bytes: 64 * MIB,
            write_buffer_bytes: 64 * MIB,
            max_open_files: 512,
            queue_bytes: 64 * MIB,
            read_batch: ReadLimits { events: 4096, bytes: 4 * MIB },
            hooks: Vec::new(),
            tail_bytes: 8 * MIB,
            index_run: RunSize { events: 131_072, bytes: 64 * MIB },
            log_segment_bytes: 64 << 20,
            compress_log: false,
            stream_buffer_bytes: 32 * MIB,
        }
    }

    /// Sets when a commit is acknowledged. Default: [`Durability::Sync`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets what follows a write that failed before its sync. Default: [`OnWriteFailure::Retry`].
    #[must_use]
    pub fn on_write_failure(mut self, then: OnWriteFailure) -> Self {
        self.on_write_failure = then;
        self
    }

    /// Sets whether to create a missing directory and store. Default: `true`. Use `false` in production once the store
    /// exists, so that an unmounted disk is an error and not an empty store.
    #[must_use]
    pub fn create_if_missing(mut self, create: bool) -> Self {
        self.create_if_missing = create;
        self
    }

    /// Sets the source of [`recorded_at`](es_core::RecordedEvent::recorded_at). Default: the system clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the size of RocksDB's cache of uncompressed blocks, in bytes. Default: 64 MiB. It has the largest influence
    /// on the speed of reads: give it the memory that the machine can spare.
    #[must_use]
    pub fn block_cache_bytes(mut self, bytes: usize) -> Self {
        self.block_cache_bytes = bytes;
        self
    }

    /// Sets the size of RocksDB's memtables, of all column families together, in bytes, at least 64 KiB. Default:
    /// 64 MiB. They have the rows and unique keys that are not in tables yet.
    #[must_use]
    pub fn write_buffer_bytes(mut self, bytes: usize) -> Self {
        self.write_buffer_bytes = bytes.max(MIN_WRITE_BUFFER);
        self
    }

    /// Sets how many files RocksDB keeps open, at least 32. Default: 512, which leaves descriptors for sockets under
    /// the usual limit of 1,024. A file has about 64 MiB. It is never more than half of the files that the process may
    /// have open (`ulimit -n`).
    #[must_use]
    pub fn max_open_files(mut self, files: u16) -> Self {
        self.max_open_files = i32::from(files.max(32));
        self
    }

    /// Limits the bytes of commits that are not answered yet. Default: 64 MiB. A commit counts as twice the size of its
    /// contents, because its encoded records are in memory with it, and as at least 16 KiB, so that the default also
    /// limits them to 4,096 commits. When there is no room, a commit waits for it.
    #[must_use]
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Limits the events, and the bytes of records, in one batch of a read, both at least 1. A larger single event is
    /// fetched alone. A read starts with smaller batches and fetches the next batch while the caller processes the last
    /// one. Default: 4,096 events, 4 MiB.
    #[must_use]
    pub fn read_batch(mut self, events: usize, bytes: usize) -> Self {
        self.read_batch = ReadLimits { events: events.max(1), bytes: bytes.max(1) };
        self
    }

    /// Adds a hook that takes part in each commit, such as an [inline projection](es_core::projection::inline::Inline).
    /// Opening the store prepares the hook: an inline projection first catches up with the log. Every commit waits for
    /// every hook.
    #[must_use]
    pub fn hook(mut self, hook: impl PrepareHook) -> Self {
        self.hooks.push(Arc::new(hook));
        self
    }

    /// Sets how many bytes of the newest events stay in memory for followers of the log. Default: 8 MiB, about 10,000
    /// small events. A forward read of the log that starts within these events is served from memory, with any query.
    /// With 0, all reads use the files of the log.
    #[must_use]
    pub fn tail_bytes(mut self, bytes: usize) -> Self {
        self.tail_bytes = bytes;
        self
    }

    /// Sets how many events, and how many bytes of their records, the store indexes in memory before it writes them to
    /// index tables, both at least 1. Default: 131,072 events, 64 MiB. An event needs about 200 bytes of memory
    /// meanwhile; up to five times as many events are in memory while tables are written. Opening the store reads the
    /// events that are not in tables.
    ///
    /// A scavenge removes as many events at a time, and needs some 600 bytes of memory for each.
    #[must_use]
    pub fn index_run(mut self, events: u32, bytes: usize) -> Self {
        self.index_run = RunSize { events: events.max(1), bytes: bytes.max(1) };
        self
    }

    /// Sets the size of the largest segment of the log, in bytes, at least 8 KiB. Default: 64 MiB. The first segment
    /// has an eighth of it, and each further one twice the size of the one before. A segment is filled with zeros
    /// before it is used. A scavenge or a compaction needs twice this memory.
    #[must_use]
    pub fn log_segment_bytes(mut self, bytes: u32) -> Self {
        self.log_segment_bytes = bytes.max(8 << 10);
        self
    }

    /// Sets whether the store compresses a segment of its log after all its events
    /// are in index tables. Default: `false`. The thread of the index does so while it has no tables to write, one
    /// segment after the other, with a low priority. Events of 200 bytes need less than half of the space then. A read
    /// of the whole log takes about half as long again, and a read of single events, such as those with a tag, two to
    /// three times as long. [`compact`](es_core::EventStore::compact) compresses all sealed segments in any case.
    #[must_use]
    pub fn compress_log(mut self, compresses: bool) -> Self {
        self.compress_log = compresses;
        self
    }

    /// Sets how many bytes of the streams that were read last the store keeps in memory. A stream above an eighth of it
    /// is not kept. Default: 32 MiB.
    #[must_use]
    pub fn stream_buffer_bytes(mut self, bytes: usize) -> Self {
        self.stream_buffer_bytes = bytes;
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the options of the index, with a reason for each that decides what a crash can lose. Defaults of RocksDB are
/// set explicitly, so that an upgrade of RocksDB does not change them.
pub(crate) fn database(options: &Options) -> rocksdb::Options {
    let mut db = rocksdb::Options::default();
    // The log decides whether there is a store.
    db.create_if_missing(true);
    db.create_missing_column_families(true);

    // RocksDB then checks the data that it reads, and stops writing after a failed write or sync.
    db.set_paranoid_checks(true);
    // Both weaken what a reader can see during a write.
    db.set_unordered_write(false);
    db.set_enable_pipelined_write(false);
    // The log has all changes, so RocksDB needs none of its own. The families whose changes are in memory are flushed
    // together, so that they are at one point of the log after a crash.
    db.set_atomic_flush(true);
    db.set_track_and_verify_wals_in_manifest(false);

    db.set_max_open_files(access::open_files(options.max_open_files));
    db.set_db_write_buffer_size(options.write_buffer_bytes);
    // Writes back table files in small steps, so that no sync of the log waits for a large file.
    db.set_bytes_per_sync(MIB as u64);
    db.set_max_background_jobs(4);
    db.set_keep_log_file_num(8);
    db.set_max_log_file_size(16 * MIB);
    db
}

/// The predominant access pattern of a family.
#[derive(PartialEq, Eq)]
enum Access {
    /// Scans of records: large blocks compress best and are read once.
    Records,
    /// Look-ups of single keys, often missing ones: a Bloom filter answers these from memory.
    Points,
    /// Short scans over small keys.
    Postings,
}

fn access(cf: Cf) -> Access {
    match cf {
        Cf::Streams => Access::Records,
        Cf::Heads | Cf::Ids | Cf::Keys | Cf::Rows | Cf::Meta => Access::Points,
        Cf::Categories | Cf::Types | Cf::Tags => Access::Postings,
    }
}

/// The number of tables on level 0 at which writes wait for a compaction: the limit of RocksDB.
const LEVEL_ZERO_TABLES: i32 = 36;
/// The number of bytes to compact at which writes wait for it: the limit of RocksDB.
const PENDING_BYTES: usize = 256 << 30;

pub(crate) fn family(cf: Cf, options: &Options, cache: &Cache) -> rocksdb::Options {
    let access = access(cf);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    // Index and filter blocks count as cache, so that one number limits the memory.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_block_size(if access == Access::Records { 16 * 1024 } else { 4 * 1024 });
    let mut family = rocksdb::Options::default();
    if access == Access::Points {
        table.set_bloom_filter(10.0, false);
        family.set_memtable_prefix_bloom_ratio(0.02);
        family.set_memtable_whole_key_filtering(true);
    }
    family.set_block_based_table_factory(&table);
    family.set_compression_type(DBCompressionType::Lz4);
    family.set_bottommost_compression_type(DBCompressionType::Zstd);
    family.set_level_compaction_dynamic_level_bytes(true);
    // The database has the limit of all families together. This limit lets one family use most of it.
    family.set_write_buffer_size(options.write_buffer_bytes);
    // RocksDB refuses writes at the limit, and does not slow them down before: a refused write is tried again
    // (`layout::write`), and attempts would make the delay longer.
    family.set_level_zero_slowdown_writes_trigger(LEVEL_ZERO_TABLES);
    family.set_level_zero_stop_writes_trigger(LEVEL_ZERO_TABLES);
    family.set_soft_pending_compaction_bytes_limit(PENDING_BYTES);
    family.set_hard_pending_compaction_bytes_limit(PENDING_BYTES);
    family
}
