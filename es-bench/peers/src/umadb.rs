//! The core of umadb, embedded: its writer thread with group commit, called as its server calls it.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use es_bench::{Append, Contender, Failure, Folded, Opened, Role, Seen, Selection, Setup, Task};
use tokio::sync::{mpsc, oneshot, watch};
use umadb_core::common::Position;
use umadb_core::db::read_conditional;
use umadb_core::mvcc::{Mvcc, StorageOptions};
use umadb_core::writer_thread_blocking::writer_thread_blocking;
use umadb_core::writer_thread_request::WriterThreadRequest;
use umadb_dcb::{DcbAppendCondition, DcbEvent, DcbQuery, DcbQueryItem, DcbSequencedEvent};
use uuid::Uuid;

use crate::{failed, version};

/// The value that its server sets.
const BATCH: usize = 2048;

pub(crate) struct UmaDb;

#[async_trait]
impl Contender for UmaDb {
    fn name(&self) -> &'static str {
        "umadb"
    }

    fn about(&self) -> String {
        let version = version("umadb-core");
        format!(
            "{version} embedded, its default options; each commit conditional on its stream's tag; 2 fdatasync per \
             batch"
        )
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn offers(&self, task: Task) -> Result<(), &'static str> {
        offers(task)
    }

    async fn open(&self, dir: &Path, _: Setup) -> Result<Box<dyn Opened>, Failure> {
        std::fs::create_dir_all(dir).map_err(failed("create a directory"))?;
        let mvcc = Mvcc::new(false, StorageOptions::default().db_path(dir)).map_err(failed("open umadb"))?;
        let mvcc = Arc::new(mvcc);
        let (requests, waiting) = mpsc::channel(1024);
        let (head, watch) = watch::channel(None);
        let writer = Arc::clone(&mvcc);
        std::thread::spawn(move || writer_thread_blocking(writer, waiting, head, BATCH));
        Ok(Box::new(OpenedUmaDb { mvcc, requests, watch }))
    }
}

pub(crate) fn offers(task: Task) -> Result<(), &'static str> {
    match task {
        Task::AppendBuffered => Err("it always syncs"),
        Task::LoadSnapshot => Err("a store without aggregates"),
        Task::Sagas => Err("a store without sagas"),
        _ => Ok(()),
    }
}

/// Returns the events of a commit, with a tag for the stream, and the append condition for the expected revision.
pub(crate) fn request(append: Append) -> (Vec<DcbEvent>, DcbAppendCondition) {
    let stream = tag_of_stream(append.stream);
    let mut condition = stream.clone();
    let event = |sample: es_bench::Sample| {
        if append.conditional {
            condition.clone_from(&sample.tag);
        }
        let tags = if sample.tag == stream { vec![sample.tag] } else { vec![sample.tag, stream.clone()] };
        DcbEvent::new().event_type(sample.event_type).data(sample.payload).tags(tags).uuid(Uuid::now_v7())
    };
    let events = append.events.into_iter().map(event).collect();
    let query = DcbQuery::new().item(DcbQueryItem::new().tags([condition]));
    let seen = (append.seen > 0).then_some(append.seen);
    (events, DcbAppendCondition::new(query).after(seen))
}

pub(crate) fn tag_of_stream(stream: u64) -> String {
    format!("order:{stream}")
}

pub(crate) fn query(selection: Selection) -> Option<DcbQuery> {
    match selection {
        Selection::All => None,
        Selection::Type(name) => Some(DcbQuery::new().item(DcbQueryItem::new().types([name]))),
        Selection::Tag(tag) => Some(DcbQuery::new().item(DcbQueryItem::new().tags([tag]))),
    }
}

pub(crate) fn fold(events: &[DcbSequencedEvent]) -> Result<Folded, Failure> {
    let mut folded = Folded::default();
    events.iter().try_for_each(|event| folded.add_encoded(&event.event.event_type, &event.event.data))?;
    Ok(folded)
}

struct OpenedUmaDb {
    mvcc: Arc<Mvcc>,
    requests: mpsc::Sender<WriterThreadRequest>,
    watch: watch::Receiver<Option<u64>>,
}

impl OpenedUmaDb {
    fn read_from(&self, query: Option<DcbQuery>, start: Option<u64>) -> Result<Vec<DcbSequencedEvent>, Failure> {
        let reader = self.mvcc.reader().map_err(failed("read"))?;
        let (events, tags) = (reader.events_tree_root_id, reader.tags_tree_root_id);
        let none = Default::default();
        let (query, start) = (query.unwrap_or_default(), start.map(Position));
        read_conditional(&*self.mvcc, &none, events, tags, query, start, false, None, false, None)
            .map_err(failed("read"))
    }
}

#[async_trait]
impl Opened for OpenedUmaDb {
    async fn append(&self, append: Append) -> Result<u64, Failure> {
        let (events, condition) = request(append);
        let (response_tx, response) = oneshot::channel();
        let condition = Some(condition);
        let request = WriterThreadRequest::Append { events, condition, tracking_info: None, response_tx, cancel: None };
        self.requests.send(request).await.map_err(failed("append"))?;
        response.await.map_err(failed("append"))?.map_err(failed("append"))
    }

    async fn load(&self, stream: u64, _: bool) -> Result<Folded, Failure> {
        fold(&self.read_from(query(Selection::Tag(tag_of_stream(stream))), None)?)
    }

    async fn read(&self, selection: Selection) -> Result<u64, Failure> {
        self.read_from(query(selection), None).map(|events| events.len() as u64)
    }

    async fn follow(&self, seen: &Seen) -> Result<(), Failure> {
        let mut watch = self.watch.clone();
        let mut position = *watch.borrow_and_update();
        loop {
            watch.changed().await.map_err(failed("wait for events"))?;
            for event in self.read_from(None, Some(position.unwrap_or(0) + 1))? {
                seen.record(&event.event.data);
                position = Some(event.position);
            }
        }
    }

    async fn close(&self) -> Result<(), Failure> {
        // An error means that the writer has ended already.
        let _ = self.requests.send(WriterThreadRequest::Shutdown).await;
        Ok(())
    }
}
