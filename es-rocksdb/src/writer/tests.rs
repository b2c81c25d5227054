//! Tests of the writer with a disk that fails, and of decisions within one batch.

use std::sync::atomic::{AtomicUsize, Ordering};

use es_core::__private::decide;
use es_core::model::{Table, UniqueKey};
use es_core::retention::{Note, Rule, Scope};
use es_core::store::EventStream;
use es_core::store::implement::{CommitDecision, Locks};
use es_core::{
    Commit, EventReader, EventStore, EventType, ExpectedRevision, LogRead, NewEvent, Position, Revision, StreamId,
    StreamRead,
};

use super::*;
use crate::open;
use crate::options::{self, Durability, Options};
use crate::retention::Operators;
use crate::store::RocksDbStore;

fn stream() -> StreamId {
    StreamId::new("order-1").unwrap()
}

fn event() -> NewEvent {
    NewEvent::json(EventType::new("placed").unwrap(), "{}")
}

fn to_stream(expected: ExpectedRevision) -> Commit {
    Commit::to(&stream(), expected, [event()])
}

/// Opens a store with a disk that writes `good` batches and then fails, either before or after it wrote the batch.
fn store_on_failing_disk(directory: &std::path::Path, good: usize, writes_before_it_fails: bool) -> RocksDbStore {
    let options = Options::new();
    let opened = open::open(directory, &options).unwrap();
    // The disk has its own reference to the database, which the test sets after the start.
    let database = Arc::new(std::sync::Mutex::new(None::<Arc<Database>>));
    let handle = Arc::clone(&database);
    let written = AtomicUsize::new(0);
    let disk: WriteToDisk = Box::new(move |batch| {
        let is_good = written.fetch_add(1, Ordering::Relaxed) < good;
        if is_good || writes_before_it_fails {
            let database = handle.lock().unwrap();
            database.as_ref().unwrap().raw().write_opt(batch, &options::write(Durability::Sync))?;
        }
        if is_good { Ok(()) } else { Err("no space left on device".into()) }
    });
    let store = RocksDbStore::start(opened, &options, Some(disk)).unwrap();
    *database.lock().unwrap() = store.database_for_test();
    store
}

fn stopped_reason(error: CommitError) -> String {
    match error {
        CommitError::Store(StoreError::Stopped { reason }) => reason,
        other => panic!("expected that the store has stopped, found {other:?}"),
    }
}

async fn positions(events: Result<EventStream, StoreError>) -> Vec<u64> {
    let events = events.unwrap().collect().await.unwrap();
    events.iter().map(|event| event.position.get()).collect()
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_written_and_everything_before_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_on_failing_disk(directory.path(), 1, false);
    store.commit(to_stream(ExpectedRevision::NoStream)).await.unwrap();

    let failed = to_stream(ExpectedRevision::Any);
    let reason = stopped_reason(store.commit(failed.clone()).await.unwrap_err());
    assert_eq!(reason, "a write failed: no space left on device");
    for commit in [failed.clone(), to_stream(ExpectedRevision::NoStream), Commit::new()] {
        assert_eq!(stopped_reason(store.commit(commit).await.unwrap_err()), reason);
    }

    assert_eq!(store.head().await.unwrap(), Some(Position::FIRST));
    assert_eq!(store.revision(&stream()).await.unwrap(), Some(Revision::FIRST));
    assert_eq!(positions(store.read_log(LogRead::all()).await).await, [1]);
    assert_eq!(store.stats().batches, 1);

    drop(store);
    let store = RocksDbStore::open(directory.path()).await.unwrap();
    let repeated = store.commit(failed).await.unwrap();
    assert_eq!((repeated.position(), repeated.repeated), (Position::new(2), false));
}

/// The worst case: the failed batch was written. No reader sees it, and a repeat of the commit after the store was
/// reopened returns that it was written.
#[tokio::test]
async fn a_failed_batch_that_was_written_is_not_visible_until_the_store_is_reopened() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_on_failing_disk(directory.path(), 1, true);
    store.commit(to_stream(ExpectedRevision::NoStream)).await.unwrap();
    let failed = to_stream(ExpectedRevision::Any);
    stopped_reason(store.commit(failed.clone()).await.unwrap_err());

    assert_eq!(store.head().await.unwrap(), Some(Position::FIRST));
    assert_eq!(positions(store.read_log(LogRead::all()).await).await, [1]);
    assert_eq!(positions(store.read_log(LogRead::all().backward()).await).await, [1]);
    assert_eq!(positions(store.read_log(LogRead::event_type(event().data.event_type)).await).await, [1]);
    assert_eq!(positions(store.read_log(LogRead::event_type(event().data.event_type).backward()).await).await, [1]);
    assert_eq!(positions(store.read_stream(StreamRead::new(stream())).await).await, [1]);
    assert_eq!(positions(store.read_stream(StreamRead::new(stream()).backward()).await).await, [1]);

    // Regression: these reads returned the batch.
    let table = Table::new("t").unwrap();
    let refused = [
        store.revision(&stream()).await.map(drop),
        store.find(failed.events()[0].1.data.id).await.map(drop),
        store.owner(&UniqueKey::new("scope", "value").unwrap()).await.map(drop),
        store.row(&table, b"k").await.map(drop),
        store.rows(es_core::store::RowScan::new(table, "", 1)).await.map(drop),
    ];
    for refused in refused {
        let reason = stopped_reason(refused.unwrap_err().into());
        assert_eq!(reason, "a write failed: no space left on device");
    }

    drop(store);
    let store = RocksDbStore::open(directory.path()).await.unwrap();
    let repeated = store.commit(failed).await.unwrap();
    assert_eq!((repeated.position(), repeated.repeated), (Position::new(2), true));
}

/// Between RocksDB's write and the publication, RocksDB returns data to a point read that is not in the log yet. The
/// point read waits until it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_point_read_returns_nothing_that_is_not_published() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new();
    let opened = open::open(directory.path(), &options).unwrap();
    let database = Arc::new(std::sync::Mutex::new(None::<Arc<Database>>));
    let handle = Arc::clone(&database);
    let (entered, mut has_entered) = tokio::sync::mpsc::unbounded_channel();
    let (proceed, may_continue) = std::sync::mpsc::channel::<()>();
    let disk: WriteToDisk = Box::new(move |batch| {
        let database = handle.lock().unwrap();
        database.as_ref().unwrap().raw().write_opt(batch, &options::write(Durability::Sync))?;
        entered.send(()).map_err(|_| "the test has ended")?;
        Ok(may_continue.recv()?)
    });
    let store = RocksDbStore::start(opened, &options, Some(disk)).unwrap();
    *database.lock().unwrap() = store.database_for_test();
    drop(database);

    let writing = tokio::spawn({
        let store = store.clone();
        async move { store.commit(to_stream(ExpectedRevision::NoStream)).await }
    });
    has_entered.recv().await.unwrap();
    assert_eq!(store.head().await.unwrap(), None);
    let reading = tokio::spawn({
        let store = store.clone();
        async move { (store.revision(&stream()).await.unwrap(), store.head().await.unwrap()) }
    });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(!reading.is_finished(), "it returned unpublished data");
    proceed.send(()).unwrap();
    assert_eq!(reading.await.unwrap(), (Some(Revision::FIRST), Some(Position::FIRST)));
    writing.await.unwrap().unwrap();
}

/// A commit can conflict with an earlier commit of the same batch. If the batch is not written, there is no conflict.
#[tokio::test]
async fn a_conflict_with_an_unwritten_commit_is_not_returned() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new();
    let opened = open::open(directory.path(), &options).unwrap();
    let (entered, mut has_entered) = tokio::sync::mpsc::unbounded_channel();
    let (proceed, may_continue) = std::sync::mpsc::channel::<bool>();
    // The first batch blocks the disk until the next one has filled. No batch is written.
    let disk: WriteToDisk = Box::new(move |_| {
        entered.send(()).map_err(|_| "the test has ended")?;
        if may_continue.recv()? { Ok(()) } else { Err("no space left on device".into()) }
    });
    let store = RocksDbStore::start(opened, &options, Some(disk)).unwrap();
    let commit = |commit| {
        tokio::spawn({
            let store = store.clone();
            async move { store.commit(commit).await }
        })
    };
    let first = commit(Commit::new().put_row(Table::new("t").unwrap(), "k", "v"));
    has_entered.recv().await.unwrap();
    let second = commit(to_stream(ExpectedRevision::NoStream));
    while store.queued_for_test() < 1 {
        tokio::task::yield_now().await;
    }
    let conflicting = commit(to_stream(ExpectedRevision::NoStream));
    while store.queued_for_test() < 2 {
        tokio::task::yield_now().await;
    }
    proceed.send(true).unwrap();
    has_entered.recv().await.unwrap();
    assert!(!conflicting.is_finished(), "it was answered before the batch was written");
    proceed.send(false).unwrap();
    first.await.unwrap().unwrap();
    stopped_reason(second.await.unwrap().unwrap_err());
    stopped_reason(conflicting.await.unwrap().unwrap_err());
}

#[tokio::test]
async fn commits_of_one_batch_see_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let database = open::open(directory.path(), &Options::new()).unwrap().database;
    let mut known = KnownHeads::new(1);
    let mut overlay = Overlay::new(LogEnd::default());
    let secret = es_core::store::implement::KeySecret::random();
    let key = UniqueKey::new("scope", "value").unwrap();
    let table = Table::new("t").unwrap();
    let now = "2016-07-04T00:00:00Z".parse().unwrap();
    let recent = RecentIds::new(event().data.id, 1);
    let mut run = |commit: &Commit| {
        let operators = Operators::load(&database).unwrap();
        let mut view = BatchView {
            database: &database,
            written: None,
            known: &mut known,
            recent: &recent,
            overlay: &overlay,
            operators: &operators,
            secret: &secret,
        };
        let decision = decide(&mut commit.clone().validated()?, &mut Locks::default(), &mut view, now)?;
        overlay.change(commit);
        if let CommitDecision::Write(committed) = decision.clone() {
            overlay.append(committed, &secret);
        }
        Ok::<_, CommitError>(decision)
    };

    let tag = es_core::model::Tag::new("a:1").unwrap();
    let events = [event().tagged(tag.clone()).claiming(key.clone()), event()];
    let first = Commit::to(&stream(), ExpectedRevision::NoStream, events).put_row(table.clone(), "k", "v");
    assert!(matches!(run(&first), Ok(CommitDecision::Write(_))));
    assert!(matches!(run(&first), Ok(CommitDecision::Repeat(repeat)) if repeat.position() == Position::new(2)));
    let other = StreamId::new("order-2").unwrap();
    let wrong = Commit::to(&stream(), ExpectedRevision::Exact(Revision::FIRST), [event()])
        .append_if_none(es_core::store::QueryItem::new().tag(tag), None)
        .append(other, event().claiming(key))
        .expect_row(table.clone(), "k", None);
    let Err(CommitError::Conflict(conflict)) = run(&wrong) else { panic!("expected a conflict") };
    assert_eq!(conflict.failed.len(), 4, "{conflict}");
    let next = Commit::to(&stream(), ExpectedRevision::Exact(Revision::new(1)), [event()]).expect_row(
        table,
        "k",
        Some("v".into()),
    );
    assert!(matches!(run(&next), Ok(CommitDecision::Write(next)) if next.position() == Position::new(3)));
}

/// Regression: a rule of `max_count` was applied to the written log only, without the earlier commits of the same
/// batch. The answer to an append condition depended on whether two commits shared a batch.
#[tokio::test]
async fn a_condition_gives_the_same_answer_in_one_batch_and_in_two() {
    let tag = es_core::model::Tag::new("a:1").unwrap();
    let rule = Rule { max_count: Some(1), ..Rule::default() };
    let begin = [
        Commit::set_rule(Scope::Stream(stream()), rule, Note::default()),
        Commit::to(&stream(), ExpectedRevision::NoStream, [event().tagged(tag.clone())]),
    ];
    let next = to_stream(ExpectedRevision::Any);
    let other = StreamId::new("order-2").unwrap();
    let conditional = Commit::to(&other, ExpectedRevision::NoStream, [event()])
        .append_if_none(es_core::store::QueryItem::new().tag(tag), None);
    let memory = es_core::store::memory::MemoryStore::new();
    for commit in begin.iter().chain([&next]) {
        memory.commit(commit.clone()).await.unwrap();
    }
    let expected = memory.commit(conditional.clone()).await.unwrap().position();
    for shares_batch in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let store = RocksDbStore::open(directory.path()).await.unwrap();
        for commit in &begin {
            store.commit(commit.clone()).await.unwrap();
        }
        let shared = Arc::clone(store.shared());
        let found = if shares_batch {
            let database = shared.database().unwrap();
            in_one_batch(&database, &shared.operators, [&next, &conditional]).pop().unwrap()
        } else {
            store.commit(next.clone()).await.unwrap();
            store.commit(conditional.clone()).await
        };
        assert_eq!(found.unwrap().position(), expected, "in one batch: {shares_batch}");
    }
}

/// Decides commits like the writer does for the commits of one batch.
fn in_one_batch<const N: usize>(
    database: &Database,
    operators: &Operators,
    commits: [&Commit; N],
) -> Vec<Result<Committed, CommitError>> {
    let end = open::end_of_log(database).unwrap();
    let (mut known, mut overlay) = (KnownHeads::new(1), Overlay::new(end));
    let secret = &es_core::store::implement::KeySecret::random();
    let recent = RecentIds::of_database(database).unwrap();
    let now = "2016-07-04T00:00:00Z".parse().unwrap();
    let decided = commits.map(|commit| {
        let mut commit = commit.clone().validated()?;
        let mut view = BatchView {
            database,
            written: end.head,
            known: &mut known,
            recent: &recent,
            overlay: &overlay,
            operators,
            secret,
        };
        let (CommitDecision::Write(committed) | CommitDecision::Repeat(committed)) =
            decide(&mut commit, &mut Locks::default(), &mut view, now)?;
        overlay.change(&commit);
        overlay.append(committed.clone(), secret);
        Ok(committed)
    });
    decided.into()
}

mod scavenging;
mod turns;
