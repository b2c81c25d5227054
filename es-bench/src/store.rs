//! The store under test: each writer is a task that appends to its own stream at the exact revision.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use es_core::{Commit, EventStore, EventType, ExpectedRevision, NewEvent, Revision, StreamId, Tag};
use es_rocksdb::RocksDbStore;

use crate::measure::{Failure, Load, Measured, Shape};

/// Keys per event with one tag: log, stream, category, type, tag, id, head.
const PUTS: usize = 7;

pub(crate) fn append(folder: &Path, load: Load) -> Result<(Measured, Shape), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new("start a runtime", error))?;
    runtime.block_on(async {
        let store = RocksDbStore::open(folder).await.map_err(|error| Failure::new("open the store", error))?;
        let started = Instant::now();
        let events = write(&store, load, started + load.duration).await?;
        let measured = Measured { events, elapsed: started.elapsed() };
        let stats = store.stats();
        store.close().await.map_err(|error| Failure::new("close the store", error))?;
        let bytes = usize::try_from(stats.bytes / stats.events.max(1)).unwrap_or(usize::MAX);
        Ok((measured, Shape { puts: PUTS, bytes }))
    })
}

async fn write(store: &RocksDbStore, load: Load, deadline: Instant) -> Result<u64, Failure> {
    let store: Arc<dyn EventStore> = Arc::new(store.clone());
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..load.writers {
        writers.spawn(write_one_stream(Arc::clone(&store), writer, load.payload, deadline));
    }
    let mut events = 0;
    while let Some(written) = writers.join_next().await {
        events += written.map_err(|error| Failure::new("join a writer", error))??;
    }
    Ok(events)
}

async fn write_one_stream(
    store: Arc<dyn EventStore>,
    writer: u32,
    payload: usize,
    deadline: Instant,
) -> Result<u64, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new("append", error);
    let stream = StreamId::of("order", writer).map_err(|error| failed(&error))?;
    let event_type = EventType::new("order-placed").map_err(|error| failed(&error))?;
    let tag = Tag::of("customer", writer).map_err(|error| failed(&error))?;
    // NOTE: one text in JSON, not compressible to nothing: the digits of a counter would be.
    let content: Vec<u8> =
        format!("\"{:0>1$x}\"", u128::from(writer) * 0x9E37_79B9_7F4A_7C15, payload - 2).into_bytes();
    let mut last: Option<Revision> = None;
    let mut events = 0;
    while Instant::now() < deadline {
        let event = NewEvent::json(event_type.clone(), content.clone()).tagged(tag.clone());
        let commit = Commit::to(&stream, ExpectedRevision::unchanged(last), [event]);
        last = store.commit(commit).await.map_err(|error| failed(&error))?.revision(&stream);
        events += 1;
    }
    Ok(events)
}

/// How long a writer waits for others at the most before it gives up a benchmark.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
