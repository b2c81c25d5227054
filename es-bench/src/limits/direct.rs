//! The limits of RocksDB: an event store written directly on it, with records as long as those of es-rocksdb.
//!
//! L1 syncs a batch for each writer; RocksDB groups the syncs of concurrent writers. L2 is one thread that gathers
//! waiting commits into one batch. The raw scans of L1 are the limit for the reads of the store.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, Options, ReadOptions, WriteBatch, WriteOptions};

use crate::contender::{Append, Contender, Durability, Opened, Role, Selection, Setup, Shape, Task};
use crate::domain::Folded;
use crate::failure::Failure;
use crate::gather::{Engine, Gather};
use crate::rows::{self, Each, Key, KeyValue};

pub(crate) const ROCKSDB_EACH: &str = "rocksdb-each";
pub(crate) const ROCKSDB_ONE: &str = "rocksdb-one";

/// L1.
pub(crate) struct EachThread;
/// L2.
pub(crate) struct OneThread;

#[async_trait]
impl Contender for EachThread {
    fn name(&self) -> &'static str {
        ROCKSDB_EACH
    }

    fn about(&self) -> String {
        "L1: RocksDB directly, records as long as those of es-rocksdb, a synced batch per writer; its reads are raw \
         scans"
            .into()
    }

    fn role(&self) -> Role {
        Role::Limit
    }

    fn offers(&self, task: Task) -> Result<(), &'static str> {
        match task {
            Task::AppendIf | Task::LoadSnapshot | Task::Follow | Task::Sagas => Err("keys and values"),
            _ => Ok(()),
        }
    }

    async fn open(&self, dir: &Path, setup: Setup) -> Result<Box<dyn Opened>, Failure> {
        Ok(Box::new(OpenedDirect { engine: DirectEngine::open(dir, setup)?, next: AtomicU64::new(1) }))
    }
}

#[async_trait]
impl Contender for OneThread {
    fn name(&self) -> &'static str {
        ROCKSDB_ONE
    }

    fn about(&self) -> String {
        "L2: RocksDB directly, records as long as those of es-rocksdb, one thread gathers waiting commits into one \
         synced batch"
            .into()
    }

    fn role(&self) -> Role {
        Role::Limit
    }

    fn offers(&self, task: Task) -> Result<(), &'static str> {
        match task {
            Task::Append | Task::AppendBuffered | Task::Volume => Ok(()),
            _ => Err("see rocksdb-each"),
        }
    }

    async fn open(&self, dir: &Path, setup: Setup) -> Result<Box<dyn Opened>, Failure> {
        Ok(Box::new(OpenedGathering(Gather::start(DirectEngine::open(dir, setup)?, false)?)))
    }
}

struct DirectEngine {
    database: Arc<DB>,
    shape: Shape,
    write: WriteOptions,
}

impl DirectEngine {
    fn open(dir: &Path, setup: Setup) -> Result<Self, Failure> {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&Cache::new_lru_cache(64 << 20));
        table.set_block_size(16 * 1024);
        let mut options = Options::default();
        options.create_if_missing(true);
        // The compression of es-rocksdb, so that scans decompress as many bytes.
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_bottommost_compression_type(DBCompressionType::Zstd);
        options.set_block_based_table_factory(&table);
        options.set_max_background_jobs(4);
        let database = DB::open(&options, dir).map_err(|error| Failure::caused_by("open RocksDB", &error))?;
        let mut write = WriteOptions::default();
        write.set_sync(setup.durability == Durability::Synced);
        Ok(Self { database: Arc::new(database), shape: setup.shape, write })
    }

    fn put(&self, batch: &mut WriteBatch, append: &Append, first: u64) {
        rows::rows(append, first, self.shape, |key, value| batch.put(key, value));
    }

    fn write_batch(&self, batch: WriteBatch) -> Result<(), Failure> {
        self.database.write_opt(batch, &self.write).map_err(|error| Failure::caused_by("write to RocksDB", &error))
    }
}

impl Engine for DirectEngine {
    fn write(&mut self, commits: &[Append], first: u64) -> Result<(), Failure> {
        let mut batch = WriteBatch::default();
        let mut position = first;
        for commit in commits {
            self.put(&mut batch, commit, position);
            position += commit.events.len() as u64;
        }
        self.write_batch(batch)
    }
}

struct OpenedDirect {
    engine: DirectEngine,
    next: AtomicU64,
}

impl KeyValue for OpenedDirect {
    fn scan(&self, from: Key, to: Key, each: &mut Each<'_>) -> Result<(), Failure> {
        let mut read = ReadOptions::default();
        read.set_iterate_upper_bound(to.to_vec());
        let mut entries = self.engine.database.raw_iterator_opt(read);
        entries.seek(from);
        while let Some((key, value)) = entries.item() {
            each(key, value)?;
            entries.next();
        }
        entries.status().map_err(|error| Failure::caused_by("read from RocksDB", &error))
    }

    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, Failure> {
        self.engine.database.get(key).map_err(|error| Failure::caused_by("read from RocksDB", &error))
    }
}

#[async_trait]
impl Opened for OpenedDirect {
    fn blocks(&self) -> bool {
        true
    }

    async fn append(&self, append: Append) -> Result<u64, Failure> {
        let events = append.events.len() as u64;
        let first = self.next.fetch_add(events, Ordering::Relaxed);
        let mut batch = WriteBatch::default();
        self.engine.put(&mut batch, &append, first);
        self.engine.write_batch(batch)?;
        Ok(first + events - 1)
    }

    async fn load(&self, stream: u64, _: bool) -> Result<Folded, Failure> {
        rows::load(self, stream)
    }

    async fn read(&self, selection: Selection) -> Result<u64, Failure> {
        rows::read(self, &selection)
    }

    async fn settle(&self) -> Result<(), Failure> {
        self.engine.database.compact_range(None::<&[u8]>, None::<&[u8]>);
        Ok(())
    }
}

struct OpenedGathering(Gather);

#[async_trait]
impl Opened for OpenedGathering {
    fn blocks(&self) -> bool {
        true
    }

    async fn append(&self, append: Append) -> Result<u64, Failure> {
        self.0.append(append).await
    }
}
