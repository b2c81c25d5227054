//! The engine of sierradb, embedded. Its log has an order for each partition, and no total order.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use es_bench::{Append, Contender, Durability, Failure, Folded, Opened, Role, Setup, Task};
use sierradb::bucket::segment::CommittedEvents;
use sierradb::database::{Database, DatabaseBuilder, ExpectedVersion, NewEvent, Transaction};
use sierradb::id::{uuid_to_partition_hash, uuid_v7_with_partition_hash};
use sierradb::{IterDirection, StreamId};
use uuid::Uuid;

use crate::{failed, version};

/// The number of partitions that its server creates.
const PARTITIONS: u16 = 32;

/// The maximum time that a commit waits for others.
const SYNC: Duration = Duration::from_millis(1);

pub(crate) struct SierraDb;

#[async_trait]
impl Contender for SierraDb {
    fn name(&self) -> &'static str {
        "sierradb"
    }

    fn about(&self) -> String {
        let version = version("sierradb");
        format!(
            "{version} embedded: a bucket syncs after 4 KiB or 1 ms (5 and 50 ms as it comes), and acknowledges then"
        )
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn offers(&self, task: Task) -> Result<(), &'static str> {
        match task {
            Task::Append | Task::Load | Task::Footprint | Task::Volume => Ok(()),
            Task::AppendBuffered => Err("it always syncs"),
            Task::AppendIf | Task::ReadType | Task::ReadTag => Err("no indexes but by stream and partition"),
            Task::ReadAll => Err("its log has no order over partitions"),
            Task::LoadSnapshot => Err("a store without aggregates"),
            Task::Sagas => Err("a store without sagas"),
            Task::Follow => Err("subscriptions are part of its server"),
            Task::Project => Err("views are only measured for this project"),
        }
    }

    async fn open(&self, dir: &Path, setup: Setup) -> Result<Box<dyn Opened>, Failure> {
        debug_assert_eq!(setup.durability, Durability::Synced);
        std::fs::create_dir_all(dir).map_err(failed("create a directory"))?;
        // It always acknowledges after the sync; by default, a lone writer waits for up to 50 ms.
        let database = DatabaseBuilder::new().sync_interval(SYNC).sync_idle_interval(SYNC).open(dir);
        let database = database.map_err(failed("open sierradb"))?;
        Ok(Box::new(OpenedSierraDb(database)))
    }
}

struct OpenedSierraDb(Database);

/// Returns the partition key, the partition and the name of a stream.
fn place(stream: u64) -> Result<(Uuid, u16, StreamId), Failure> {
    let name = format!("order-{stream}");
    let key = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
    Ok((key, uuid_to_partition_hash(key) % PARTITIONS, StreamId::new(name).map_err(failed("create a stream id"))?))
}

#[async_trait]
impl Opened for OpenedSierraDb {
    async fn append(&self, append: Append) -> Result<u64, Failure> {
        let (key, partition, stream_id) = place(append.stream)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(failed("read the clock"))?;
        let timestamp = u64::try_from(now.as_nanos()).map_err(failed("read the clock"))?;
        let event = |(index, sample): (usize, es_bench::Sample)| NewEvent {
            event_id: uuid_v7_with_partition_hash(uuid_to_partition_hash(key)),
            stream_id: stream_id.clone(),
            stream_version: match (append.expected + index as u64).checked_sub(1) {
                Some(last) => ExpectedVersion::Exact(last),
                None => ExpectedVersion::Empty,
            },
            event_name: sample.event_type.to_owned(),
            timestamp,
            metadata: Vec::new(),
            payload: sample.payload,
        };
        let events = append.events.into_iter().enumerate().map(event).collect();
        let transaction = Transaction::new(key, partition, events).map_err(failed("append"))?;
        self.0.append_events(transaction).await.map_err(failed("append"))?;
        Ok(0)
    }

    async fn load(&self, stream: u64, _: bool) -> Result<Folded, Failure> {
        let (_, partition, stream_id) = place(stream)?;
        let read = self.0.read_stream(partition, stream_id, 0, IterDirection::Forward).await;
        let mut commits = read.map_err(failed("read"))?;
        let mut folded = Folded::default();
        while let Some(batch) = commits.next_batch(1000).await.map_err(failed("read"))? {
            for commit in batch {
                match commit {
                    CommittedEvents::Single(event) => folded.add_encoded(&event.event_name, &event.payload)?,
                    CommittedEvents::Transaction { events, .. } => {
                        events.iter().try_for_each(|event| folded.add_encoded(&event.event_name, &event.payload))?;
                    }
                }
            }
        }
        Ok(folded)
    }

    async fn close(&self) -> Result<(), Failure> {
        self.0.shutdown().await;
        Ok(())
    }
}
