//! [`Contents`]: all content of a store that is readable through its public API.

use std::collections::BTreeMap;

use es_core::model::Category;
use es_core::store::EventStream;
use es_core::{EventId, EventReader, EventType, LogRead, RecordedEvent, StoreError, StreamRead};

use super::work::{self, Name};

/// Maximum number of events that are looked up by id, evenly distributed over the log.
const MAX_LOOKUPS: usize = 1_000;

/// The content of a store, as it was read. [`History`](super::History) compares it with the expected content.
#[derive(Debug)]
pub struct Contents {
    /// The head of the log.
    pub head: Option<u64>,
    /// The events of the log in order.
    pub log: Vec<RecordedEvent>,
    /// The events of each stream in order, and its last revision.
    pub streams: BTreeMap<String, (Vec<RecordedEvent>, Option<u64>)>,
    /// The positions for each category, type and tag.
    pub postings: BTreeMap<String, Vec<u64>>,
    /// The results of lookups by event id.
    pub found: BTreeMap<EventId, Option<RecordedEvent>>,
    /// The owners of the unique keys of commits.
    pub owners: BTreeMap<Name, Option<String>>,
    /// The row of each writer.
    pub rows: BTreeMap<u16, Option<Vec<u8>>>,
}

impl Contents {
    /// Reads all content and looks up the acknowledged commits.
    ///
    /// # Errors
    /// The first [`StoreError`] of a read.
    pub async fn read(store: &dyn EventReader, acknowledged: &[Name]) -> Result<Self, StoreError> {
        let log = collect(store.read_log(LogRead::all()).await).await?;
        let head = store.head().await?.map(es_core::Position::get);
        let (found, owners) = look_up(store, acknowledged, &log).await?;
        let mut rows = BTreeMap::new();
        for writer in 0..work::WRITERS {
            let row = store.row(&work::last_rows(), &work::row_key(writer)).await?;
            rows.insert(writer, row.map(|row| row.to_vec()));
        }
        let (streams, postings) = (streams(store).await?, postings(store).await?);
        Ok(Self { head, log, streams, postings, found, owners, rows })
    }
}

async fn collect(events: Result<EventStream, StoreError>) -> Result<Vec<RecordedEvent>, StoreError> {
    events?.collect().await
}

type LookedUp = (BTreeMap<EventId, Option<RecordedEvent>>, BTreeMap<Name, Option<String>>);

async fn look_up(
    store: &dyn EventReader,
    acknowledged: &[Name],
    log: &[RecordedEvent],
) -> Result<LookedUp, StoreError> {
    let ids: Vec<_> = log.iter().map(|event| event.data.id).chain(acknowledged.iter().map(|name| name.id(0))).collect();
    let step = ids.len().div_ceil(MAX_LOOKUPS).max(1);
    let (mut found, mut owners) = (BTreeMap::new(), BTreeMap::new());
    // In reverse, so that the last events are included.
    for id in ids.into_iter().rev().step_by(step) {
        let name = Name::of(id);
        found.insert(id, store.find(id).await?);
        owners.insert(name, store.owner(&name.key()).await?.map(|stream| stream.to_string()));
    }
    Ok((found, owners))
}

async fn streams(store: &dyn EventReader) -> Result<BTreeMap<String, (Vec<RecordedEvent>, Option<u64>)>, StoreError> {
    let mut streams = BTreeMap::new();
    for stream in work::streams() {
        let events = collect(store.read_stream(StreamRead::new(stream.clone())).await).await?;
        let revision = store.revision(&stream).await?.map(es_core::Revision::get);
        streams.insert(stream.to_string(), (events, revision));
    }
    Ok(streams)
}

async fn postings(store: &dyn EventReader) -> Result<BTreeMap<String, Vec<u64>>, StoreError> {
    let categories = work::CATEGORIES
        .iter()
        .map(|name| (format!("category {name}"), LogRead::category(Category::new(*name).expect("a category"))));
    let types = work::TYPES
        .iter()
        .map(|name| (format!("type {name}"), LogRead::event_type(EventType::new(*name).expect("a type"))));
    let tags = work::tags().map(|tag| (format!("tag {tag}"), LogRead::tag(tag)));
    let mut postings = BTreeMap::new();
    for (name, read) in categories.chain(types).chain(tags) {
        let events = collect(store.read_log(read).await).await?;
        postings.insert(name, events.iter().map(|event| event.position.get()).collect());
    }
    Ok(postings)
}
