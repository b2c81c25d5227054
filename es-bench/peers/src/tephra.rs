//! tephra, embedded.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use es_bench::{Append, Contender, Failure, Folded, Opened, Role, Seen, Selection, Setup, Task};
use tephra::{
    AppendCondition, Event, EventType, Position, Query, QueryItem, SegmentConfig, SegmentSet, Tag, Tags,
    WriteCoordinator, WriteHandle, WriterConfig,
};

use crate::umadb::tag_of_stream;
use crate::{failed, version};

/// The value in its documentation.
const SEGMENT: usize = 256 << 20;

pub(crate) struct Tephra;

#[async_trait]
impl Contender for Tephra {
    fn name(&self) -> &'static str {
        "tephra"
    }

    fn about(&self) -> String {
        let version = version("tephra");
        format!(
            "{version} embedded; each commit conditional on its stream's tag; fdatasync per batch; 256 MiB allocated \
             ahead"
        )
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn offers(&self, task: Task) -> Result<(), &'static str> {
        match task {
            Task::AppendBuffered => Err("it always syncs"),
            Task::LoadSnapshot => Err("a store without aggregates"),
            Task::Sagas => Err("a store without sagas"),
            _ => Ok(()),
        }
    }

    async fn open(&self, dir: &Path, _: Setup) -> Result<Box<dyn Opened>, Failure> {
        std::fs::create_dir_all(dir).map_err(failed("create a directory"))?;
        let set = SegmentSet::open(dir, SegmentConfig::new(SEGMENT)).map_err(failed("open tephra"))?;
        let (coordinator, handle) =
            WriteCoordinator::start(set, WriterConfig::default()).map_err(failed("start the writer"))?;
        Ok(Box::new(OpenedTephra { handle, coordinator: Mutex::new(Some(coordinator)) }))
    }
}

struct OpenedTephra {
    handle: WriteHandle,
    coordinator: Mutex<Option<WriteCoordinator>>,
}

fn tags(names: impl IntoIterator<Item = String>) -> Result<Tags, Failure> {
    let tags: Result<Vec<_>, _> = names.into_iter().map(Tag::new).collect();
    Tags::new(tags.map_err(failed("create a tag"))?).map_err(failed("create tags"))
}

fn query(selection: Selection) -> Result<Query, Failure> {
    Ok(match selection {
        Selection::All => Query::all(),
        Selection::Type(name) => {
            Query::item(QueryItem::of_types(vec![EventType::new(name).map_err(failed("create an event type"))?]))
        }
        Selection::Tag(tag) => Query::item(QueryItem::with_tags(tags([tag])?)),
    })
}

impl OpenedTephra {
    /// Calls `each` with the types and payloads of the matching events.
    fn each(
        &self,
        selection: Selection,
        mut each: impl FnMut(&str, &[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut reads = self.handle.read(&query(selection)?, Position::ZERO, None);
        while let Some(found) = reads.next() {
            let event = found.map_err(failed("read"))?.event;
            each(event.event_type(), event.data())?;
        }
        Ok(())
    }
}

#[async_trait]
impl Opened for OpenedTephra {
    async fn append(&self, append: Append) -> Result<u64, Failure> {
        let stream = tag_of_stream(append.stream);
        let mut condition = stream.clone();
        let mut events = Vec::with_capacity(append.events.len());
        for sample in append.events {
            if append.conditional {
                condition.clone_from(&sample.tag);
            }
            let event_type = EventType::new(sample.event_type).map_err(failed("create an event type"))?;
            let names = if sample.tag == stream { vec![sample.tag] } else { vec![sample.tag, stream.clone()] };
            events.push(Event::new(&event_type, &tags(names)?, &sample.payload).map_err(failed("encode an event"))?);
        }
        let condition = AppendCondition::new(query(Selection::Tag(condition))?).after(Position::new(append.seen));
        let range = self.handle.append_async(events, Some(condition)).await.map_err(failed("append"))?;
        Ok(range.last.get())
    }

    async fn load(&self, stream: u64, _: bool) -> Result<Folded, Failure> {
        let mut folded = Folded::default();
        self.each(Selection::Tag(tag_of_stream(stream)), |event_type, payload| {
            folded.add_encoded(event_type, payload)
        })?;
        Ok(folded)
    }

    async fn read(&self, selection: Selection) -> Result<u64, Failure> {
        let mut events = 0;
        self.each(selection, |_, _| {
            events += 1;
            Ok(())
        })?;
        Ok(events)
    }

    async fn follow(&self, seen: &Seen) -> Result<(), Failure> {
        let mut subscription = self.handle.subscribe(Query::all(), self.handle.head());
        loop {
            let batch = subscription.poll_batch().map_err(failed("follow"))?;
            batch.iter().for_each(|(_, event)| seen.record(event.data()));
            if batch.is_empty() {
                // It waits on a condition variable, which blocks a thread.
                let waiting = tokio::task::spawn_blocking(move || {
                    subscription.wait_timeout(Duration::from_millis(200));
                    subscription
                });
                subscription = waiting.await.map_err(failed("wait for events"))?;
            }
        }
    }

    async fn close(&self) -> Result<(), Failure> {
        let coordinator = self.coordinator.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(coordinator) = coordinator {
            drop(coordinator.shutdown());
        }
        Ok(())
    }
}
