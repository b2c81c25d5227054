//! Runs a test under many schedules, each with a store of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use es_core::{
    Commit, EventId, EventReader, EventStore, EventType, ExpectedRevision, NewEvent, RecordedEvent, StreamId,
    StreamRead,
};
use es_rocksdb_schedules::schedules::Ground;
use es_rocksdb_schedules::{Options, RocksDbStore};
use shuttle::future::block_on;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread;

use crate::disk::{SlowDisk, Turns};

/// The number of threads that commit at the same time.
pub(crate) const CALLERS: usize = 3;

/// A store of one schedule. It can be started again after it is closed.
#[derive(Clone)]
pub(crate) struct World {
    /// The number of the schedule.
    pub(crate) number: u64,
    pub(crate) disk: SlowDisk,
    ground: Ground,
}

impl World {
    /// Returns options with small runs, so that the index is written to tables all the time. In every second schedule,
    /// the newest events are read from the disk.
    pub(crate) fn small_runs(&self) -> Options {
        let options = Options::new().index_run(2, 1 << 20);
        if self.number.is_multiple_of(2) { options } else { options.tail_bytes(0).stream_buffer_bytes(0) }
    }

    /// Starts a store with these options and small segments. The disk fills a segment with zeros.
    pub(crate) fn start(&self, options: &Options) -> RocksDbStore {
        self.ground.start(&options.clone().log_segment_bytes(8 << 10)).expect("started")
    }
}

type Body = dyn Fn(&World, StreamId) + Send + Sync;

/// The number of schedules that share an index, because opening one takes longer than a schedule. Each schedule begins
/// with an empty index and an empty log.
const PER_INDEX: usize = 50;

/// Runs a test under many schedules. Returns how often the writing threads changed.
pub(crate) fn explore(body: impl Fn(&World, StreamId) + Send + Sync + 'static) -> Arc<Turns> {
    explore_some(schedules(), body)
}

/// Runs a test that writes many index tables under a third of the schedules, because each table takes milliseconds.
pub(crate) fn explore_tables(body: impl Fn(&World, StreamId) + Send + Sync + 'static) {
    explore_some(schedules() / 3, body);
}

/// Returns the number of schedules of a test.
fn schedules() -> usize {
    std::env::var("ES_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

fn explore_some(schedules: usize, body: impl Fn(&World, StreamId) + Send + Sync + 'static) -> Arc<Turns> {
    let (body, turns): (Arc<Body>, _) = (Arc::new(body), Arc::new(Turns::default()));
    for first in (0..schedules).step_by(PER_INDEX) {
        explore_part(first, PER_INDEX.min(schedules - first), &body, &turns);
    }
    turns
}

/// Runs a test under this number of schedules on one index. The numbers of the schedules begin with `first`.
fn explore_part(first: usize, schedules: usize, body: &Arc<Body>, turns: &Arc<Turns>) {
    let directory = directory();
    let index = Ground::open(directory.path(), Arc::new(SlowDisk::new(0, turns))).expect("it opens");
    let number = AtomicU64::new(first as u64);
    let (body, turns) = (Arc::clone(body), Arc::clone(turns));
    let run = Arc::new(move || {
        let number = number.fetch_add(1, Ordering::Relaxed);
        let disk = SlowDisk::new(number, &turns);
        let ground = index.renewed(Arc::new(disk.clone())).expect("the index is emptied");
        body(&World { number, disk, ground }, StreamId::new("order-1").expect("a name"));
    });
    let mut config = shuttle::Config::new();
    // RocksDB runs on the stacks of shuttle's threads.
    config.stack_size = 1 << 20;
    config.silence_warnings = true;
    let random = Arc::clone(&run);
    shuttle::Runner::new(RandomScheduler::new(schedules.div_ceil(2)), config.clone()).run(move || random());
    shuttle::Runner::new(PctScheduler::new(3, schedules / 2), config).run(move || run());
}

/// Creates a directory for the index: in memory if possible, because each table is synced.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

pub(crate) fn event() -> NewEvent {
    NewEvent::json(EventType::new("t").expect("a name"), "{}")
}

pub(crate) fn append(stream: &StreamId, expected: ExpectedRevision) -> Commit {
    Commit::to(stream, expected, [event()])
}

pub(crate) fn events(store: &RocksDbStore, stream: &StreamId) -> Vec<RecordedEvent> {
    block_on(async { store.read_stream(StreamRead::new(stream.clone())).await?.collect().await }).expect("read")
}

/// Starts the threads of the callers.
pub(crate) fn callers<T: Send + 'static>(
    store: &RocksDbStore,
    stream: &StreamId,
    call: impl Fn(usize, RocksDbStore, StreamId) -> T + Send + Sync + 'static,
) -> Vec<thread::JoinHandle<T>> {
    let call = Arc::new(call);
    let start = |caller| {
        let (call, store, stream) = (Arc::clone(&call), store.clone(), stream.clone());
        thread::spawn(move || call(caller, store, stream))
    };
    (0..CALLERS).map(start).collect()
}

pub(crate) fn joined<T>(threads: Vec<thread::JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().expect("no caller panics")).collect()
}

/// Opens the store again, and checks that the stream has exactly the acknowledged events.
pub(crate) fn assert_events(world: &World, stream: &StreamId, acknowledged: &[EventId]) {
    let store = world.start(&Options::new());
    let mut found: Vec<_> = events(&store, stream).iter().map(|event| event.data.id).collect();
    let mut expected = acknowledged.to_vec();
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "the stream does not have exactly the acknowledged events");
    block_on(store.close()).expect("closed");
}
