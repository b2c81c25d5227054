//! Memory use is bounded by the options, independent of the number of streams.
//!
//! The test runs writes, reads, a scavenge, `verify` and a backup on a store, and again after it has three times as
//! many streams. The peak memory of each operation, and the memory that it keeps, must not grow. A counting allocator
//! measures the memory of Rust code, and RocksDB reports its own. `cargo xtask bench --only scale` measures the
//! resident set.
//!
//! `ES_STREAMS=1000000` runs the long form.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use es_core::model::{Category, Table};
use es_core::retention::{Note, Rule, Scavenge, Scope};
use es_core::{Commit, EventReader, EventStore, EventType, LogRead, NewEvent, Repository, StreamId};
use es_rocksdb::{Backups, Durability, Memory, Options, ReadOnlyStore, RocksDbStore};
use es_tests::account::Account;
use es_tests::crash::number;
use futures::TryStreamExt;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Accounts per commit.
const COMMIT: u64 = 100;
/// Minimum number of streams. A third of them fills everything that is bounded: remembered ids, caches and batches.
const FEWEST: u64 = 45_000;
/// Maximum memory of a backup: the copies of a group of events, and the heads of the streams that were copied last.
const BACKUP: usize = 64 << 20;
/// Bytes of a large row.
const ROW: usize = 128 << 10;
/// Tolerance in bytes: that of up to five runs of the index, which are full at other times in the second round. Threads
/// start and stop, and buffers grow by doubling. It is less than 20 bytes for each further stream.
const SLACK: usize = 512 << 10;

const WRITE_BUFFER: usize = 4 << 20;
const BLOCK_CACHE: usize = 8 << 20;

fn options() -> Options {
    Options::new()
        .write_buffer_bytes(WRITE_BUFFER)
        .block_cache_bytes(BLOCK_CACHE)
        .durability(Durability::Buffered)
        .tail_bytes(64 << 10)
        .index_run(512, 512 << 10)
        .log_segment_bytes(1 << 20)
        .stream_buffer_bytes(256 << 10)
        .read_batch(64, 64 << 10)
}

/// Returns the name of an account and of its notes.
fn name(number: u64) -> String {
    format!("{number:09}")
}

fn streams(number: u64) -> [StreamId; 2] {
    ["account", "note"].map(|category| StreamId::new(format!("{category}-{}", name(number))).expect("a name"))
}

/// Adds one event for an account and two for its notes to a commit.
fn append_account(commit: Commit, number: u64) -> Commit {
    let event = |name, content: &'static str| NewEvent::json(EventType::new(name).expect("a name"), content);
    let [account, notes] = streams(number);
    let commit = commit.append(account, event("account-opened", r#"{"owner":"ada"}"#));
    (0..2).fold(commit, |commit, _| commit.append(notes.clone(), event("noted", "null")))
}

/// The memory use of an operation.
#[derive(Debug, PartialEq)]
struct Usage {
    operation: &'static str,
    /// Peak additional bytes during the operation.
    peak: usize,
    /// Additional bytes after the operation.
    kept: usize,
}

#[derive(Default)]
struct Usages(Vec<Usage>);

impl Usages {
    async fn measure<T>(&mut self, operation: &'static str, future: impl Future<Output = T>) -> T {
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let output = future.await;
        let added = |bytes: usize| bytes.saturating_sub(before);
        self.0.push(Usage { operation, peak: added(MEMORY.peak_usage()), kept: added(MEMORY.current_usage()) });
        output
    }
}

/// Adds these streams and runs the operations on the whole store.
async fn run_operations(dir: &Path, new: Range<u64>) -> (Vec<Usage>, Memory) {
    let (is_first, end) = (new.start == 0, new.end);
    let mut usages = Usages::default();
    let store = usages.measure("open", options().open(dir)).await.expect("opened");
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    usages.measure("append", append(&*shared, new)).await;
    usages.measure("append to old streams", append(&*shared, 0..end)).await;
    usages.measure("look for revisions", revisions(&*shared, end)).await;
    let accounts = Repository::<Account>::new(Arc::clone(&shared)).with_cache(500);
    usages.measure("load", load(&accounts, end)).await;
    usages.measure("read the log", read(&*shared, LogRead::all())).await;
    let category = Category::new("note").expect("a name");
    usages.measure("read a category backward", read(&*shared, LogRead::category(category.clone()).backward())).await;
    let (notes, only_last) = (Scope::Category(category), Rule { max_count: Some(1), ..Rule::default() });
    shared.commit(Commit::set_rule(notes.clone(), only_last, Note::default())).await.expect("set");
    usages.measure("read under a rule", read(&*shared, LogRead::all())).await;
    usages.measure("scavenge", shared.scavenge(&Scavenge::default())).await.expect("scavenged");
    shared.commit(Commit::clear_rule(notes, Note::default())).await.expect("cleared");
    rows(&*shared, if is_first { RowChange::Put } else { RowChange::Delete }).await;
    let rocksdb = memory_after_flushes(&store).await;
    drop((accounts, shared));
    store.close().await.expect("closed");

    let reader = usages.measure("open for reading", ReadOnlyStore::open(dir)).await.expect("opened");
    assert_eq!(usages.measure("list the streams", listed(&reader)).await, end);
    let verify = async { reader.verify(&mut |_, _, _| ()).expect("verified") };
    assert!(usages.measure("verify", verify).await.is_sound());
    drop(reader);
    let backups = Backups::new(dir.with_extension("backups"));
    usages.measure("back up", backups.create(dir, &mut |_, _, _| ())).await.expect("backed up");
    (usages.0, rocksdb)
}

/// Returns the memory of RocksDB after the pending flushes of write buffers.
async fn memory_after_flushes(store: &RocksDbStore) -> Memory {
    for _ in 0..300 {
        let memory = store.memory().await.expect("open");
        if memory.write_buffers <= WRITE_BUFFER as u64 {
            return memory;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("expected write buffers of at most {WRITE_BUFFER} bytes, found {:?}", store.memory().await);
}

async fn append(store: &dyn EventStore, numbers: Range<u64>) {
    for first in numbers.clone().step_by(usize::try_from(COMMIT).expect("small")) {
        let batch = first..(first + COMMIT).min(numbers.end);
        store.commit(batch.fold(Commit::new(), append_account)).await.expect("committed");
    }
}

/// A change of the large rows.
#[derive(Debug, Clone, Copy)]
enum RowChange {
    Put,
    Delete,
}

/// Puts or deletes large rows, in total more than the maximum memory of a backup.
async fn rows(store: &dyn EventStore, change: RowChange) {
    let table = Table::new("large").expect("a name");
    for row in 0..2 * BACKUP / ROW {
        let key = row.to_be_bytes().to_vec();
        let commit = match change {
            RowChange::Put => Commit::new().put_row(table.clone(), key, vec![0; ROW]),
            RowChange::Delete => Commit::new().delete_row(table.clone(), key),
        };
        store.commit(commit).await.expect("committed");
    }
}

async fn revisions(store: &dyn EventStore, end: u64) {
    for number in 0..end {
        assert!(store.revision(&streams(number)[1]).await.expect("read").is_some());
    }
}

async fn load(accounts: &Repository<Account>, end: u64) {
    for number in 0..end {
        assert!(accounts.load(&name(number)).await.expect("loaded").revision.is_some());
    }
}

async fn read(store: &dyn EventStore, read: LogRead) {
    let events = store.read_log(read).await.expect("read").into_stream();
    let count = events.try_fold(0_u64, async |count, _| Ok(count + 1)).await.expect("read");
    assert!(count > 0);
}

/// Returns the number of streams of notes.
async fn listed(reader: &ReadOnlyStore) -> u64 {
    let (mut after, mut count) = (None, 0);
    loop {
        let streams = reader.streams("note-", after.as_ref(), 1_000).await.expect("listed");
        let Some((last, _)) = streams.last() else { return count };
        after = Some(last.clone());
        count += streams.len() as u64;
    }
}

#[test]
fn memory_does_not_grow_with_the_number_of_streams() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().join("store");
    let accounts = number("ES_STREAMS", FEWEST).max(FEWEST) / 2;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    let ((few, _), (many, rocksdb)) = runtime.expect("a runtime").block_on(async {
        (run_operations(&dir, 0..accounts / 3).await, run_operations(&dir, accounts / 3..accounts).await)
    });
    let row = |(few, many): (&Usage, &Usage)| {
        format!("{:28} {:>10} {:>10} {:>10} {:>10}", few.operation, few.peak, many.peak, few.kept, many.kept)
    };
    let rows: Vec<String> = few.iter().zip(&many).map(row).collect();
    let table = format!(
        "{:28} {:>10} {:>10} {:>10} {:>10}\n{}",
        "bytes",
        "peak, few",
        "peak, many",
        "kept, few",
        "kept, many",
        rows.join("\n")
    );
    println!("{table}");
    for (few, many) in few.iter().zip(&many) {
        let limit = |few: usize| if many.operation == "back up" { BACKUP } else { few + few / 4 + SLACK };
        assert!(
            few.peak <= limit(few.peak) && many.peak <= limit(few.peak) && many.kept <= limit(few.kept),
            "the memory of {} grows:\n{table}",
            few.operation
        );
    }
    let within = |bytes: u64, bound: usize| bytes > 0 && bytes <= bound as u64;
    // RocksDB exceeds the cache size by pinned blocks, and accepts writes while full write buffers are flushed.
    println!("{rocksdb:?}");
    assert!(within(rocksdb.write_buffers, 2 * WRITE_BUFFER), "{rocksdb:?}");
    assert!(within(rocksdb.block_cache, BLOCK_CACHE + BLOCK_CACHE / 4), "{rocksdb:?}");
    assert!(within(rocksdb.open_files, 1 << 20), "{rocksdb:?}");
}
