//! Stores for tests: small runs and segments, and stores with all kinds of content.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use es_core::model::{Metadata, Table, UniqueKey};
use es_core::retention::{DeleteKind, Note, Scavenge};
use es_core::store::RowScan;
use es_core::{
    Commit, EventReader, EventStore, EventType, ExpectedRevision, LogRead, NewEvent, RecordedEvent, StreamRead,
};
use es_rocksdb::{Options, ReadOnlyStore, RocksDbStore, Verification};

use super::{stream, tag};

/// Returns options with which a few events are written to tables and segments.
pub(crate) fn options() -> Options {
    Options::new().block_cache_bytes(1 << 20).write_buffer_bytes(1 << 20).index_run(10, 1 << 20).log_segment_bytes(8192)
}

pub(crate) async fn open(directory: &Path) -> RocksDbStore {
    options().open(directory).await.expect("opens")
}

pub(crate) fn table() -> Table {
    Table::new("views").expect("a name")
}

/// Writes `count` commits: events with tags, metadata and unique keys in several streams, and rows.
pub(crate) async fn fill(store: &RocksDbStore, first: usize, count: usize) {
    for number in first..first + count {
        let name = format!("order-{}", number % 5);
        let event_type = EventType::new(["placed", "paid"][number % 2]).expect("a name");
        let mut event = NewEvent::json(event_type, format!(r#"{{"number":{number}}}"#))
            .tagged(tag(&format!("customer:{}", number % 3)))
            .with_metadata(Metadata::new().with("agent", "Trillian"));
        if number % 4 == 0 {
            event = event.claiming(UniqueKey::new("number", number.to_string()).expect("a key"));
        }
        let events = [event, NewEvent::json(EventType::new("checked").expect("a name"), "{}")];
        let mut commit = Commit::to(&stream(&name), ExpectedRevision::Any, events);
        commit = commit.put_row(table(), format!("row-{}", number % 7), format!("value {number}"));
        if number % 6 == 0 {
            commit = commit.delete_row(table(), format!("row-{}", (number + 1) % 7));
        }
        store.commit(commit).await.expect("commits");
        if number % 10 == 0 {
            let row = Commit::new().put_row(table(), format!("only-{number}"), "without an event");
            store.commit(row).await.expect("commits");
        }
    }
}

/// Makes a store in a directory whose log is as it was written.
pub(crate) async fn filled(directory: &Path, count: usize) {
    let store = open(directory).await;
    fill(&store, 0, count).await;
    store.close().await.expect("closes");
}

/// Makes a store in a directory with removed events, rewritten segments and compacted tables, and newer events.
pub(crate) async fn scavenged(directory: &Path, count: usize) {
    let store = open(directory).await;
    fill(&store, 0, count).await;
    let deleted = stream("order-1");
    let last = store.revision(&deleted).await.expect("reads");
    store.commit(Commit::delete_stream(deleted, DeleteKind::Soft, last, Note::default())).await.expect("commits");
    store.scavenge(&Scavenge::default()).await.expect("scavenges");
    store.compact().await.expect("compacts");
    fill(&store, count, count / 2).await;
    store.close().await.expect("closes");
}

/// The content of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) log: Vec<RecordedEvent>,
    pub(crate) streams: BTreeMap<String, Vec<RecordedEvent>>,
    pub(crate) rows: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) owners: BTreeMap<usize, Option<String>>,
}

pub(crate) async fn content(store: &dyn EventReader) -> Content {
    let log = store.read_log(LogRead::all()).await.expect("reads").collect().await.expect("reads");
    let mut streams = BTreeMap::new();
    for (name, _) in store.streams("", None, usize::MAX).await.expect("lists") {
        let events = store.read_stream(StreamRead::new(name.clone())).await.expect("reads").collect().await;
        streams.insert(name.to_string(), events.expect("reads"));
    }
    let rows = store.rows(RowScan::new(table(), "", usize::MAX)).await.expect("reads").into_iter();
    let rows = rows.map(|row| (row.key.to_vec(), row.value.to_vec())).collect();
    let mut owners = BTreeMap::new();
    for number in 0..200 {
        let key = UniqueKey::new("number", number.to_string()).expect("a key");
        owners.insert(number, store.owner(&key).await.expect("reads").map(|owner| owner.to_string()));
    }
    Content { log, streams, rows, owners }
}

pub(crate) async fn verify(directory: &Path) -> Verification {
    ReadOnlyStore::open(directory).await.expect("opens").verify(&mut |_, _, _| {}).expect("verifies")
}

/// Returns all files of a directory and of the directories in it, in order.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("lists").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

/// Copies a store.
pub(crate) fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).expect("below"));
        std::fs::create_dir_all(target.parent().expect("a parent")).expect("creates");
        std::fs::copy(&file, target).expect("copies");
    }
}
