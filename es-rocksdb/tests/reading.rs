//! Reads return the same as the memory store, with any size of batches.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::{collect, event, open, positions, stream, tag};
use es_core::model::{Category, Table};
use es_core::retention::{Note, Rule, Scavenge, Scope};
use es_core::store::memory::MemoryStore;
use es_core::store::{Direction, Row, RowScan};
use es_core::store::{Query, QueryItem};
use es_core::{
    Commit, EventReader, EventStore, EventType, ExpectedRevision, LogRead, NewEvent, Position, RecordedEvent, Revision,
    StreamRead,
};
use es_rocksdb::{Options, RocksDbStore};
use proptest::prelude::*;

fn names<T: Ord>(names: impl IntoIterator<Item = u8>, make: impl Fn(u8) -> T) -> BTreeSet<T> {
    names.into_iter().map(make).collect()
}

fn event_type(n: u8) -> EventType {
    EventType::new(format!("type-{n}")).unwrap()
}

/// Three categories: one without events, and one whose name is a prefix of another.
fn category(n: u8) -> Category {
    Category::new(["", "order", "order "][usize::from(n % 3)]).unwrap()
}

fn new_event() -> impl Strategy<Value = (u8, u8, NewEvent)> {
    (0u8..3, 0u8..3, 0u8..4, proptest::collection::vec(0u8..5, 0..4), 0usize..300).prop_map(
        |(kind, id, type_number, tags, length)| {
            let mut event = NewEvent::json(event_type(type_number), vec![b' '; length]);
            event.data.tags = names(tags, |n| tag(&format!("tag:{n}"))).into();
            (kind, id, event)
        },
    )
}

fn query() -> impl Strategy<Value = Query> {
    let list = |of: u8| proptest::collection::vec(0..of, 0..3);
    let item = (list(3), list(4), list(5)).prop_map(|(categories, types, tags)| QueryItem {
        categories: names(categories, category),
        event_types: names(types, event_type),
        tags: names(tags, |n| tag(&format!("tag:{n}"))).into(),
    });
    prop_oneof![
        1 => Just(Query::all()),
        8 => proptest::collection::vec(item, 0..4).prop_map(Query::any_of),
    ]
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Forward), Just(Direction::Backward)]
}

fn log_read() -> impl Strategy<Value = LogRead> {
    let from = proptest::option::of((1u64..70).prop_map(|n| Position::new(n).unwrap()));
    (query(), from, direction(), proptest::option::of(0u64..20)).prop_map(|(query, from, direction, limit)| LogRead {
        query,
        from,
        direction,
        limit,
    })
}

fn stream_read() -> impl Strategy<Value = StreamRead> {
    let from = proptest::option::of((0u64..12).prop_map(Revision::new));
    (0u8..3, 0u8..4, from, direction(), proptest::option::of(0u64..8)).prop_map(|(kind, id, from, direction, limit)| {
        StreamRead { stream: stream_of(kind, id), from, direction, limit }
    })
}

fn stream_of(kind: u8, id: u8) -> es_core::StreamId {
    stream(&format!("{}-{id}", category(kind)))
}

async fn same_log(store: &RocksDbStore, memory: &MemoryStore, read: LogRead) {
    let mut expected = memory.read_log(read.clone()).await.unwrap();
    let mut found = store.read_log(read.clone()).await.unwrap();
    while let Some(event) = expected.next().await.unwrap() {
        let same =
            found.next().await.unwrap().unwrap_or_else(|| panic!("expected {event:?} from {read:?}, found none"));
        assert_eq!(
            (same.position, &same.stream, &same.data.id),
            (event.position, &event.stream, &event.data.id),
            "{read:?}"
        );
        let scanned = found.scanned().unwrap();
        assert!(if read.direction == Direction::Forward { scanned >= same.position } else { scanned <= same.position });
    }
    assert_eq!(found.next().await.unwrap(), None, "{read:?}");
    assert_eq!(found.scanned(), expected.scanned(), "{read:?}");
}

async fn same_stream(store: &RocksDbStore, memory: &MemoryStore, read: StreamRead) {
    let expected = memory.read_stream(read.clone()).await.unwrap().collect().await.unwrap();
    let found = store.read_stream(read.clone()).await.unwrap().collect().await.unwrap();
    assert_eq!(positions(&found), positions(&expected), "{read:?}");
}

async fn same_conditions(store: &RocksDbStore, memory: &MemoryStore, read: &LogRead) {
    let check = || Commit::new().append_if_none(read.query.clone(), read.from);
    let (expected, found) = (memory.commit(check()).await, store.commit(check()).await);
    assert_eq!(found.map_err(|error| error.to_string()), expected.map_err(|error| error.to_string()), "{read:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn reads_return_the_same_as_the_memory_store(
        events in proptest::collection::vec(new_event(), 0..60),
        log_reads in proptest::collection::vec(log_read(), 20),
        stream_reads in proptest::collection::vec(stream_read(), 20),
        batch in prop_oneof![Just((1, 1)), Just((3, 1_000_000)), Just((1000, 400)), Just((1024, 4 << 20))],
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let store = Options::new().read_batch(batch.0, batch.1).open(dir.path()).await.unwrap();
            let memory = MemoryStore::new();
            for (kind, id, event) in events {
                let commit = Commit::to(&stream_of(kind, id), ExpectedRevision::Any, [event]);
                let (one, other) = (store.commit(commit.clone()).await.unwrap(), memory.commit(commit).await.unwrap());
                assert_eq!((one.position(), one.events[0].revision), (other.position(), other.events[0].revision));
            }
            for read in log_reads {
                same_conditions(&store, &memory, &read).await;
                same_log(&store, &memory, read).await;
            }
            for read in stream_reads {
                same_stream(&store, &memory, read).await;
            }
        });
    }

    #[test]
    fn rows_are_the_same_as_in_the_memory_store(
        keys in proptest::collection::btree_set(proptest::collection::vec(0u8..3, 1..4), 0..20),
        scans in proptest::collection::vec(
            (
                proptest::collection::vec(0u8..3, 0..3),
                proptest::option::of(proptest::collection::vec(0u8..3, 0..4)),
                direction(),
                0usize..25,
            ),
            30,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let (store, memory) = (open(dir.path()).await, MemoryStore::new());
            let table = Table::new("views").unwrap();
            let mut commit = Commit::new()
                .put_row(Table::new("view").unwrap(), "x", "")
                .put_row(Table::new("views ").unwrap(), "x", "");
            for key in keys {
                commit = commit.put_row(table.clone(), key.clone(), key);
            }
            store.commit(commit.clone()).await.unwrap();
            memory.commit(commit).await.unwrap();
            for (prefix, after, direction, limit) in scans {
                let (prefix, after) = (prefix.into(), after.map(Into::into));
                let scan = RowScan { table: table.clone(), prefix, after, direction, limit };
                let expected: Vec<Row> = memory.rows(scan.clone()).await.unwrap();
                assert_eq!(store.rows(scan.clone()).await.unwrap(), expected, "{scan:?}");
            }
        });
    }
}

/// An open read is a snapshot without later events, forward and backward.
#[tokio::test]
async fn an_open_read_does_not_return_later_events() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().read_batch(2, 1 << 20).open(dir.path()).await.unwrap();
    let append = || Commit::to(&stream("order-1"), ExpectedRevision::Any, [event("happened").tagged(tag("a:1"))]);
    for _ in 0..5 {
        store.commit(append()).await.unwrap();
    }
    let mut open = Vec::new();
    for read in [LogRead::all(), LogRead::tag(tag("a:1"))] {
        open.push((store.read_log(read.clone()).await.unwrap(), false));
        open.push((store.read_log(read.backward()).await.unwrap(), true));
    }
    let read = StreamRead::new(stream("order-1"));
    open.push((store.read_stream(read.clone()).await.unwrap(), false));
    open.push((store.read_stream(read.backward()).await.unwrap(), true));
    for _ in 0..500 {
        store.commit(append()).await.unwrap();
    }
    for (events, is_backward) in open {
        let mut read = positions(&events.collect().await.unwrap());
        if is_backward {
            read.reverse();
        }
        assert_eq!(read, [1, 2, 3, 4, 5]);
    }
}

/// A batch is returned in several chunks: no event is lost between them, in either direction, and each reports the
/// progress of the read.
#[tokio::test]
async fn a_long_read_returns_all_events_in_order_and_reports_its_progress() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().tail_bytes(0).open(dir.path()).await.unwrap();
    let last = 12_000;
    let commit = |n: u64| {
        let events = (0..500).map(|_| event("happened"));
        Commit::to(&stream(&format!("order-{}", n % 3)), ExpectedRevision::Any, events.collect::<Vec<_>>())
    };
    for n in 0..last / 500 {
        store.commit(commit(n)).await.unwrap();
    }
    for limit in [None, Some(1), Some(513), Some(7_777), Some(last)] {
        for direction in [Direction::Forward, Direction::Backward] {
            let read = LogRead { limit, direction, ..LogRead::all() };
            let mut events = store.read_log(read).await.unwrap();
            let mut found = Vec::new();
            while let Some(batch) = events.next_batch().await.unwrap() {
                found.extend(positions(&batch));
                assert_eq!(events.scanned().map(Position::get), found.last().copied());
            }
            let expected: Vec<u64> = match direction {
                Direction::Forward => (1..=last).take(limit.unwrap_or(last) as usize).collect(),
                Direction::Backward => (1..=last).rev().take(limit.unwrap_or(last) as usize).collect(),
            };
            assert_eq!(found, expected);
        }
    }
    assert_eq!(store.stats().log_events_from_memory, 0);
}

/// Creates a store with 12,000 events in the streams `order-0`, `order-1` and `order-2`, alternating every 500, none of
/// them in memory.
async fn three_streams(dir: &Path) -> RocksDbStore {
    let store = Options::new().tail_bytes(0).open(dir).await.unwrap();
    for n in 0..24 {
        let events = (0..500).map(|_| event("happened")).collect::<Vec<_>>();
        let to = stream(&format!("order-{}", n % 3));
        store.commit(Commit::to(&to, ExpectedRevision::Any, events)).await.unwrap();
    }
    store
}

/// The first visible revision of `order-0` in tests with hidden events.
const SHOWN_FROM: u64 = 2000;

fn hide() -> Commit {
    let rule = Rule { truncate_before: Some(Revision::new(SHOWN_FROM)), ..Rule::default() };
    Commit::set_rule(Scope::Stream(stream("order-0")), rule, Note::default())
}

fn is_shown(event: &RecordedEvent) -> bool {
    !event.is_removed() && (event.stream != "order-0" || event.revision.get() >= SHOWN_FROM)
}

/// A read of the whole log fetches ahead. A rule or a scavenge during the read causes no error and no gap, and no
/// tombstone is returned as an event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_read_continues_during_rules_and_scavenges() {
    let dir = tempfile::tempdir().unwrap();
    let store = three_streams(dir.path()).await;
    let before = collect(store.read_log(LogRead::all()).await).await.unwrap();
    let mut reads = Vec::new();
    for direction in [Direction::Forward, Direction::Backward] {
        let mut of_log = store.read_log(LogRead { direction, ..LogRead::all() }).await.unwrap();
        let mut of_stream =
            store.read_stream(StreamRead { direction, ..StreamRead::new(stream("order-0")) }).await.unwrap();
        let first = (of_log.next_batch().await.unwrap().unwrap(), of_stream.next_batch().await.unwrap().unwrap());
        reads.push((direction, first, of_log, of_stream));
    }
    store.commit(hide()).await.unwrap();
    let report = store.scavenge(&Scavenge::default()).await.unwrap();
    assert_eq!(report.events, SHOWN_FROM);
    for (direction, (mut log, mut one), of_log, of_stream) in reads {
        log.extend(collect(Ok(of_log)).await.unwrap());
        one.extend(collect(Ok(of_stream)).await.unwrap());
        if direction == Direction::Backward {
            log.reverse();
            one.reverse();
        }
        assert!(log.iter().chain(&one).all(|event| !event.is_removed()));
        assert!(log.is_sorted_by(|one, other| one.position < other.position));
        assert!(one.is_sorted_by(|one, other| one.revision < other.revision));
        let expected: Vec<_> = before.iter().filter(|event| is_shown(event)).cloned().collect();
        assert!(log.into_iter().filter(is_shown).eq(expected.iter().cloned()), "{direction:?}");
        let of_one = expected.into_iter().filter(|event| event.stream == "order-0");
        assert!(one.into_iter().filter(is_shown).eq(of_one), "{direction:?}");
    }
}

/// Regression: an open read returned no event after a scavenge had removed all events of its snapshot, although the
/// stream always had two visible events. A repository concluded that the aggregate did not exist. `tests/schedules`
/// found it.
#[tokio::test]
async fn a_stream_that_always_has_events_is_never_read_as_empty() {
    let dir = tempfile::tempdir().unwrap();
    common::check_reads_over_a_scavenge(&open(dir.path()).await).await;
}

/// Hidden events, and later removed ones, are neither returned nor counted, also after the rule is cleared.
#[tokio::test]
async fn limits_count_visible_events_and_no_removed_ones() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = three_streams(dir.path()).await;
    store.commit(hide()).await.unwrap();
    for step in ["hidden", "removed", "the rule is gone", "reopened"] {
        match step {
            "removed" => drop(store.scavenge(&Scavenge::default()).await.unwrap()),
            "the rule is gone" => {
                let clear = Commit::clear_rule(Scope::Stream(stream("order-0")), Note::default());
                store.commit(clear).await.unwrap();
            }
            "reopened" => {
                store.close().await.unwrap();
                store = Options::new().tail_bytes(0).open(dir.path()).await.unwrap();
            }
            _ => {}
        }
        let shown = collect(store.read_log(LogRead::all()).await).await.unwrap();
        assert!(shown.iter().all(is_shown), "{step}");
        let orders = shown.iter().filter(|event| event.stream.category_str() == "order").count() as u64;
        assert_eq!(orders, 12_000 - SHOWN_FROM, "{step}");
        for limit in [None, Some(1), Some(513), Some(7_777), Some(10_000)] {
            let expected = limit.map_or(shown.len(), |limit| limit as usize);
            let read = LogRead { limit, ..LogRead::all() };
            let found = collect(store.read_log(read).await).await.unwrap();
            assert!(found.iter().eq(shown.iter().take(expected)), "{step}, limit {limit:?}, {} found", found.len());
            let read = LogRead { limit, direction: Direction::Backward, ..LogRead::all() };
            let found = collect(store.read_log(read).await).await.unwrap();
            assert!(found.iter().eq(shown.iter().rev().take(expected)), "{step}, limit {limit:?}, backward");
        }
    }
}

/// Two tags that only the last events share: the search reports its progress.
#[tokio::test]
async fn a_long_search_reports_its_progress() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let (even, odd) = (tag("even"), tag("odd"));
    let mut events: Vec<_> =
        (0..40_000).map(|n| event("n").tagged(if n % 2 == 0 { even.clone() } else { odd.clone() })).collect();
    events.push(event("n").tagged(even.clone()).tagged(odd.clone()));
    store.commit(Commit::to(&stream("numbers-1"), ExpectedRevision::Any, events)).await.unwrap();
    let both = QueryItem::new().tag(even).tag(odd);

    let mut forward = store.read_log(LogRead::matching(both.clone())).await.unwrap();
    assert_eq!(forward.next().await.unwrap().map(|event| event.position), Position::new(40_001));
    assert_eq!(forward.next().await.unwrap(), None);
    let mut backward = store.read_log(LogRead::matching(both.clone()).backward()).await.unwrap();
    assert_eq!(backward.next().await.unwrap().map(|event| event.position), Position::new(40_001));
    let paused = backward.scanned().unwrap();
    assert!(paused > Position::FIRST, "a search of 40,000 steps was done in one batch");
    assert_eq!(backward.next().await.unwrap(), None);
    assert_eq!(backward.scanned(), Some(Position::FIRST));

    let condition = |after| store.commit(Commit::new().append_if_none(both.clone(), Position::new(after)));
    assert!(condition(1).await.is_err());
    assert!(condition(40_001).await.is_ok());
}

/// Reads from files return the same as reads from memory, also with the smallest cache.
#[tokio::test]
async fn events_outside_of_memory_are_read_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let small = || Options::new().block_cache_bytes(0).write_buffer_bytes(1).max_open_files(1);
    let store = small().open(dir.path()).await.unwrap();
    let table = Table::new("rows").unwrap();
    let mut ids = Vec::new();
    for n in 0..300u32 {
        let name = stream(&format!("order-{}", n % 30));
        let mut large = event("happened").tagged(tag(&format!("n:{}", n % 7)));
        large.data.payload = vec![n as u8; 5000].into();
        let commit =
            Commit::to(&name, ExpectedRevision::Any, [large]).put_row(table.clone(), n.to_be_bytes().to_vec(), "v");
        ids.push(store.commit(commit).await.unwrap().events[0].data.id);
    }
    store.close().await.unwrap();
    assert!(common::files(dir.path()).iter().any(|(name, _)| name.ends_with(".sst")), "nothing left memory");

    let store = small().open(dir.path()).await.unwrap();
    for (n, id) in (0u32..).zip(ids) {
        let event = store.find(id).await.unwrap().unwrap();
        assert_eq!((event.position.get(), &event.data.payload[..]), (u64::from(n) + 1, &vec![n as u8; 5000][..]));
        assert_eq!(store.row(&table, &n.to_be_bytes()).await.unwrap(), Some("v".into()));
        assert_eq!(store.row(&table, &(n + 1000).to_be_bytes()).await.unwrap(), None);
    }
    for n in 0..30 {
        let name = stream(&format!("order-{n}"));
        assert_eq!(store.revision(&name).await.unwrap(), Some(Revision::new(9)));
        let events = store.read_stream(StreamRead::new(name).backward()).await.unwrap().collect().await.unwrap();
        assert_eq!(positions(&events), (0..10u64).rev().map(|round| round * 30 + n + 1).collect::<Vec<_>>());
    }
    let tagged = store.read_log(LogRead::tag(tag("n:3"))).await.unwrap().collect().await.unwrap();
    assert_eq!(positions(&tagged), (1..=300).filter(|position| (position - 1) % 7 == 3).collect::<Vec<_>>());
    assert_eq!(store.rows(RowScan::new(table, "", 1000)).await.unwrap().len(), 300);
}
