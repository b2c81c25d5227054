//! What is in the files of a store, after crashes and after erasures.

use std::path::Path;

use es_core::model::{ErrorChain, EventView, Metadata, Table, Tag, UniqueKey};
use es_core::retention::{DeleteKind, Note, Rule, Scavenge, Scope};
use es_core::{
    Commit, EventReader, EventStore, EventType, ExpectedRevision, LogRead, NewEvent, Revision, StreamId, StreamRead,
};
use es_rocksdb::{Options, RocksDbStore};

/// Returns options with which a few events are written to tables and segments.
fn options() -> Options {
    Options::new().block_cache_bytes(1 << 20).write_buffer_bytes(1 << 20).index_run(10, 1 << 20).log_segment_bytes(8192)
}

async fn open(directory: &Path) -> RocksDbStore {
    options().open(directory).await.expect("opens")
}

fn stream(name: &str) -> StreamId {
    StreamId::new(name).expect("a name")
}

fn event(payload: &str) -> NewEvent {
    NewEvent::json(EventType::new("placed").expect("a name"), payload.to_owned())
}

async fn append(store: &RocksDbStore, name: &str, count: usize) {
    for _ in 0..count {
        let commit = Commit::to(&stream(name), ExpectedRevision::Any, [event("{}")]);
        store.commit(commit).await.expect("commits");
    }
}

/// Waits until the index has written its full runs to tables.
async fn settle(store: &RocksDbStore) {
    store.compact().await.expect("compacts");
}

/// Returns all files of a directory and of the directories in it.
fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).expect("lists").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
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
async fn revisions(store: &RocksDbStore, name: &str, from: u64) -> Vec<u64> {
    let mut found = Vec::new();
    let read = StreamRead::new(stream(name)).from(Revision::new(from));
    let mut visitor = |event: EventView<'_>| {
        found.push(event.revision().get());
        std::ops::ControlFlow::Continue(())
    };
    store.visit_stream(read, &mut visitor).await.expect("reads");
    found
}

async fn set_max_count(store: &RocksDbStore, name: &str, max_count: Option<u64>) {
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

/// A scavenge removes at most as many events at a time as a run has.
#[tokio::test]
async fn a_long_stream_is_scavenged_in_parts() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    for (count, max_count, removed) in [(55, 3, 52), (30, 1, 32)] {
        append(&store, "order-1", count).await;
        append(&store, "order-2", 1).await;
        set_max_count(&store, "order-1", Some(max_count)).await;
        assert_eq!(store.scavenge(&Scavenge::default()).await.unwrap().events, removed);
        let last = revisions(&store, "order-2", 0).await.len() as u64 * 30 + 24;
        assert_eq!(revisions(&store, "order-1", 0).await, (last + 1 - max_count..=last).collect::<Vec<_>>());
    }
    store.close().await.unwrap();
    let reader = es_rocksdb::ReadOnlyStore::open(directory.path()).await.unwrap();
    let verification = reader.verify(&mut |_, _, _| {}).unwrap();
    assert!(verification.is_sound(), "{verification:?}");
    // Three events, two rules and two scavenge points are left.
    assert_eq!((verification.events, verification.removed), (7, 84));
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

/// Regression: a store without new events read all rows of its log again at each opening, also if its few events were
/// not in tables, and a read-only opening kept all of them in memory.
#[tokio::test]
async fn rows_that_are_in_tables_are_not_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let (table, store) = (Table::new("views").unwrap(), options().index_run(10, 4096).open(directory.path()).await);
    let store = store.expect("opens");
    append(&store, "order-1", 1).await;
    for number in 0..100u8 {
        store.commit(Commit::new().put_row(table.clone(), vec![number], vec![number; 100])).await.unwrap();
    }
    let applied = |key: &str| {
        let index = directory.path().join("index");
        let families = ["default", "meta"];
        let database = rocksdb::DB::open_cf_for_read_only(&rocksdb::Options::default(), index, families, false).ok()?;
        let value = database.get_cf(database.cf_handle("meta")?, key).ok()??;
        value.first_chunk().map(|frame| u64::from_be_bytes(*frame))
    };
    let mut attempts = 0..500;
    while applied("applied-frame").is_none_or(|frame| frame < 50) || applied("applied") != Some(1) {
        let found = (applied("applied-frame"), applied("applied"));
        assert!(attempts.next().is_some(), "the rows and the event were not written to tables: {found:?}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    for _ in 0..2 {
        store.commit(Commit::new().put_row(table.clone(), vec![200], vec![1])).await.unwrap();
    }
    store.close().await.unwrap();
    let store = open(directory.path()).await;
    for number in 0..100u8 {
        assert_eq!(store.row(&table, &[number]).await.unwrap().as_deref(), Some(&[number; 100][..]), "{number}");
    }
    assert_eq!(store.row(&table, &[200]).await.unwrap().as_deref(), Some(&[1][..]));
    append(&store, "order-1", 15).await;
    store.close().await.unwrap();
    let store = open(directory.path()).await;
    assert_eq!(store.row(&table, &[7]).await.unwrap().as_deref(), Some(&[7; 100][..]));
    store.close().await.unwrap();
}

/// Regression: on a full disk, commits waited without end for index tables that could not be written.
#[tokio::test]
async fn commits_fail_while_index_tables_cannot_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    let tables = directory.path().join("tables");
    // A file in the place of the directory.
    std::fs::write(&tables, "").unwrap();
    let mut error = None;
    for number in 0..100 {
        let commit = Commit::to(&stream("order-1"), ExpectedRevision::Any, [event("{}")]);
        let committed = tokio::time::timeout(std::time::Duration::from_secs(30), store.commit(commit)).await;
        match committed.expect("the commit does not wait for the disk") {
            Ok(_) => assert_eq!(store.revision(&stream("order-1")).await.unwrap(), Some(Revision::new(number))),
            Err(failed) => error = Some(failed),
        }
    }
    let error = ErrorChain(&error.expect("commits fail")).to_string();
    assert!(error.contains("could not write the index of earlier commits: "), "{error}");
    std::fs::remove_file(&tables).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while store.commit(Commit::to(&stream("order-1"), ExpectedRevision::Any, [event("{}")])).await.is_err() {
        assert!(std::time::Instant::now() < deadline, "commits still fail");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    store.close().await.unwrap();
}
