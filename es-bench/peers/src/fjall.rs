//! fjall, an LSM engine in Rust, used directly with the keys and bytes of es-rocksdb; one thread gathers waiting
//! commits.

use std::path::Path;

use async_trait::async_trait;
use es_bench::gather::{Engine, Gather};
use es_bench::rows::{self, Each, Key, KeyValue};
use es_bench::{Append, Contender, Durability, Failure, Folded, Opened, Role, Selection, Setup, Shape, Task};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::{failed, version};

pub(crate) struct Fjall;

#[async_trait]
impl Contender for Fjall {
    fn name(&self) -> &'static str {
        "fjall"
    }

    fn about(&self) -> String {
        format!(
            "{} used directly, expectations checked in memory, one thread gathers, SyncData per batch",
            version("fjall")
        )
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn offers(&self, task: Task) -> Result<(), &'static str> {
        offers(task)
    }

    async fn open(&self, dir: &Path, setup: Setup) -> Result<Box<dyn Opened>, Failure> {
        let database = Database::builder(dir).open().map_err(failed("open fjall"))?;
        let rows = database.keyspace("rows", KeyspaceCreateOptions::default).map_err(failed("open fjall"))?;
        let mode = match setup.durability {
            Durability::Synced => PersistMode::SyncData,
            Durability::Buffered => PersistMode::Buffer,
        };
        let writer = FjallWriter { database, rows: rows.clone(), shape: setup.shape, mode };
        Ok(Box::new(OpenedFjall { gather: Gather::start(writer, true)?, rows: FjallRows(rows) }))
    }
}

/// Returns the tasks that an engine offers.
pub(crate) fn offers(task: Task) -> Result<(), &'static str> {
    match task {
        Task::AppendIf => Err("keys and values; no conditions over a query"),
        Task::LoadSnapshot => Err("keys and values; no snapshots"),
        Task::Follow => Err("keys and values; no subscribers"),
        Task::Sagas => Err("keys and values; no sagas"),
        _ => Ok(()),
    }
}

struct FjallWriter {
    database: Database,
    rows: Keyspace,
    shape: Shape,
    mode: PersistMode,
}

impl Engine for FjallWriter {
    fn write(&mut self, commits: &[Append], first: u64) -> Result<(), Failure> {
        let mut batch = self.database.batch().durability(Some(self.mode));
        let mut position = first;
        for commit in commits {
            rows::rows(commit, position, self.shape, |key, value| batch.insert(&self.rows, key.as_slice(), value));
            position += commit.events.len() as u64;
        }
        batch.commit().map_err(failed("commit"))
    }
}

struct FjallRows(Keyspace);

impl KeyValue for FjallRows {
    fn scan(&self, from: Key, to: Key, each: &mut Each<'_>) -> Result<(), Failure> {
        for entry in self.0.range(from..to) {
            let (key, value) = entry.into_inner().map_err(failed("scan"))?;
            each(&key, &value)?;
        }
        Ok(())
    }

    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, Failure> {
        let value = self.0.get(key).map_err(failed("get"))?;
        Ok(value.map(|value| value.to_vec()))
    }
}

struct OpenedFjall {
    gather: Gather,
    rows: FjallRows,
}

#[async_trait]
impl Opened for OpenedFjall {
    fn blocks(&self) -> bool {
        true
    }

    async fn append(&self, append: Append) -> Result<u64, Failure> {
        self.gather.append(append).await
    }

    async fn load(&self, stream: u64, _: bool) -> Result<Folded, Failure> {
        rows::load(&self.rows, stream)
    }

    async fn read(&self, selection: Selection) -> Result<u64, Failure> {
        rows::read_events(&self.rows, &selection)
    }

    async fn settle(&self) -> Result<(), Failure> {
        self.rows.0.rotate_memtable_and_wait().map_err(failed("flush"))?;
        self.rows.0.major_compact().map_err(failed("compact"))
    }
}
