//! The cost of reads and appends in operations of RocksDB, which counts them per thread: a load is one ordered scan
//! without a look-up per event, and an append to a known stream asks RocksDB for nothing.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use common::{collect, event, open, stream, tag};
use es_core::{Commit, EventReader, EventStore, ExpectedRevision, LogRead, RecordedEvent, Revision, StreamRead};
use es_rocksdb::ReadOnlyStore;
use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};

/// The number of events, and the number of events with the tag.
const EVENTS: u64 = 1000;
const RARE: u64 = 7;

/// Accesses of blocks and filters of tables.
#[derive(Debug)]
struct Cost {
    blocks: u64,
    filters: u64,
}

/// Counts the operations of RocksDB on this thread.
struct Counted(PerfContext);

impl Counted {
    fn new() -> Self {
        set_perf_stats(PerfStatsLevel::EnableCount);
        let mut context = PerfContext::default();
        context.reset();
        Self(context)
    }

    fn cost(&self) -> Cost {
        let metric = |metric| self.0.metric(metric);
        Cost {
            blocks: metric(PerfMetric::BlockReadCount) + metric(PerfMetric::BlockCacheHitCount),
            filters: metric(PerfMetric::BloomSstHitCount) + metric(PerfMetric::BloomSstMissCount),
        }
    }
}

/// Without a runtime, a read runs synchronously on the thread that polls it.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("expected what is done on this thread, found a wait for another"),
    }
}

async fn filled(dir: &Path) {
    let store = open(dir).await;
    for commit in 0..10 {
        let events = (0..EVENTS / 10).map(|number| {
            let event = event("happened");
            if commit == 0 && number < RARE { event.tagged(tag("rare:1")) } else { event }
        });
        store.commit(Commit::to(&stream("order-1"), ExpectedRevision::Any, events)).await.unwrap();
    }
    store.compact().await.unwrap();
    store.close().await.unwrap();
}

#[test]
fn a_load_is_one_ordered_scan_and_a_filtered_read_touches_only_matching_events() {
    let dir = tempfile::tempdir().unwrap();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(filled(dir.path()));
    let store = at_once(ReadOnlyStore::open(dir.path())).unwrap();
    let counted = |read: &dyn Fn() -> Vec<RecordedEvent>| {
        let counted = Counted::new();
        (read().len() as u64, counted.cost())
    };

    let order = stream("order-1");
    let whole = || at_once(async { collect(store.read_stream(StreamRead::new(order.clone())).await).await.unwrap() });
    let (events, cost) = counted(&whole);
    assert_eq!(events, EVENTS);
    assert!((1..EVENTS / 10).contains(&cost.blocks) && cost.filters <= 1, "{cost:?}");

    let last = StreamRead::new(order.clone()).from(Revision::new(EVENTS - 1));
    let last = || at_once(async { collect(store.read_stream(last.clone()).await).await.unwrap() });
    let (events, cost) = counted(&last);
    assert_eq!(events, 1);
    assert!(cost.blocks <= 4 && cost.filters <= 1, "whatever is before it: {cost:?}");

    let rare = || at_once(async { collect(store.read_log(LogRead::tag(tag("rare:1"))).await).await.unwrap() });
    let (events, cost) = counted(&rare);
    assert_eq!(events, RARE);
    // The blocks of the index of the tag; the events are in the log.
    assert!(cost.blocks <= 10 && cost.filters <= RARE, "{cost:?}");
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on this thread, without a runtime, so that a lone commit is written on this thread.
fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let (mut future, waker) = (pin!(future), Arc::new(Unpark(thread::current())).into());
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn an_append_to_a_cached_stream_with_a_new_id_needs_no_look_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = wait_for(open(dir.path()));
    // The filter of a table of heads is asked for an unknown stream between two of its streams.
    for around in ["order-0", "order-3"] {
        let commit = Commit::to(&stream(around), ExpectedRevision::NoStream, [event("happened")]);
        wait_for(store.commit(commit)).unwrap();
    }
    wait_for(store.compact()).unwrap();
    let append = |expected| wait_for(store.commit(Commit::to(&stream("order-1"), expected, [event("happened")])));
    let mut last = 0;
    for _ in 0..30 {
        last = append(ExpectedRevision::Any).unwrap().events[0].revision.get();
    }
    let counted = Counted::new();
    for _ in 0..100 {
        last = append(ExpectedRevision::Exact(Revision::new(last))).unwrap().events[0].revision.get();
    }
    let cost = counted.cost();
    assert_eq!((cost.blocks, cost.filters), (0, 0), "{cost:?}");
    // Control: a commit to an unknown stream is looked up and counted.
    let other = Commit::to(&stream("order-2"), ExpectedRevision::NoStream, [event("happened")]);
    wait_for(store.commit(other)).unwrap();
    assert!(counted.cost().filters > 0, "{:?}", counted.cost());
    wait_for(store.close()).unwrap();
}
