//! Helpers of the tests: constructors of events, and readers of stores and files.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod stores;

use std::num::NonZeroUsize;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use es_core::model::{Tag, UniqueKey};
use es_core::store::EventStream;
use es_core::store::implement::{KeyHash, KeySecret};
use es_core::{
    Commit, EventReader, EventStore, EventType, ExpectedRevision, LogRead, NewEvent, RecordedEvent, StoreError,
    StreamId,
};
use es_log::{Disk, Frame, SystemDisk};
use es_rocksdb::{OpenError, RocksDbStore};
use rocksdb::{ColumnFamilyDescriptor, DB, Options};

pub(crate) fn stream(name: &str) -> StreamId {
    StreamId::new(name).unwrap()
}

pub(crate) fn event(event_type: &str) -> NewEvent {
    NewEvent::json(EventType::new(event_type).unwrap(), r#"{"amount":5}"#)
}

pub(crate) fn tag(text: &str) -> Tag {
    Tag::new(text).unwrap()
}

/// Returns a commit of one event to a stream in any state.
pub(crate) fn append(name: &str) -> Commit {
    Commit::to(&stream(name), ExpectedRevision::Any, [event("happened")])
}

pub(crate) async fn open(dir: &Path) -> RocksDbStore {
    RocksDbStore::open(dir).await.unwrap()
}

pub(crate) async fn refused(dir: &Path) -> OpenError {
    RocksDbStore::open(dir).await.expect_err("the store must not open")
}

pub(crate) async fn all(store: &dyn EventReader) -> Vec<RecordedEvent> {
    collect(store.read_log(LogRead::all()).await).await.unwrap()
}

pub(crate) async fn collect(events: Result<EventStream, StoreError>) -> Result<Vec<RecordedEvent>, StoreError> {
    events?.collect().await
}

pub(crate) fn positions(events: &[RecordedEvent]) -> Vec<u64> {
    events.iter().map(|event| event.position.get()).collect()
}

/// Polls a future once.
pub(crate) async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context))).await
}

/// Opens the index of a closed store.
pub(crate) fn raw(dir: &Path) -> DB {
    let index = dir.join("index");
    let names = DB::list_cf(&Options::default(), &index).unwrap();
    let families = names.into_iter().map(|name| ColumnFamilyDescriptor::new(name, Options::default()));
    DB::open_cf_descriptors(&Options::default(), &index, families).unwrap()
}

/// Changes the value under a key of a family of the index of a closed store.
pub(crate) fn tamper(dir: &Path, family: &str, key: &[u8], change: impl FnOnce(Option<Vec<u8>>) -> Option<Vec<u8>>) {
    let db = raw(dir);
    let family = db.cf_handle(family).unwrap();
    match change(db.get_cf(family, key).unwrap()) {
        Some(value) => db.put_cf(family, key, value).unwrap(),
        None => db.delete_cf(family, key).unwrap(),
    }
    // The store has no write-ahead log.
    db.flush_cf(family).unwrap();
}

/// Returns the hash of a unique key in a closed store: its key in the family `keys`.
pub(crate) fn key_hash(dir: &Path, key: &UniqueKey) -> [u8; KeyHash::BYTES] {
    let db = raw(dir);
    let secret = db.get_cf(db.cf_handle("meta").unwrap(), "key-secret").unwrap().unwrap();
    *KeySecret::from_bytes(secret.try_into().unwrap()).hash(key).as_bytes()
}

/// Returns the paths, within a directory, and the contents of all files in it.
pub(crate) fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let file = |path: std::path::PathBuf| {
        let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read(path).unwrap())
    };
    stores::files(dir).into_iter().map(file).collect()
}

/// Random numbers of a seed (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap()
    }
}

/// Returns the bytes of all frames of the log, decompressed.
pub(crate) fn frames(directory: &Path) -> Vec<u8> {
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    let visit = |bytes: &mut Vec<u8>, frame: &Frame| bytes.extend_from_slice(frame.bytes());
    let (report, frames) = es_log::verify_and_visit(&disk, &directory.join("log"), NonZeroUsize::MIN, visit).unwrap();
    assert!(report.is_sound(), "{report:?}");
    frames.concat()
}

/// Changes a byte of the payload of the event at a position, in the first segment of the log. Events before it have the
/// payload of [`event`], too.
pub(crate) fn flip(dir: &Path, position: usize) {
    let segment = dir.join("log/00000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let text = b"\"amount\"";
    let found = bytes.windows(text.len()).enumerate().filter(|(_, bytes)| bytes == text).nth(position - 1);
    let at = found.expect("the event").0;
    bytes[at] ^= 4;
    std::fs::write(segment, bytes).unwrap();
}

/// Writes `count` events of less than 200 KiB, and closes the store. The events are in tables and in the first segment
/// of the log, which stays as it was written; two others are after them, so that the segment is not the last one, which
/// each opening verifies.
pub(crate) async fn close_with_tables<T>(dir: &Path, count: u32, write: impl AsyncFnOnce(&RocksDbStore) -> T) -> T {
    let tables = || {
        let files = std::fs::read_dir(dir.join("index")).unwrap().map(|file| file.unwrap().path());
        files.filter(|file| file.extension().is_some_and(|extension| extension == "sst")).count()
    };
    let store =
        es_rocksdb::Options::new().index_run(count, 1 << 20).log_segment_bytes(4 << 20).open(dir).await.unwrap();
    let before = tables();
    let written = write(&store).await;
    for _ in 0..2 {
        let large = NewEvent::json(EventType::new("large").unwrap(), format!(r#""{}""#, "x".repeat(300 << 10)));
        store.commit(Commit::to(&stream("large-1"), ExpectedRevision::Any, [large])).await.unwrap();
    }
    while tables() == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    store.close().await.unwrap();
    written
}
