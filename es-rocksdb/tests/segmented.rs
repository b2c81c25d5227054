//! Segmented stores: what is in their files, after crashes and after erasures.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::path::Path;

use es_core::model::{EventView, Metadata, Table, Tag, UniqueKey};
use es_core::retention::{DeleteKind, Note, Rule, Scavenge, Scope};
use es_core::{
    Commit, EventReader, EventStore, EventType, ExpectedRevision, LogRead, NewEvent, Revision, StreamId, StreamRead,
};
use es_rocksdb::{OpenError, Options, RocksDbStore, SegmentedStore};

/// Returns options with which a few events are written to tables and segments.
fn options() -> Options {
    Options::new().block_cache_bytes(1 << 20).write_buffer_bytes(1 << 20).index_run(10, 1 << 20).log_segment_bytes(8192)
}

async fn open(directory: &Path) -> SegmentedStore {
    options().open_segmented(directory).await.expect("opens")
}

fn stream(name: &str) -> StreamId {
    StreamId::new(name).expect("a name")
}

fn event(payload: &str) -> NewEvent {
    NewEvent::json(EventType::new("placed").expect("a name"), payload.to_owned())
}

async fn append(store: &SegmentedStore, name: &str, count: usize) {
    for _ in 0..count {
        let commit = Commit::to(&stream(name), ExpectedRevision::Any, [event("{}")]);
        store.commit(commit).await.expect("commits");
    }
}

/// Waits until the index has written its full runs to tables.
async fn settle(store: &SegmentedStore) {
    store.compact().await.expect("compacts");
}

/// Returns all files of a directory and of the directories in it.
fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).expect("lists").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Regression: as the test of this name in `reading.rs`.
#[tokio::test]
async fn a_stream_that_always_has_events_is_never_read_as_empty() {
    let directory = tempfile::tempdir().unwrap();
    common::check_reads_over_a_scavenge(&open(directory.path()).await).await;
}

/// Regression: after a crash, a table that RocksDB had taken over kept its first name. The next table was written
/// through that name, into the file of the index.
#[tokio::test]
async fn a_table_with_two_names_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    append(&store, "order-1", 25).await;
    settle(&store).await;
    store.close().await.unwrap();
    let tables = directory.path().join("tables");
    let index = files(&directory.path().join("index"));
    let [first, ..] = index.iter().filter(|path| path.extension() == Some("sst".as_ref())).collect::<Vec<_>>()[..]
    else {
        panic!("no table in {index:?}");
    };
    for family in ["heads", "streams", "ids", "categories", "types"] {
        std::fs::hard_link(first, tables.join(format!("{family}.sst"))).unwrap();
    }
    let content = std::fs::read(first).unwrap();
    let store = open(directory.path()).await;
    append(&store, "order-2", 25).await;
    settle(&store).await;
    assert_eq!(store.revision(&stream("order-1")).await.unwrap(), Some(Revision::new(24)));
    if first.exists() {
        assert_eq!(std::fs::read(first).unwrap(), content);
    }
    store.close().await.unwrap();
}

/// Returns the revisions of the events of a stream, from a revision on.
async fn revisions(store: &SegmentedStore, name: &str, from: u64) -> Vec<u64> {
    let mut found = Vec::new();
    let read = StreamRead::new(stream(name)).from(Revision::new(from));
    let mut visitor = |event: EventView<'_>| {
        found.push(event.revision().get());
        std::ops::ControlFlow::Continue(())
    };
    store.visit_stream(read, &mut visitor).await.expect("reads");
    found
}

async fn set_max_count(store: &SegmentedStore, name: &str, max_count: Option<u64>) {
    let scope = Scope::Stream(stream(name));
    let commit = match max_count {
        Some(_) => Commit::set_rule(scope, Rule { max_count, ..Rule::default() }, Note::default()),
        None => Commit::clear_rule(scope, Note::default()),
    };
    store.commit(commit).await.expect("commits");
}

/// A stream stays in memory after a read, while its later events go from memory to tables.
#[tokio::test]
async fn a_stream_that_was_read_before_is_read_whole() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    for round in 1..=6 {
        append(&store, "order-1", 3).await;
        append(&store, "order-2", 3).await;
        if round % 2 == 0 {
            settle(&store).await;
        }
        assert_eq!(revisions(&store, "order-1", 0).await, (0..3 * round).collect::<Vec<_>>());
        assert_eq!(revisions(&store, "order-1", 2).await, (2..3 * round).collect::<Vec<_>>());
    }
    // This stream is read for the first time, from its middle.
    assert_eq!(revisions(&store, "order-2", 5).await, (5..18).collect::<Vec<_>>());
    assert_eq!(revisions(&store, "order-2", 0).await, (0..18).collect::<Vec<_>>());
    // These events are hidden at the first read, and later not.
    append(&store, "order-3", 6).await;
    set_max_count(&store, "order-3", Some(2)).await;
    assert_eq!(revisions(&store, "order-3", 0).await, [4, 5]);
    set_max_count(&store, "order-3", None).await;
    assert_eq!(revisions(&store, "order-3", 0).await, [0, 1, 2, 3, 4, 5]);
    set_max_count(&store, "order-1", Some(4)).await;
    assert_eq!(revisions(&store, "order-1", 0).await, [14, 15, 16, 17]);
    store.scavenge(&Scavenge::default()).await.expect("scavenges");
    append(&store, "order-1", 1).await;
    assert_eq!(revisions(&store, "order-1", 0).await, [15, 16, 17, 18]);
    store.close().await.unwrap();
}

/// After a hard deletion and a scavenge, only the name of the stream is left in the files.
#[tokio::test]
async fn an_erased_stream_leaves_no_byte_in_any_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    append(&store, "order-1", 12).await;
    let erased = stream("customer-7");
    let secret = |number: usize| {
        event(&format!(r#"{{"name":"Zaphod-{number}"}}"#))
            .tagged(Tag::new("planet:Betelgeuse").unwrap())
            .with_metadata(Metadata::new().with("agent", "Trillian"))
            .claiming(UniqueKey::new("email", format!("zaphod{number}@heart.gold")).unwrap())
    };
    let table = Table::new("views").unwrap();
    for number in 0..30 {
        let commit = Commit::to(&erased, ExpectedRevision::Any, [secret(number)]);
        let commit = commit.put_row(table.clone(), "customer", format!("row of Marvin {number}"));
        store.commit(commit).await.unwrap();
        append(&store, "order-2", 1).await;
    }
    let names = ["Zaphod", "Betelgeuse", "Trillian", "heart.gold", "Marvin"];
    let found = |name: &str| {
        let contains = |path: &std::path::PathBuf| {
            // A file that is gone meanwhile has no byte.
            let content = std::fs::read(path).unwrap_or_default();
            content.windows(name.len()).any(|bytes| bytes == name.as_bytes())
        };
        files(directory.path()).into_iter().filter(contains).collect::<Vec<_>>()
    };
    // A thread writes the tables. They are not compressed before a compaction, so that copies of events are found in
    // them.
    for name in ["Zaphod", "Betelgeuse", "Trillian", "heart.gold"] {
        let mut attempts = 0..1000;
        while !found(name).iter().any(|path| path.starts_with(directory.path().join("index"))) {
            assert!(attempts.next().is_some(), "the test finds {name} in tables before the erasure");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
    let last = store.revision(&erased).await.unwrap();
    store.commit(Commit::delete_stream(erased.clone(), DeleteKind::Hard, last, Note::default())).await.unwrap();
    store.commit(Commit::new().put_row(table.clone(), "customer", "the last row of Marvin")).await.unwrap();
    store.commit(Commit::new().delete_row(table.clone(), "customer")).await.unwrap();
    let report = store.scavenge(&Scavenge::default()).await.unwrap();
    assert_eq!((report.is_complete, report.events), (true, 30));
    for name in ["Zaphod", "Trillian", "heart.gold"] {
        let left = found(name);
        assert!(left.is_empty(), "{name} after the scavenge, before a compaction: {left:?}");
    }
    // Rows after the last event.
    store.commit(Commit::new().put_row(table.clone(), "customer", "Marvin again")).await.unwrap();
    store.commit(Commit::new().delete_row(table, "customer")).await.unwrap();
    // The rows of the log and of RocksDB are removed by a compaction, the names in its manifest by an opening.
    settle(&store).await;
    store.close().await.unwrap();
    open(directory.path()).await.close().await.unwrap();
    for name in names {
        let left = found(name);
        assert!(left.is_empty(), "{name} is left in {left:?}");
    }
    let store = open(directory.path()).await;
    assert!(store.read_stream(StreamRead::new(erased)).await.unwrap().collect().await.unwrap().is_empty());
    let others = store.read_log(LogRead::all()).await.unwrap().collect().await.unwrap();
    assert_eq!(others.iter().filter(|event| event.stream.as_str().starts_with("order")).count(), 42);
    store.close().await.unwrap();
}

/// Rows of commits without events survive, also those after the last event that is in a table.
#[tokio::test]
async fn rows_without_events_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let table = Table::new("checkpoints").unwrap();
    for opening in 0..4u8 {
        let store = open(directory.path()).await;
        for number in 0..opening {
            let row = store.row(&table, &[number]).await.unwrap();
            assert_eq!(row.as_deref(), Some([number].as_slice()), "row {number} in opening {opening}");
        }
        append(&store, "order-1", usize::from(opening) * 10).await;
        store.commit(Commit::new().put_row(table.clone(), vec![opening], vec![opening])).await.unwrap();
        // Without a close, as after a crash of the process: the handle only drops.
        drop(store);
    }
}

#[tokio::test]
async fn a_directory_of_another_layout_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "new"].map(|name| directory.path().join(name));
    RocksDbStore::open(&old).await.unwrap().close().await.unwrap();
    open(&new).await.close().await.unwrap();
    let refused = options().open_segmented(&old).await.unwrap_err();
    assert!(matches!(&refused, OpenError::NotAStore { .. }), "{refused}");
    let refused = RocksDbStore::open(&new).await.unwrap_err();
    assert!(matches!(&refused, OpenError::NotAStore { .. }), "{refused}");
    let missing = options().create_if_missing(false).open_segmented(directory.path().join("none")).await.unwrap_err();
    assert!(matches!(&missing, OpenError::NoSuchDirectory { .. }), "{missing}");
    let store = open(&new).await;
    let second = options().open_segmented(&new).await.unwrap_err();
    assert!(matches!(&second, OpenError::AlreadyOpen { .. }), "{second}");
    store.close().await.unwrap();
}
