//! Tests of the thread on which a commit is written, and of a panic there.

use es_core::EventReader;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;

use super::*;

/// Opens a store whose disk calls `before` before each write.
fn store_with(directory: &std::path::Path, mut before: impl FnMut() + Send + 'static) -> RocksDbStore {
    let options = Options::new();
    let opened = open::open(directory, &options).unwrap();
    let database = Arc::new(Mutex::new(None::<Arc<Database>>));
    let handle = Arc::clone(&database);
    let disk: WriteToDisk = Box::new(move |batch| {
        before();
        let database = handle.lock().unwrap();
        Ok(database.as_ref().unwrap().raw().write_opt(batch, &options::write(Durability::Sync))?)
    });
    let store = RocksDbStore::start(opened, &options, Some(disk)).unwrap();
    *database.lock().unwrap() = store.database_for_test();
    store
}

type LastThread = Arc<Mutex<Option<(ThreadId, String)>>>;

/// Opens a store. Also returns the id and the name of the thread of its last write.
fn store_with_last_thread(directory: &std::path::Path) -> (RocksDbStore, LastThread) {
    let last = LastThread::default();
    let store = store_with(directory, {
        let last = Arc::clone(&last);
        move || {
            let thread = std::thread::current();
            *last.lock().unwrap() = Some((thread.id(), thread.name().unwrap_or_default().to_owned()));
        }
    });
    (store, last)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_commit_of_a_worker_is_written_on_its_thread() {
    let directory = tempfile::tempdir().unwrap();
    let (store, last) = store_with_last_thread(directory.path());
    // In a task, because the test itself does not run on a worker.
    let task = tokio::spawn(async move {
        for _ in 0..3 {
            store.commit(to_stream(ExpectedRevision::Any)).await.unwrap();
            let (thread, _) = last.lock().unwrap().take().unwrap();
            assert_eq!(thread, std::thread::current().id());
        }
    });
    task.await.unwrap();
}

/// `block_in_place` panics if no other thread can run the other tasks.
#[test]
fn the_writer_thread_writes_if_the_caller_must_not_block() {
    let directory = tempfile::tempdir().unwrap();
    let (store, last) = store_with_last_thread(directory.path());
    let commit = || async { store.commit(to_stream(ExpectedRevision::Any)).await.unwrap() };
    let assert_handed_over = || {
        let (_, name) = last.lock().unwrap().take().unwrap();
        assert_eq!(name, "es-rocksdb-writer");
    };
    let one = tokio::runtime::Builder::new_current_thread().build().unwrap();
    one.block_on(commit());
    assert_handed_over();
    let many = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    many.block_on(commit());
    assert_handed_over();
    many.block_on(tokio::task::LocalSet::new().run_until(commit()));
    assert_handed_over();
    let own = store.clone();
    let local = tokio::task::LocalSet::new();
    let task = local.spawn_local(async move { own.commit(to_stream(ExpectedRevision::Any)).await.unwrap() });
    many.block_on(local.run_until(task)).unwrap();
    assert_handed_over();
}

#[test]
fn without_a_runtime_a_lone_commit_is_written_on_the_polling_thread() {
    let directory = tempfile::tempdir().unwrap();
    let (store, last) = store_with_last_thread(directory.path());
    let mut commit = pin!(store.commit(to_stream(ExpectedRevision::NoStream)));
    let Poll::Ready(committed) = commit.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("expected that the commit is ready, found that it waits")
    };
    assert_eq!(committed.unwrap().position(), Some(Position::FIRST));
    assert_eq!(last.lock().unwrap().take().unwrap().0, std::thread::current().id());
}

/// While a caller writes its own commit, others are queued. Then the writer thread writes all of them at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_are_queued_during_a_write_share_the_next_one() {
    const OTHERS: usize = 5;
    let directory = tempfile::tempdir().unwrap();
    let (entered, mut has_entered) = tokio::sync::mpsc::unbounded_channel();
    let (proceed, may_continue) = std::sync::mpsc::channel::<()>();
    let store = store_with(directory.path(), move || {
        entered.send(std::thread::current().name() == Some("es-rocksdb-writer")).unwrap();
        may_continue.recv().unwrap();
    });
    let commit = || {
        let store = store.clone();
        tokio::spawn(async move { store.commit(to_stream(ExpectedRevision::Any)).await })
    };
    let first = commit();
    assert_eq!(has_entered.recv().await, Some(false));
    let mut others: Vec<_> = (0..OTHERS).map(|_| commit()).collect();
    while store.queued_for_test() < OTHERS {
        tokio::task::yield_now().await;
    }
    // The commit of a dropped future is in the queue and is written.
    others.remove(0).abort();
    proceed.send(()).unwrap();
    first.await.unwrap().unwrap();
    assert_eq!(has_entered.recv().await, Some(true));
    proceed.send(()).unwrap();
    for other in others {
        other.await.unwrap().unwrap();
    }
    assert_eq!(store.head().await.unwrap(), Position::new(1 + OTHERS as u64));
    assert_eq!((store.stats().commits, store.stats().batches), (1 + OTHERS as u64, 2));
}

/// A panic of the writer is not a panic of the caller on whose thread it runs: all waiting and later commits return an
/// error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_on_the_thread_of_a_caller_stops_the_store_and_fails_all_commits() {
    let directory = tempfile::tempdir().unwrap();
    let (entered, mut has_entered) = tokio::sync::mpsc::unbounded_channel();
    let (proceed, may_continue) = std::sync::mpsc::channel::<()>();
    let store = store_with(directory.path(), move || {
        entered.send(()).unwrap();
        may_continue.recv().unwrap();
        panic!("on purpose");
    });
    let commit = || {
        let store = store.clone();
        tokio::spawn(async move { store.commit(to_stream(ExpectedRevision::Any)).await })
    };
    let leading = commit();
    has_entered.recv().await.unwrap();
    let following = commit();
    while store.queued_for_test() < 1 {
        tokio::task::yield_now().await;
    }
    proceed.send(()).unwrap();
    for waiting in [leading, following, commit()] {
        stopped_reason(waiting.await.unwrap().unwrap_err());
    }
    let error = ErrorChain(&store.close().await.unwrap_err()).to_string();
    assert!(error.contains("panicked"), "{error}");
}
