//! [`Options`] of a store, and all RocksDB options that matter for safety.

use std::sync::Arc;

use es_core::model::{Clock, SystemClock};
use es_core::store::implement::PrepareHook;
use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, WriteOptions};

use crate::access;
use crate::group::BatchLimits;
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
    /// [`Damaged`](crate::OpenError::Damaged), because the system may have written a later page of the write-ahead log
    /// before an earlier one. [`close`](es_core::EventStore::close) syncs. Suitable for tests, repeatable imports and
    /// derived data.
    Buffered,
}

/// The options of a store.
///
/// # Memory
///
/// A store uses about block cache + 2 × write buffer + queue + cached heads + tail, plus two batches for each open
/// read, plus a small amount for each stream and category that has a retention rule or was deleted. The number of
/// events and streams has no influence. [`memory`](crate::RocksDbStore::memory) returns the part that RocksDB uses.
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
    pub(crate) create_if_missing: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) block_cache_bytes: usize,
    pub(crate) write_buffer_bytes: usize,
    pub(crate) max_open_files: i32,
    pub(crate) commit_batch: BatchLimits,
    pub(crate) queue_bytes: usize,
    pub(crate) read_batch: ReadLimits,
    pub(crate) cached_heads: usize,
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
    /// Creates the default options: [`Durability::Sync`], created if missing, the system clock, and 64 MiB each of
    /// block cache and write buffer.
    #[must_use]
    pub fn new() -> Self {
        Self {
            durability: Durability::Sync,
            create_if_missing: true,
            clock: Arc::new(SystemClock::new()),
            block_cache_bytes: 64 * MIB,
            write_buffer_bytes: 64 * MIB,
            max_open_files: 512,
            commit_batch: BatchLimits { commits: 1024, bytes: 8 * MIB },
            queue_bytes: 64 * MIB,
            read_batch: ReadLimits { events: 4096, bytes: 4 * MIB },
            cached_heads: 65_536,
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
    /// 64 MiB. The write-ahead log, which is read when the store opens, is limited to four times this size, or 16 MiB
    /// if that is more.
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

    /// Limits the commits, and the bytes of their contents, that the writer combines into one write, both at least 1. A
    /// larger single commit is written alone. Default: 1,024 commits, 8 MiB. With larger batches, more commits share
    /// one sync, and each of them waits longer.
    #[must_use]
    pub fn commit_batch(mut self, commits: usize, bytes: usize) -> Self {
        self.commit_batch = BatchLimits { commits: commits.max(1), bytes: bytes.max(1) };
        self
    }

    /// Limits the bytes of commits that wait for the writer. Default: 64 MiB. A commit counts as twice the size of its
    /// contents, because its encoded records are queued with it, and as at least 16 KiB, so that the default also
    /// limits the queue to 4,096 commits. When the queue is full, a commit waits until it has room.
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

    /// Sets for how many streams the writer caches the last revision, at least 1, about 150 bytes each. Default:
    /// 65,536.
    #[must_use]
    pub fn cached_heads(mut self, streams: usize) -> Self {
        self.cached_heads = streams.max(1);
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
    /// With 0, all reads use RocksDB.
    #[must_use]
    pub fn tail_bytes(mut self, bytes: usize) -> Self {
        self.tail_bytes = bytes;
        self
    }

    /// Sets how many events, and how many bytes of their records, a [`SegmentedStore`](crate::SegmentedStore) indexes
    /// in memory before it writes them to index tables, both at least 1. Default: 131,072 events, 64 MiB. An event
    /// needs about 200 bytes of memory meanwhile; up to five times as many events are in memory while tables are
    /// written. Opening the store reads the events that are not in tables.
    #[must_use]
    pub fn index_run(mut self, events: u32, bytes: usize) -> Self {
        self.index_run = RunSize { events: events.max(1), bytes: bytes.max(1) };
        self
    }

    /// Sets the size of the largest segment of the log of a [`SegmentedStore`](crate::SegmentedStore), in bytes, at
    /// least 8 KiB. Default: 64 MiB. The first segment has an eighth of it, and each further one twice the size of the
    /// one before. A segment is filled with zeros before it is used.
    #[must_use]
    pub fn log_segment_bytes(mut self, bytes: u32) -> Self {
        self.log_segment_bytes = bytes.max(8 << 10);
        self
    }

    /// Sets whether a [`SegmentedStore`](crate::SegmentedStore) compresses a segment of its log after all its events
    /// are in index tables. Default: `false`. The thread of the index does so while it has no tables to write, one
    /// segment after the other, with a low priority. Events of 200 bytes need less than half of the space then. A read
    /// of the whole log takes about half as long again, and a read of single events, such as those with a tag, two to
    /// three times as long. [`compact`](es_core::EventStore::compact) compresses all sealed segments in any case.
    #[must_use]
    pub fn compress_log(mut self, compresses: bool) -> Self {
        self.compress_log = compresses;
        self
    }

    /// Sets how many bytes of the streams that were read last a [`SegmentedStore`](crate::SegmentedStore) keeps in
    /// memory. A stream above an eighth of it is not kept. Default: 32 MiB.
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

/// The recovery mode for a write-ahead log that was not examined before.
///
/// RocksDB's default, `PointInTime`, silently opens a write-ahead log with a flipped bit, and drops every acknowledged
/// commit after it. This mode accepts a truncated end and rejects damage before the end.
pub(crate) const RECOVERY_MODE: DBRecoveryMode = DBRecoveryMode::TolerateCorruptedTailRecords;

/// Sets the recovery mode and the verification of the write-ahead log, for read-write and read-only stores.
pub(crate) fn set_recovery(db: &mut rocksdb::Options, mode: DBRecoveryMode) {
    db.set_wal_recovery_mode(mode);
    // The manifest then lists the synced log files with their lengths, and opening requires them. Without this option,
    // a missing or empty log file between others is no error. RocksDB opens a store that was written with this option
    // only with it.
    db.set_track_and_verify_wals_in_manifest(true);
}

/// Returns the options of the database, with a reason for each that decides what a crash can lose. Defaults of RocksDB
/// are set explicitly, so that an upgrade of RocksDB does not change them.
pub(crate) fn database(options: &Options) -> rocksdb::Options {
    let mut db = rocksdb::Options::default();
    db.create_if_missing(options.create_if_missing);
    // After a crash during creation, some column families can be missing. The store has no data then.
    db.create_missing_column_families(options.create_if_missing);

    // `recovery` chooses the mode of each opening. This mode applies to a log that it could not examine.
    set_recovery(&mut db, RECOVERY_MODE);
    // A recycled log file has old records after its end, which recovery could not distinguish from damage.
    db.set_recycle_log_file_num(0);
    // `true` would acknowledge data that is still in the memory of this process.
    db.set_manual_wal_flush(false);
    // RocksDB then checks the data that it reads, and stops writing after a failed write or sync.
    db.set_paranoid_checks(true);
    // Both weaken what a reader can see during a write, and have no advantage with one writer.
    db.set_unordered_write(false);
    db.set_enable_pipelined_write(false);
    // Needed only for writes without a write-ahead log. With the log, recovery brings all families to one point.
    db.set_atomic_flush(false);
    // `fdatasync` also writes the length of the file, the only attribute that recovery needs.
    db.set_use_fsync(false);

    db.set_max_open_files(access::open_files(options.max_open_files));
    db.set_db_write_buffer_size(options.write_buffer_bytes);
    // A rarely written family would keep old log files alive. This limit bounds the duration of opening.
    let wal_bytes = options.write_buffer_bytes.saturating_mul(4).max(16 * MIB);
    db.set_max_total_wal_size(u64::try_from(wal_bytes).unwrap_or(u64::MAX));
    // Writes back table files in small steps, so that no sync of the log waits for a large file.
    db.set_bytes_per_sync(MIB as u64);
    if options.durability == Durability::Buffered {
        // Without syncs, this makes the system write back the log early and in order.
        db.set_wal_bytes_per_sync(MIB as u64);
    }
    db.set_max_background_jobs(4);
    db.set_keep_log_file_num(8);
    db.set_max_log_file_size(16 * MIB);
    db
}

/// Returns the options of a write.
pub(crate) fn write(durability: Durability) -> WriteOptions {
    let mut write = WriteOptions::default();
    write.disable_wal(false);
    write.set_sync(durability == Durability::Sync);
    write
}

/// Returns each column family with its options. RocksDB silently uses defaults for a family that is opened by name
/// only.
pub(crate) fn families(options: &Options) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(options.block_cache_bytes);
    let mut families: Vec<_> =
        Cf::ALL.iter().map(|cf| ColumnFamilyDescriptor::new(cf.name(), family(*cf, options, &cache))).collect();
    // RocksDB always has this family. It stays empty.
    families.push(ColumnFamilyDescriptor::new(rocksdb::DEFAULT_COLUMN_FAMILY_NAME, rocksdb::Options::default()));
    families
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
        Cf::Log | Cf::Streams => Access::Records,
        Cf::Heads | Cf::Ids | Cf::Keys | Cf::Rows | Cf::Meta => Access::Points,
        Cf::Categories | Cf::Types | Cf::Tags => Access::Postings,
    }
}

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
    family
}
