//! Memory is bounded by what the options say, and not by how many streams there are: writes, reads, a scavenge, `verify` and a backup
//! are done over a store, and again when it has three times as many streams. What they need at the most, and what they leave behind, must stay the same.
//!
//! An allocator counts what our own code takes, and RocksDB says what it takes itself. What the system counts as resident is
//! measured by `cargo xtask bench --only scale`.
//!
//! A backup held 500 commits of any number of events at a time, and so 190 megabytes here, and 1,024 old values of rows.
//!
//! `ES_STREAMS=1000000` for long.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use es_core::model::{Category, Table};
use es_core::retention::{Note, Rule, Scavenge, Scope};
use es_core::{Commit, EventStore, EventType, LogRead, NewEvent, Repository, StreamId};
use es_rocksdb::{Backups, Durability, Memory, Options, ReadOnlyStore, RocksDbStore};
use es_tests::account::Account;
use es_tests::crash::number;
use futures::TryStreamExt;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// About how many accounts a commit tells something.
const COMMIT: u64 = 100;
/// With a third of them, all that is bounded is full: the ids that are remembered, caches, batches.
const FEWEST: u64 = 45_000;
/// What a backup takes at the most: the copies of a wave of events, and the heads of the streams that were copied last.
const BACKUP: usize = 64 << 20;
/// How many bytes a large row has.
const ROW: usize = 128 << 10;
/// By how many bytes the needs of some work may differ: threads come and go, buffers grow by doubling.
const SLACK: usize = 256 << 10;

const WRITE_BUFFER: usize = 4 << 20;
const BLOCK_CACHE: usize = 8 << 20;

fn options() -> Options {
    Options::new()
        .write_buffer_bytes(WRITE_BUFFER)
        .block_cache_bytes(BLOCK_CACHE)
        .durability(Durability::Buffered)
        .cached_heads(1_000)
        .tail_bytes(64 << 10)
        .read_batch(64, 64 << 10)
}

/// The name of an account, and of the notes about it.
fn name(number: u64) -> String {
    format!("{number:09}")
}

fn streams(number: u64) -> [StreamId; 2] {
    ["account", "note"].map(|category| StreamId::new(format!("{category}-{}", name(number))).expect("a name"))
}

/// One event for an account, and two for its notes.
fn told(commit: Commit, number: u64) -> Commit {
    let event = |name, content: &'static str| NewEvent::json(EventType::new(name).expect("a name"), content);
    let [account, notes] = streams(number);
    let commit = commit.append(account, event("account-opened", r#"{"owner":"ada"}"#));
    (0..2).fold(commit, |commit, _| commit.append(notes.clone(), event("noted", "null")))
}

/// What some work needed.
#[derive(Debug, PartialEq)]
struct Need {
    work: &'static str,
    /// In bytes, while it went on.
    peak: usize,
    /// In bytes, when it was done.
    kept: usize,
}

#[derive(Default)]
struct Needs(Vec<Need>);

impl Needs {
    async fn of<T>(&mut self, work: &'static str, does: impl Future<Output = T>) -> T {
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let done = does.await;
        let since = |bytes: usize| bytes.saturating_sub(before);
        self.0.push(Need { work, peak: since(MEMORY.peak_usage()), kept: since(MEMORY.current_usage()) });
        done
    }
}

/// Adds these streams, and does to the whole store what one does to stores.
async fn works(dir: &Path, new: Range<u64>) -> (Vec<Need>, Memory) {
    let (is_first, end) = (new.start == 0, new.end);
    let mut needs = Needs::default();
    let store = needs.of("open", options().open(dir)).await.expect("opened");
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    needs.of("append", append(&*shared, new)).await;
    needs.of("append to old streams", append(&*shared, 0..end)).await;
    needs.of("look for revisions", revisions(&*shared, end)).await;
    let accounts = Repository::<Account>::new(Arc::clone(&shared)).with_cache(500);
    needs.of("load", load(&accounts, end)).await;
    needs.of("read the log", read(&*shared, LogRead::all())).await;
    let category = Category::new("note").expect("a name");
    needs.of("read a category backward", read(&*shared, LogRead::category(category.clone()).backward())).await;
    let (notes, only_last) = (Scope::Category(category), Rule { max_count: Some(1), ..Rule::default() });
    shared.commit(Commit::set_rule(notes.clone(), only_last, Note::default())).await.expect("set");
    needs.of("read under a rule", read(&*shared, LogRead::all())).await;
    needs.of("scavenge", shared.scavenge(&Scavenge::default())).await.expect("scavenged");
    shared.commit(Commit::clear_rule(notes, Note::default())).await.expect("cleared");
    rows(&*shared, is_first).await;
    let rocksdb = settled(&store).await;
    drop((accounts, shared));
    store.close().await.expect("closed");

    let reader = needs.of("open for reading", ReadOnlyStore::open(dir)).await.expect("opened");
    assert_eq!(needs.of("list the streams", listed(&reader)).await, end);
    let verify = async { reader.verify(&mut |_, _, _| ()).expect("verified") };
    assert!(needs.of("verify", verify).await.is_sound());
    drop(reader);
    let backups = Backups::new(dir.with_extension("backups"));
    needs.of("back up", backups.create(dir, &mut |_, _, _| ())).await.expect("backed up");
    (needs.0, rocksdb)
}

/// What RocksDB takes, when what is written to files has gone there: meanwhile it writes on.
async fn settled(store: &RocksDbStore) -> Memory {
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
        let some = first..(first + COMMIT).min(numbers.end);
        store.commit(some.fold(Commit::new(), told)).await.expect("committed");
    }
}

/// Large rows, which come and go again: together more than a backup may take.
async fn rows(store: &dyn EventStore, are_there: bool) {
    let table = Table::new("large").expect("a name");
    for row in 0..2 * BACKUP / ROW {
        let key = row.to_be_bytes().to_vec();
        let commit = match are_there {
            true => Commit::new().put_row(table.clone(), key, vec![0; ROW]),
            false => Commit::new().delete_row(table.clone(), key),
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

/// How many streams of notes there are.
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
    let ((few, _), (many, rocksdb)) = runtime
        .expect("a runtime")
        .block_on(async { (works(&dir, 0..accounts / 3).await, works(&dir, accounts / 3..accounts).await) });
    let row = |(few, many): (&Need, &Need)| {
        format!("{:28} {:>10} {:>10} {:>10} {:>10}", few.work, few.peak, many.peak, few.kept, many.kept)
    };
    let rows: Vec<String> = few.iter().zip(&many).map(row).collect();
    let table = format!(
        "{:28} {:>10} {:>10} {:>10} {:>10}\n{}",
        "bytes",
        "peak",
        "at last",
        "kept",
        "at last",
        rows.join("\n")
    );
    println!("{table}");
    for (few, many) in few.iter().zip(&many) {
        let most = |few: usize| if many.work == "back up" { BACKUP } else { few + few / 4 + SLACK };
        assert!(
            few.peak <= most(few.peak) && many.peak <= most(few.peak) && many.kept <= most(few.kept),
            "{} grows:\n{table}",
            few.work
        );
    }
    let within = |bytes: u64, bound: usize| bytes > 0 && bytes <= bound as u64;
    // NOTE: RocksDB charges what is pinned even when the cache is full, and writes on while full buffers are written to files.
    println!("{rocksdb:?}");
    assert!(within(rocksdb.write_buffers, 2 * WRITE_BUFFER), "{rocksdb:?}");
    assert!(within(rocksdb.block_cache, BLOCK_CACHE + BLOCK_CACHE / 4), "{rocksdb:?}");
    assert!(within(rocksdb.open_files, 1 << 20), "{rocksdb:?}");
}
