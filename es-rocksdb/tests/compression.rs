//! Compression of the log: by a compaction, and by the thread of the index.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::stores::{Content, content, files, fill, filled, open, options, verify};
use common::{frames, stream, tag};
use es_core::retention::{DeleteKind, Note, Scavenge};
use es_core::store::QueryItem;
use es_core::{
    Commit, EventReader, EventStore, EventType, ExpectedRevision, LogRead, NewEvent, Position, RecordedEvent,
    StreamRead,
};
use es_log::{ReadableLog, SystemDisk};
use es_rocksdb::{Backups, ReadOnlyStore};

fn log_of(directory: &Path) -> ReadableLog {
    ReadableLog::open(directory.join("log"), Arc::new(SystemDisk)).unwrap()
}

/// Returns whether each segment of the log is compressed, without the last one.
fn compressed(directory: &Path) -> Vec<bool> {
    let segments = log_of(directory).segments();
    segments.iter().filter(|file| file.is_sealed).map(|file| file.is_compressed).collect()
}

fn bytes_of_sealed_segments(directory: &Path) -> u64 {
    let sealed = log_of(directory).segments().into_iter().filter(|file| file.is_sealed);
    sealed.map(|file| directory.join("log").join(file.name).metadata().unwrap().len()).sum()
}

/// Returns the events that a store has for each kind of index, and by their ids.
async fn indexed(store: &dyn EventReader) -> (Vec<Vec<RecordedEvent>>, Vec<Option<RecordedEvent>>) {
    let items = [
        QueryItem::new().tag(tag("customer:1")),
        QueryItem::new().event_type(EventType::new("paid").unwrap()),
        QueryItem::new().category(stream("order-1").category()),
    ];
    let mut lists = Vec::new();
    for item in items {
        let read = store.read_log(LogRead::matching(item)).await.unwrap();
        lists.push(read.collect().await.unwrap());
    }
    let mut found = Vec::new();
    for event in lists.concat() {
        found.push(store.find(event.data.id).await.unwrap());
    }
    (lists, found)
}

async fn all(store: &dyn EventReader) -> (Content, (Vec<Vec<RecordedEvent>>, Vec<Option<RecordedEvent>>)) {
    (content(store).await, indexed(store).await)
}

/// A compaction makes the log smaller, and no read, backup, restore or verification has another result.
#[tokio::test]
async fn a_compaction_compresses_the_log_and_changes_no_read() {
    let directory = tempfile::tempdir().unwrap();
    let [path, target, restored] = ["store", "backups", "restored"].map(|name| directory.path().join(name));
    let store = open(&path).await;
    fill(&store, 0, 150).await;
    let before = all(&store).await;
    let reader = ReadOnlyStore::open(&path).await.unwrap();
    let backups = Backups::new(&target);
    let create = async || backups.create(&path, &mut |_, _, _| {}).await.unwrap();
    create().await;
    let plain = bytes_of_sealed_segments(&path);
    assert!(compressed(&path).iter().all(|is_compressed| !is_compressed));
    store.compact().await.unwrap();
    let sealed = compressed(&path);
    assert!(sealed.len() > 4 && sealed.iter().all(|is_compressed| *is_compressed), "{sealed:?}");
    let smaller = bytes_of_sealed_segments(&path);
    assert!(smaller * 2 < plain, "{smaller} of {plain} bytes");
    assert_eq!(all(&store).await, before);
    assert_eq!(all(&reader).await, before, "a snapshot that was opened before");
    assert_eq!(all(&ReadOnlyStore::open(&path).await.unwrap()).await, before);

    let backup = create().await;
    assert!(backup.damaged.is_none(), "a compression is no damage of the last backup");
    assert_eq!(compressed(&backup.directory), sealed, "a backup has the files of the store");
    assert!(verify(&backup.directory).await.is_sound());
    assert_eq!(all(&ReadOnlyStore::open(&backup.directory).await.unwrap()).await, before);
    backups.restore(Some(backup.number), &restored, &mut |_, _, _| {}).await.unwrap();
    assert!(compressed(&restored).iter().filter(|is_compressed| **is_compressed).count() >= sealed.len() - 1);

    fill(&store, 150, 20).await;
    let after = all(&store).await;
    store.close().await.unwrap();
    assert!(verify(&path).await.is_sound());
    for (path, expected) in [(&path, &after), (&restored, &before)] {
        let store = open(path).await;
        assert_eq!(&all(&store).await, expected);
        fill(&store, 200, 20).await;
        store.compact().await.unwrap();
        store.close().await.unwrap();
        assert!(verify(path).await.is_sound());
    }
}

/// With the option, the thread of the index compresses segments whose events are in tables, while the store is open;
/// without it, it does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_are_compressed_in_the_background_if_the_option_is_set() {
    for compresses in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let store = options().compress_log(compresses).open(directory.path()).await.unwrap();
        fill(&store, 0, 100).await;
        let before = all(&store).await;
        let segments = compressed(directory.path()).len();
        assert!(segments > 4, "{segments}");
        // The last segments can have events that are not in tables.
        let deadline = Instant::now() + Duration::from_secs(if compresses { 300 } else { 4 });
        while Instant::now() < deadline && !compressed(directory.path())[..segments - 2].iter().all(|found| *found) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let reader = ReadOnlyStore::open(directory.path()).await.unwrap();
            assert_eq!(reader.head().await.unwrap(), store.head().await.unwrap());
        }
        let found = compressed(directory.path());
        assert!(found[..segments - 2].iter().all(|is_compressed| *is_compressed == compresses), "{found:?}");
        assert_eq!(all(&store).await, before);
        store.close().await.unwrap();
        assert!(verify(directory.path()).await.is_sound());
        let store = open(directory.path()).await;
        assert_eq!(all(&store).await, before);
        store.close().await.unwrap();
    }
}

/// Erased events are in no file: neither as text, nor in the decompressed segments, nor in the index.
#[tokio::test]
async fn an_erased_stream_leaves_no_byte_in_a_compressed_log() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    let erased = stream("customer-7");
    for number in 0..40 {
        let secret = NewEvent::json(EventType::new("named").unwrap(), format!(r#"{{"name":"Zaphod-{number}"}}"#));
        let commit = Commit::to(&erased, ExpectedRevision::Any, [secret.tagged(tag("planet:Betelgeuse"))]);
        store.commit(commit).await.unwrap();
        fill(&store, number, 1).await;
    }
    store.compact().await.unwrap();
    assert!(compressed(directory.path()).iter().all(|is_compressed| *is_compressed));
    let has = |bytes: &[u8], name: &str| bytes.windows(name.len()).any(|found| found == name.as_bytes());
    assert!(has(&frames(directory.path()), "Zaphod") && has(&frames(directory.path()), "Betelgeuse"));
    let last = store.revision(&erased).await.unwrap();
    store.commit(Commit::delete_stream(erased.clone(), DeleteKind::Hard, last, Note::default())).await.unwrap();
    let report = store.scavenge(&Scavenge::default()).await.unwrap();
    assert_eq!((report.is_complete, report.events), (true, 40));
    assert!(compressed(directory.path()).iter().any(|is_compressed| *is_compressed), "they stay compressed");
    let others = store.read_log(LogRead::all()).await.unwrap().collect().await.unwrap();
    assert_eq!(others.iter().filter(|event| event.stream.as_str().starts_with("order")).count(), 80);
    assert!(store.read_stream(StreamRead::new(erased)).await.unwrap().collect().await.unwrap().is_empty());
    store.close().await.unwrap();
    // The names in the manifest of RocksDB are removed by an opening.
    open(directory.path()).await.close().await.unwrap();
    for name in ["Zaphod", "Betelgeuse"] {
        assert!(!has(&frames(directory.path()), name), "{name} in the decompressed log");
        let is_in = |path: &std::path::PathBuf| has(&std::fs::read(path).unwrap(), name);
        let left: Vec<_> = files(directory.path()).into_iter().filter(is_in).collect();
        assert!(left.is_empty(), "{name} is left in {left:?}");
        assert!(!has(&index_entries(directory.path()), name), "{name} in the index");
    }
    assert!(verify(directory.path()).await.is_sound());
}

/// Returns the keys and values of the index, which are compressed in its tables.
fn index_entries(directory: &Path) -> Vec<u8> {
    let (index, options) = (directory.join("index"), rocksdb::Options::default());
    let names = rocksdb::DB::list_cf(&options, &index).unwrap();
    let db = rocksdb::DB::open_cf_for_read_only(&options, &index, &names, false).unwrap();
    let mut bytes = Vec::new();
    for name in &names {
        for entry in db.iterator_cf(db.cf_handle(name).unwrap(), rocksdb::IteratorMode::Start) {
            let (key, value) = entry.unwrap();
            bytes.extend_from_slice(&key);
            bytes.extend_from_slice(&value);
        }
    }
    bytes
}

/// Damage of a compressed segment is found by a verification, and a backup of it is refused.
#[tokio::test]
async fn damage_of_a_compressed_segment_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    filled(&path, 60).await;
    let store = open(&path).await;
    store.compact().await.unwrap();
    let first = store.read_log(LogRead::all()).await.unwrap().collect().await.unwrap();
    store.close().await.unwrap();
    let segment = path.join("log/00000002.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let found = verify(&path).await;
    assert!(found.damage.iter().any(|damage| damage.detail.contains("chunk 0 of the compressed segment")));
    assert!(Backups::new(directory.path().join("backups")).create(&path, &mut |_, _, _| {}).await.is_err());
    // The other segments stay readable.
    let reader = ReadOnlyStore::open(&path).await.unwrap();
    let last = first.last().unwrap().position;
    let read = LogRead::all().after(Position::new(last.get() - 3));
    assert_eq!(reader.read_log(read).await.unwrap().collect().await.unwrap().len(), 3);
}
