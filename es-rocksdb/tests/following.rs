//! Reads that come to the newest events: from memory or from disk, the answers are the same.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

use std::collections::BTreeSet;
use std::sync::Arc;

use es_core::store::memory::MemoryStore;
use es_core::testing::ManualClock;
use es_core::{
    Category, Commit, EventStore, EventType, ExpectedRevision, LogRead, NewEvent, Position, Query, QueryItem, StreamId,
    Tag,
};
use es_rocksdb::Options;
use proptest::prelude::*;

fn position(number: u64) -> Position {
    Position::new(number).unwrap()
}

/// An event as a few small numbers: its stream, its type, its tags, the length of its payload.
type Few = (u8, u8, BTreeSet<u8>, usize);

fn stream(number: u8) -> StreamId {
    StreamId::of(["order", "product", "customer"][usize::from(number) % 3], number).unwrap()
}

fn event_type(number: u8) -> EventType {
    EventType::new(format!("type-{number}")).unwrap()
}

fn tag(number: u8) -> Tag {
    Tag::of("tag", number).unwrap()
}

fn commit(events: &[Few]) -> Commit {
    events.iter().fold(Commit::new(), |commit, (of, kind, tags, length)| {
        let event = NewEvent::json(event_type(*kind), vec![b'1'; *length]);
        commit.append(stream(*of), tags.iter().fold(event, |event, number| event.tagged(tag(*number))))
    })
}

fn few() -> impl Strategy<Value = Few> {
    (0..6u8, 0..3u8, prop::collection::btree_set(0..3u8, 0..3), 1..300usize)
}

fn query() -> impl Strategy<Value = Query> {
    let item = (prop::option::of(0..3usize), prop::option::of(0..3u8), prop::option::of(0..3u8)).prop_map(
        |(category, kind, label)| {
            let mut item = QueryItem::new();
            if let Some(category) = category {
                item = item.category(Category::new(["order", "product", "customer"][category]).unwrap());
            }
            if let Some(kind) = kind {
                item = item.event_type(event_type(kind));
            }
            if let Some(label) = label {
                item = item.tag(tag(label));
            }
            item
        },
    );
    prop::collection::vec(item, 1..3).prop_map(Query::any_of)
}

fn read() -> impl Strategy<Value = LogRead> {
    let (from, limit) = (prop::option::of(1..60u64), prop::option::of(0..20u64));
    (query(), from, limit, prop::bool::weighted(0.2)).prop_map(|(query, from, limit, is_backward)| {
        let mut read = LogRead::matching(query);
        if let Some(from) = from {
            read = read.from(position(from));
        }
        if let Some(limit) = limit {
            read = read.limit(limit);
        }
        if is_backward { read.backward() } else { read }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// A tail that holds nothing, one that holds a part, so that reads begin on disk and end in memory, and one that
    /// holds everything: each store answers as the one in memory does, which is the specification.
    #[test]
    fn every_read_gives_the_same_with_any_tail(
        commits in prop::collection::vec(prop::collection::vec(few(), 1..4), 1..25),
        reads in prop::collection::vec(read(), 1..30),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let clock = Arc::new(ManualClock::at("2016-07-04T00:00:00Z".parse().unwrap()));
            let specification = MemoryStore::with_clock(Arc::<ManualClock>::clone(&clock));
            let commits: Vec<_> = commits.iter().map(|events| commit(events)).collect();
            for commit in &commits {
                specification.commit(commit.clone()).await.unwrap();
            }
            for (tail, events) in [(0, 3), (8_000, 3), (8_000, 1024), (usize::MAX, 4)] {
                let folder = tempfile::tempdir().unwrap();
                let options = Options::new().tail_bytes(tail).read_batch(events, 4096);
                let clock = Arc::<ManualClock>::clone(&clock);
                let store = options.clock(clock).open(folder.path()).await.unwrap();
                for commit in &commits {
                    store.commit(commit.clone()).await.unwrap();
                }
                for read in &reads {
                    let mut expected = specification.read_log(read.clone()).await.unwrap();
                    let mut found = store.read_log(read.clone()).await.unwrap();
                    while let Some(event) = expected.next().await.unwrap() {
                        assert_eq!(found.next().await.unwrap(), Some(event), "{read:?}, tail {tail}");
                    }
                    assert_eq!(found.next().await.unwrap(), None, "{read:?}, tail {tail}");
                    assert_eq!(found.scanned(), expected.scanned(), "{read:?}, tail {tail}");
                }
                if tail == 0 {
                    assert_eq!(store.stats().log_events_from_memory, 0);
                }
                store.close().await.unwrap();
            }
        });
    }
}

/// Followers of every kind, while others write: each gets what it asks for in order and once, and nothing of it comes from
/// the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_live_is_served_from_memory() {
    const WRITERS: u8 = 3;
    const COMMITS: u64 = 100;
    let last = u64::from(WRITERS) * COMMITS;
    let folder = tempfile::tempdir().unwrap();
    let store = es_rocksdb::RocksDbStore::open(folder.path()).await.unwrap();
    let queries =
        [Query::all(), QueryItem::new().tag(tag(1)).into(), QueryItem::new().event_type(event_type(2)).into()];
    let followers: Vec<_> = queries
        .into_iter()
        .map(|query| {
            let store = store.clone();
            tokio::spawn(async move {
                let (mut watch, mut seen, mut events) = (store.watch_head(), None, Vec::new());
                while seen < Some(position(last)) {
                    watch.behind(seen).await.unwrap();
                    let mut read = store.read_log(LogRead::matching(query.clone()).after(seen)).await.unwrap();
                    while let Some(event) = read.next().await.unwrap() {
                        events.push(event);
                    }
                    seen = read.scanned();
                }
                events
            })
        })
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0..COMMITS {
                    let kind = u8::try_from(number % 3).unwrap();
                    let event = NewEvent::json(event_type(kind), "{}").tagged(tag(writer));
                    store.commit(Commit::to(&stream(writer), ExpectedRevision::Any, [event])).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let mut lengths = Vec::new();
    for follower in followers {
        let events = follower.await.unwrap();
        assert!(events.is_sorted_by(|this, next| this.position < next.position));
        lengths.push(events.len() as u64);
    }
    assert_eq!(lengths, [last, COMMITS, u64::from(WRITERS) * (COMMITS / 3)]);
    let stats = store.stats();
    assert_eq!((stats.log_events_from_memory, stats.log_events_from_disk), (lengths.iter().sum(), 0));
}

/// The tail must not answer for a store that is closed.
#[tokio::test]
async fn a_closed_store_gives_nothing_from_memory() {
    let folder = tempfile::tempdir().unwrap();
    let store = es_rocksdb::RocksDbStore::open(folder.path()).await.unwrap();
    store.commit(commit(&[(0, 0, BTreeSet::new(), 2)])).await.unwrap();
    let mut read = store.read_log(LogRead::all()).await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(read.next().await, Err(es_core::StoreError::Closed)));
}
