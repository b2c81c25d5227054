//! [`Options`]: what a user may choose; and, in one place, every option of RocksDB that matters for safety.

use std::sync::Arc;

use es_core::model::{Clock, SystemClock};
use es_core::store::implement::PrepareHook;
use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, WriteOptions};

use crate::group::BatchLimits;
use crate::schema::Cf;

/// When a commit is acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// When it is on the disk (`fdatasync`): it survives a power failure. Commits that come at the same time share one
    /// wait for the disk.
    #[default]
    Sync,
    /// When the operating system has it. It survives the end of the process, also by `kill -9`, but not a power failure
    /// or a crash of the machine: **acknowledged commits of the last moments (with Linux as it comes, about the last 30
    /// seconds) are lost then**, and the store may refuse to open with
    /// [`Damaged`](crate::OpenError::Damaged), because the system may have written a later page of the write-ahead log
    /// before an earlier one. [`close`](es_core::EventStore::close) waits for the disk. For tests, imports that can be
    /// repeated, and derived data.
    Buffered,
}

/// How to open a store.
///
/// Memory in use: about block cache + 2 × write buffer + queue + cached heads + tail, and what open reads hold (two batches each),
/// however many events and streams there are; and a little for each stream and category that has a rule or was deleted.
/// [`memory`](crate::RocksDbStore::memory) says how much RocksDB takes of it. What the system counts as resident is more, because
/// glibc's allocator keeps what was freed, in up to eight arenas for each processor: a store that wrote 50 million events without pause had 120 MB in use and
/// 730 MB resident. `MALLOC_ARENA_MAX=2` in the environment of the process about halved that, and cost some throughput.
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
}

/// How much a read fetches at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadLimits {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

impl ReadLimits {
    /// The lesser of both.
    pub(crate) fn at_most(self, other: Self) -> Self {
        Self { events: self.events.min(other.events), bytes: self.bytes.min(other.bytes) }
    }
}

const MIB: usize = 1024 * 1024;
/// RocksDB rounds smaller write buffers up to this.
const MIN_WRITE_BUFFER: usize = 64 * 1024;

impl Options {
    /// Durable, created if missing, on the clock of the machine, with 64 MiB of block cache and of write buffer.
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
        }
    }

    /// When a commit is acknowledged. Default: [`Durability::Sync`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Whether to create the directory and the store in it where there is none. Default: yes. Say no in production once
    /// the store exists, so that a disk that is not mounted is an error and not an empty store.
    #[must_use]
    pub fn create_if_missing(mut self, create: bool) -> Self {
        self.create_if_missing = create;
        self
    }

    /// From where the store learns when it records an event. Default: the clock of the machine.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How much of what was read stays in memory, uncompressed, in bytes. Default: 64 MiB. What matters for the speed of
    /// reads: give it what the machine can spare.
    #[must_use]
    pub fn block_cache_bytes(mut self, bytes: usize) -> Self {
        self.block_cache_bytes = bytes;
        self
    }

    /// How much of what was written stays in memory until it is sorted into files, in bytes, at least 64 KiB. Default:
    /// 64 MiB. The write-ahead log, which is read when the store opens, is bounded by four times this, or 16 MiB.
    #[must_use]
    pub fn write_buffer_bytes(mut self, bytes: usize) -> Self {
        self.write_buffer_bytes = bytes.max(MIN_WRITE_BUFFER);
        self
    }

    /// How many files RocksDB keeps open, at least 32. Default: 512, which leaves room for sockets under the usual limit
    /// of 1,024. A file has about 64 MiB.
    #[must_use]
    pub fn max_open_files(mut self, files: u16) -> Self {
        self.max_open_files = i32::from(files.max(32));
        self
    }

    /// How many commits, and how many bytes of all that they hold, the writer gathers into one write at the most, both at
    /// least 1; one commit is always taken, however large. Default: 1,024 commits, 8 MiB. Larger batches make more
    /// commits share one wait for the disk, and let each of them wait longer.
    #[must_use]
    pub fn commit_batch(mut self, commits: usize, bytes: usize) -> Self {
        self.commit_batch = BatchLimits { commits: commits.max(1), bytes: bytes.max(1) };
        self
    }

    /// How many bytes of commits may wait for the writer. Default: 64 MiB. A commit counts with twice of all that it holds, because
    /// its records wait with it, and as 16 KiB at least, so that this is also a bound of 4,096 commits. Who comes when it is full waits for room.
    #[must_use]
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// How many events, and how many bytes of records, a read fetches at once at the most, both at least 1; one event is
    /// always fetched, however large. A read begins with less, and fetches the next batch while its consumer has the last one.
    /// Default: 4,096 events, 4 MiB.
    #[must_use]
    pub fn read_batch(mut self, events: usize, bytes: usize) -> Self {
        self.read_batch = ReadLimits { events: events.max(1), bytes: bytes.max(1) };
        self
    }

    /// Of how many streams the writer remembers the last revision, at least 1, about 150 bytes each. Default: 65,536.
    #[must_use]
    pub fn cached_heads(mut self, streams: usize) -> Self {
        self.cached_heads = streams.max(1);
        self
    }

    /// Adds a hook to the decision on each commit, such as an [inline projection](es_core::projection::inline::Inline). Opening the
    /// store prepares the hook: an inline projection catches up with the log first. Every commit waits for every hook.
    #[must_use]
    pub fn hook(mut self, hook: impl PrepareHook) -> Self {
        self.hooks.push(Arc::new(hook));
        self
    }

    /// How many bytes of the newest events stay in memory for those who follow the log. Default: 8 MiB, which is about
    /// 10,000 small events. Who reads the log forward from within them is served without a look at the disk, whatever it
    /// asks for; 0 sends everybody to the disk.
    #[must_use]
    pub fn tail_bytes(mut self, bytes: usize) -> Self {
        self.tail_bytes = bytes;
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

/// How RocksDB treats a write-ahead log that was not looked at before.
///
/// NOTE: "updates, once applied, must not be rolled back". RocksDB's default, `PointInTime`, opens without a word when one
/// bit of the write-ahead log has flipped, and drops every acknowledged commit behind it (measured: 40 of 40 times, 11,574
/// events on average). This mode accepts an end that is cut off and refuses damage before it.
pub(crate) const RECOVERY_MODE: DBRecoveryMode = DBRecoveryMode::TolerateCorruptedTailRecords;

/// What every opening asks of RocksDB before it believes a write-ahead log, also one that only reads.
pub(crate) fn set_recovery(db: &mut rocksdb::Options, mode: DBRecoveryMode) {
    db.set_wal_recovery_mode(mode);
    // NOTE: the manifest then says which log files were synced and how long they were, and opening demands them: one that was gone
    // or empty between others was no error (found by taking them away). RocksDB reads a store that was written so only with it.
    db.set_track_and_verify_wals_in_manifest(true);
}

/// The options of the database as a whole: everything that decides what a crash may cost stands here, with its reason.
/// What is RocksDB's default is set all the same: it must not change with an upgrade of RocksDB.
pub(crate) fn database(options: &Options) -> rocksdb::Options {
    let mut db = rocksdb::Options::default();
    db.create_if_missing(options.create_if_missing);
    // NOTE: a crash while a store is created can leave some of the column families missing; nothing was written then.
    db.create_missing_column_families(options.create_if_missing);

    // NOTE: `recovery` chooses per opening, and says why; this is for what it could not look at.
    set_recovery(&mut db, RECOVERY_MODE);
    // NOTE: a reused log file has old records behind its end, which recovery could not tell from damage.
    db.set_recycle_log_file_num(0);
    // NOTE: true would acknowledge what is still in the memory of this process.
    db.set_manual_wal_flush(false);
    // NOTE: checks what it reads back, and stops writing after a failed write or sync instead of trying again.
    db.set_paranoid_checks(true);
    // NOTE: both weaken what a reader may see while a write goes on. One writer gains nothing from them.
    db.set_unordered_write(false);
    db.set_enable_pipelined_write(false);
    // NOTE: needed only for writes without a write-ahead log. With it, recovery brings all families to one point.
    db.set_atomic_flush(false);
    // NOTE: fdatasync also writes the length of the file, which is all that recovery needs of its attributes.
    db.set_use_fsync(false);

    db.set_max_open_files(options.max_open_files);
    db.set_db_write_buffer_size(options.write_buffer_bytes);
    // NOTE: a family that is seldom written would keep old log files alive; this bounds how long opening takes.
    let wal_bytes = options.write_buffer_bytes.saturating_mul(4).max(16 * MIB);
    db.set_max_total_wal_size(u64::try_from(wal_bytes).unwrap_or(u64::MAX));
    // NOTE: hands data to the disk bit by bit, so that no sync of the log has to wait for a large file behind it.
    db.set_bytes_per_sync(MIB as u64);
    if options.durability == Durability::Buffered {
        // NOTE: nobody syncs; this makes the system write the log in order, and early.
        db.set_wal_bytes_per_sync(MIB as u64);
    }
    db.set_max_background_jobs(4);
    db.set_keep_log_file_num(8);
    db.set_max_log_file_size(16 * MIB);
    db
}

/// The options of a write.
pub(crate) fn write(durability: Durability) -> WriteOptions {
    let mut write = WriteOptions::default();
    write.disable_wal(false);
    write.set_sync(durability == Durability::Sync);
    write
}

/// Every column family with options of its own: what RocksDB opens by name only gets its defaults, without a word.
pub(crate) fn families(options: &Options) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(options.block_cache_bytes);
    let mut families: Vec<_> =
        Cf::ALL.iter().map(|cf| ColumnFamilyDescriptor::new(cf.name(), family(*cf, options, &cache))).collect();
    // NOTE: RocksDB always has this one; nothing is written to it.
    families.push(ColumnFamilyDescriptor::new(rocksdb::DEFAULT_COLUMN_FAMILY_NAME, rocksdb::Options::default()));
    families
}

/// How a family is mostly read.
#[derive(PartialEq, Eq)]
enum Access {
    /// Records, in scans: large blocks compress best and are read once.
    Records,
    /// Single keys, often of what is not there: a bloom filter answers that from memory.
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

fn family(cf: Cf, options: &Options, cache: &Cache) -> rocksdb::Options {
    let access = access(cf);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    // NOTE: index and filter blocks count as cache, so that memory is bounded by one number.
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
    // NOTE: the bound of all families together is set on the database; this one lets a family use most of it.
    family.set_write_buffer_size(options.write_buffer_bytes);
    family
}
