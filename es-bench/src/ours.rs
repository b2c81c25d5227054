//! The stores of this project.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use es_core::model::{EventView, Tag};
use es_core::store::QueryItem;
use es_core::store::memory::MemoryStore;
use es_core::{
    Commit, EventStore, EventType, ExpectedRevision, LogRead, NewEvent, Position, Repository, Revision, StreamId,
};
use es_rocksdb::RocksDbStore;
use es_saga::RunningSagas;
use tokio::sync::{OnceCell, RwLock};

use crate::contender::{Append, Contender, Durability, Opened, Role, SagaSteps, Seen, Selection, Setup, Shape, Task};
use crate::domain::{self, AddLine, CATEGORY, Folded, Order, Sample, Tagging};
use crate::failure::{Failure, failed};
use crate::sagas;

pub(crate) const ES_ROCKSDB: &str = "es-rocksdb";
pub(crate) const ES_MEMORY: &str = "es-memory";

/// The durable store.
pub(crate) struct EsRocksDb;
/// The memory store.
pub(crate) struct EsMemory;

#[async_trait]
impl Contender for EsRocksDb {
    fn name(&self) -> &'static str {
        ES_ROCKSDB
    }

    fn about(&self) -> String {
        format!(
            "this project {}: expectation, idempotency, all indexes; fdatasync per frame",
            env!("CARGO_PKG_VERSION")
        )
    }

    fn role(&self) -> Role {
        Role::Ours
    }

    fn offers(&self, _: Task) -> Result<(), &'static str> {
        Ok(())
    }

    async fn open(&self, dir: &Path, setup: Setup) -> Result<Box<dyn Opened>, Failure> {
        let store = options(setup).open(dir).await;
        let store = store.map_err(|error| Failure::caused_by("open the store", &error))?;
        Ok(Box::new(OpenedStore::new(Arc::new(store), Kind::Durable)))
    }
}

fn options(setup: Setup) -> es_rocksdb::Options {
    es_rocksdb::Options::new().durability(match setup.durability {
        Durability::Synced => es_rocksdb::Durability::Sync,
        Durability::Buffered => es_rocksdb::Durability::Buffered,
    })
}

#[async_trait]
impl Contender for EsMemory {
    fn name(&self) -> &'static str {
        ES_MEMORY
    }

    fn about(&self) -> String {
        "this project: the memory store, for tests; nothing is durable".into()
    }

    fn role(&self) -> Role {
        Role::Ours
    }

    fn offers(&self, task: Task) -> Result<(), &'static str> {
        match task {
            Task::Append | Task::AppendIf => Err("nothing is durable; see the buffered appends"),
            Task::Project | Task::Sagas => Err("not measured"),
            _ => Ok(()),
        }
    }

    async fn open(&self, _: &Path, _: Setup) -> Result<Box<dyn Opened>, Failure> {
        Ok(Box::new(OpenedStore::new(Arc::new(MemoryStore::new()), Kind::Memory)))
    }
}

/// Measures the bytes that es-rocksdb writes to its log per commit and per event with this payload.
pub(crate) async fn shape(dir: &Path, payload: usize) -> Result<Shape, Failure> {
    const COMMITS: u64 = 100;
    let mut bytes = [0; 2];
    for (found, per_commit) in bytes.iter_mut().zip([1, 11]) {
        let store = RocksDbStore::open(dir.join(format!("shape-{per_commit}"))).await;
        let store = store.map_err(|error| Failure::caused_by("open the store", &error))?;
        let opened = OpenedStore::new(Arc::new(store.clone()), Kind::Memory);
        for stream in 1_000..1_000 + COMMITS {
            let event = |number| domain::sample(stream, number, payload, Tagging::Spread(1000));
            let events = (0..per_commit).map(event).collect();
            opened.append(Append { stream, expected: 0, seen: 0, conditional: false, events }).await?;
        }
        *found = usize::try_from(store.stats().bytes / COMMITS).unwrap_or(usize::MAX);
        store.close().await.map_err(|error| Failure::caused_by("close the store", &error))?;
    }
    let event = (bytes[1] - bytes[0]) / 10;
    Ok(Shape { event, commit: bytes[0].saturating_sub(event) })
}

/// Whether a store has files, which are compacted before they are counted and are closed after a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Durable,
}

pub(crate) struct OpenedStore {
    store: Arc<dyn EventStore>,
    kind: Kind,
    plain: Repository<Order>,
    with_snapshots: Repository<Order>,
    /// The coordinator of sagas, which starts with the first saga.
    sagas: RwLock<OnceCell<RunningSagas>>,
}

impl OpenedStore {
    pub(crate) fn new(store: Arc<dyn EventStore>, kind: Kind) -> Self {
        // Without the cache of the repository, so that each load reads its events or its snapshot.
        let plain = Repository::new(Arc::clone(&store)).without_snapshots().without_cache();
        let with_snapshots = Repository::new(Arc::clone(&store)).without_cache();
        Self { store, kind, plain, with_snapshots, sagas: RwLock::default() }
    }
}

/// The types of the events, which a service creates once.
static EVENT_TYPES: LazyLock<[EventType; 2]> =
    LazyLock::new(|| [domain::ADDED, domain::REMOVED].map(|name| EventType::new(name).expect("a valid name")));

fn new_event(sample: Sample) -> Result<(NewEvent, Tag), Failure> {
    let known = EVENT_TYPES.iter().find(|event_type| event_type.as_str() == sample.event_type);
    let event_type = known.cloned().ok_or_else(|| Failure::new("create an event", "its type is unknown"))?;
    let tag = Tag::new(&sample.tag).map_err(failed("create a tag"))?;
    Ok((NewEvent::json(event_type, sample.payload).tagged(tag.clone()), tag))
}

#[async_trait]
impl Opened for OpenedStore {
    async fn append(&self, append: Append) -> Result<u64, Failure> {
        let stream = StreamId::of(CATEGORY, append.stream).map_err(failed("create a stream id"))?;
        let last = append.expected.checked_sub(1).map(Revision::new);
        let mut commit = Commit::new();
        if !append.conditional {
            commit = commit.expect(stream.clone(), ExpectedRevision::unchanged(last));
        }
        let mut tagged = None;
        for sample in append.events {
            let (event, tag) = new_event(sample)?;
            commit = commit.append(stream.clone(), event);
            tagged = Some(tag);
        }
        if let Some(tag) = tagged.filter(|_| append.conditional) {
            commit = commit.append_if_none(QueryItem::new().tag(tag), Position::new(append.seen));
        }
        let committed = self.store.commit(commit).await.map_err(failed("append"))?;
        Ok(committed.position().map_or(0, Position::get))
    }

    async fn command(&self, stream: u64, event: Sample) -> Result<(), Failure> {
        let line = serde_json::from_slice(&event.payload).map_err(failed("create a command"))?;
        self.plain.execute(&stream, AddLine(line)).await.map_err(failed("execute"))?;
        Ok(())
    }

    async fn load(&self, stream: u64, from_snapshot: bool) -> Result<Folded, Failure> {
        let repository = if from_snapshot { &self.with_snapshots } else { &self.plain };
        let loaded = repository.load(&stream).await.map_err(failed("load"))?;
        Ok(loaded.state.folded())
    }

    async fn read(&self, selection: Selection) -> Result<u64, Failure> {
        let read = match selection {
            Selection::All => LogRead::all(),
            Selection::Type(name) => LogRead::event_type(EventType::new(name).map_err(failed("create an event type"))?),
            Selection::Tag(tag) => LogRead::tag(Tag::new(&tag).map_err(failed("create a tag"))?),
        };
        let mut events = self.store.read_log(read).await.map_err(failed("read"))?;
        let mut count = 0;
        while let Some(batch) = events.next_batch().await.map_err(failed("read"))? {
            count += batch.len() as u64;
        }
        Ok(count)
    }

    async fn visit(&self) -> Result<u64, Failure> {
        let mut count = 0;
        let mut visitor = |_: EventView<'_>| {
            count += 1;
            ControlFlow::Continue(())
        };
        self.store.visit_log(LogRead::all(), &mut visitor).await.map_err(failed("visit"))?;
        Ok(count)
    }

    /// Waits for the head of the log to change, and reads the new events.
    async fn follow(&self, seen: &Seen) -> Result<(), Failure> {
        let mut watch = self.store.watch_head();
        let mut position = watch.current();
        loop {
            watch.wait_after(position).await.map_err(failed("wait for events"))?;
            let mut events = self.store.read_log(LogRead::all().after(position)).await.map_err(failed("read"))?;
            while let Some(batch) = events.next_batch().await.map_err(failed("read"))? {
                for event in &batch {
                    seen.record(&event.data.payload);
                }
                position = batch.last().map(|event| event.position).or(position);
            }
        }
    }

    async fn saga(&self, name: &str, steps: SagaSteps) -> Result<(), Failure> {
        let running = self.sagas.read().await;
        let running = running.get_or_try_init(|| sagas::start(&self.store)).await?;
        sagas::execute(running, &sagas::external(steps)?, name).await
    }

    async fn settle_snapshots(&self) -> Result<(), Failure> {
        self.with_snapshots.settle().await;
        Ok(())
    }

    /// The log stays as it was written: a compaction compresses it.
    async fn settle(&self) -> Result<(), Failure> {
        self.settle_snapshots().await
    }

    async fn compact(&self) -> Result<(), Failure> {
        match self.kind {
            Kind::Durable => self.store.compact().await.map_err(failed("compact")),
            Kind::Memory => Ok(()),
        }
    }

    async fn close(&self) -> Result<(), Failure> {
        if let Some(running) = self.sagas.write().await.take() {
            sagas::stop(running).await?;
        }
        match self.kind {
            Kind::Durable => self.store.close().await.map_err(failed("close the store")),
            Kind::Memory => Ok(()),
        }
    }
}
