//! Helpers of the tests: constructors of events, and readers of stores and files.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod segmented;

use std::path::Path;
use std::pin::Pin;
use std::task::Poll;

use es_core::model::{Tag, UniqueKey};
use es_core::retention::{Note, Rule, Scavenge, Scope};
use es_core::store::EventStream;
use es_core::store::implement::{KeyHash, KeySecret};
use es_core::{
    Commit, EventReader, EventStore, EventType, ExpectedRevision, LogRead, NewEvent, RecordedEvent, Revision,
    StoreError, StreamId, StreamRead,
};
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

/// Opens reads of a stream, removes all events that it had by then, and checks that the reads return the newer events.
pub(crate) async fn check_reads_over_a_scavenge(store: &dyn EventStore) {
    let append = |count| {
        let (stream, events) = (stream("order-1"), std::iter::repeat_with(|| event("happened")).take(count));
        Commit::to(&stream, ExpectedRevision::Any, events)
    };
    let rule = Rule { max_count: Some(2), ..Rule::default() };
    store.commit(append(3)).await.unwrap();
    store.commit(Commit::set_rule(Scope::Stream(stream("order-1")), rule, Note::default())).await.unwrap();
    let whole = StreamRead::new(stream("order-1"));
    let mut opened = Vec::new();
    for read in [whole.clone(), whole.clone().backward(), whole.clone().from(Revision::new(1)), whole.clone().limit(1)]
    {
        opened.push(store.read_stream(read).await);
    }
    let of_another = store.read_stream(StreamRead::new(stream("order-2"))).await;
    store.commit(append(2)).await.unwrap();
    store.commit(Commit::to(&stream("order-2"), ExpectedRevision::NoStream, [event("happened")])).await.unwrap();
    assert_eq!(store.scavenge(&Scavenge::default()).await.unwrap().events, 3);
    let mut found = Vec::new();
    for read in opened {
        let events = collect(read).await.unwrap();
        found.push(events.iter().map(|event| event.revision.get()).collect::<Vec<_>>());
    }
    assert_eq!(found, [vec![3, 4], vec![4, 3], vec![3, 4], vec![3]]);
    assert_eq!(collect(of_another).await.unwrap(), [], "nothing of it was removed: it is read as it was");
}

/// Polls a future once.
pub(crate) async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context))).await
}

/// Opens the RocksDB database of a closed store.
pub(crate) fn raw(dir: &Path) -> DB {
    let names = DB::list_cf(&Options::default(), dir).unwrap();
    let families = names.into_iter().map(|name| ColumnFamilyDescriptor::new(name, Options::default()));
    DB::open_cf_descriptors(&Options::default(), dir, families).unwrap()
}

/// Changes the value under a key of a family of a closed store.
pub(crate) fn tamper(dir: &Path, family: &str, key: &[u8], change: impl FnOnce(Option<Vec<u8>>) -> Option<Vec<u8>>) {
    let db = raw(dir);
    let family = db.cf_handle(family).unwrap();
    match change(db.get_cf(family, key).unwrap()) {
        Some(value) => db.put_cf(family, key, value).unwrap(),
        None => db.delete_cf(family, key).unwrap(),
    }
}

/// Returns the hash of a unique key in a closed store: its key in the family `keys`.
pub(crate) fn key_hash(dir: &Path, key: &UniqueKey) -> [u8; KeyHash::BYTES] {
    let db = raw(dir);
    let secret = db.get_cf(db.cf_handle("meta").unwrap(), "key-secret").unwrap().unwrap();
    *KeySecret::from_bytes(secret.try_into().unwrap()).hash(key).as_bytes()
}

/// Returns the names and contents of the files in a directory.
pub(crate) fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entry = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
    };
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(entry).collect();
    files.sort();
    files
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
