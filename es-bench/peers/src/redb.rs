//! redb, a copy-on-write B-tree, used directly with the keys and bytes of es-rocksdb; one thread gathers waiting
//! commits.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use es_bench::gather::{Engine, Gather};
use es_bench::rows::{self, Each, Key, KeyValue};
use es_bench::{Append, Contender, Durability, Failure, Folded, Opened, Role, Selection, Setup, Shape, Task};
use redb::{Database, ReadableDatabase, TableDefinition};

use crate::{failed, fjall, version};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

pub(crate) struct Redb;

#[async_trait]
impl Contender for Redb {
    fn name(&self) -> &'static str {
        "redb"
    }

    fn about(&self) -> String {
        let version = version("redb");
        format!("{version} used directly, expectations checked in memory, one thread gathers, Durability::Immediate")
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn offers(&self, task: Task) -> Result<(), &'static str> {
        match task {
            Task::AppendBuffered => Err("without a sync its commits are in process memory and do not survive a kill"),
            _ => fjall::offers(task),
        }
    }

    async fn open(&self, dir: &Path, setup: Setup) -> Result<Box<dyn Opened>, Failure> {
        debug_assert_eq!(setup.durability, Durability::Synced);
        std::fs::create_dir_all(dir).map_err(failed("create a directory"))?;
        let database = Arc::new(Database::create(dir.join("redb")).map_err(failed("open redb"))?);
        let mut writer = RedbWriter { database: Arc::clone(&database), shape: setup.shape };
        writer.write(&[], 1)?;
        Ok(Box::new(OpenedRedb { gather: Gather::start(writer, true)?, rows: RedbRows(database) }))
    }
}

struct RedbWriter {
    database: Arc<Database>,
    shape: Shape,
}

impl Engine for RedbWriter {
    fn write(&mut self, commits: &[Append], first: u64) -> Result<(), Failure> {
        // Commits are durable (Durability::Immediate) by default.
        let transaction = self.database.begin_write().map_err(failed("begin"))?;
        {
            let mut table = transaction.open_table(ROWS).map_err(failed("open a table"))?;
            let (mut position, mut result) = (first, Ok(()));
            for commit in commits {
                rows::rows(commit, position, self.shape, |key, value| {
                    if let Err(error) = table.insert(key.as_slice(), value) {
                        result = Err(Failure::new("insert", error));
                    }
                });
                position += commit.events.len() as u64;
            }
            result?;
        }
        transaction.commit().map_err(failed("commit"))
    }
}

struct RedbRows(Arc<Database>);

impl KeyValue for RedbRows {
    fn scan(&self, from: Key, to: Key, each: &mut Each<'_>) -> Result<(), Failure> {
        let transaction = self.0.begin_read().map_err(failed("begin"))?;
        let table = transaction.open_table(ROWS).map_err(failed("open a table"))?;
        for entry in table.range(from.as_slice()..to.as_slice()).map_err(failed("scan"))? {
            let (key, value) = entry.map_err(failed("scan"))?;
            each(key.value(), value.value())?;
        }
        Ok(())
    }

    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, Failure> {
        let transaction = self.0.begin_read().map_err(failed("begin"))?;
        let table = transaction.open_table(ROWS).map_err(failed("open a table"))?;
        let value = table.get(key.as_slice()).map_err(failed("get"))?;
        Ok(value.map(|value| value.value().to_vec()))
    }
}

struct OpenedRedb {
    gather: Gather,
    rows: RedbRows,
}

#[async_trait]
impl Opened for OpenedRedb {
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
}
