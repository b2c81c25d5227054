//! Commits: shared syncs, many writers, dropped futures, closing.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use common::{all, append, event, open, poll_once, positions, stream};
use es_core::model::{Table, UniqueKey};
use es_core::testing::ManualClock;
use es_core::{
    Commit, CommitError, EventReader, EventStore, EventType, ExpectedRevision, LogRead, NewEvent, Position, Revision,
    StoreError, StreamRead,
};
use es_rocksdb::{Durability, Options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_commits_share_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let commits = (0..500).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { store.commit(append(&format!("order-{n}"))).await.unwrap() })
    });
    let mut seen = BTreeSet::new();
    for commit in commits.collect::<Vec<_>>() {
        seen.insert(commit.await.unwrap().position().unwrap());
    }
    assert_eq!(seen.len(), 500);
    let stats = store.stats();
    assert_eq!((stats.commits, stats.events), (500, 500));
    assert_eq!(stats.frames, stats.syncs);
    assert!(stats.frames < 250, "500 commits took {} frames", stats.frames);
    assert!(stats.bytes > 500 * 40, "{} bytes", stats.bytes);
}

#[tokio::test]
async fn a_lone_commit_does_not_wait_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for _ in 0..10 {
        store.commit(append("order-1")).await.unwrap();
    }
    assert_eq!(store.stats().frames, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_writers_on_separate_streams_have_no_conflict() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let writers = (0..64).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            let name = stream(&format!("writer-{n}"));
            let mut last = None;
            for _ in 0..20 {
                let commit = Commit::to(&name, ExpectedRevision::unchanged(last), [event("happened"), event("again")]);
                last = store.commit(commit).await.unwrap().revision(&name);
            }
            assert_eq!(last, Some(Revision::new(39)));
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let events = all(&store).await;
    assert_eq!(positions(&events), (1..=64 * 40).collect::<Vec<_>>());
    store.close().await.unwrap();
    assert_eq!(all(&open(dir.path()).await).await, events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_commits_that_expect_the_same_revision_wins() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for round in 0..20 {
        let expected = ExpectedRevision::unchanged(Revision::new(round).get().checked_sub(1).map(Revision::new));
        let racers = (0..16).map(|_| {
            let store = store.clone();
            tokio::spawn(
                async move { store.commit(Commit::to(&stream("order-1"), expected, [event("happened")])).await },
            )
        });
        let mut won = 0;
        for racer in racers.collect::<Vec<_>>() {
            match racer.await.unwrap() {
                Ok(_) => won += 1,
                Err(CommitError::Conflict(_)) => {
                    // A following read must return the event that the conflict names.
                    assert!(store.revision(&stream("order-1")).await.unwrap() >= Some(Revision::new(round)));
                    assert!(store.head().await.unwrap() >= Position::new(round + 1));
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(won, 1, "in round {round}");
    }
}

/// A commit whose future is dropped is written completely or not at all, and the writer continues.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_future_is_dropped_is_atomic() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for n in 0..200u64 {
        let name = stream(&format!("order-{n}"));
        let commit = Commit::to(&name, ExpectedRevision::NoStream, [event("a"), event("b"), event("c")]).put_row(
            Table::new("t").unwrap(),
            n.to_be_bytes().to_vec(),
            "row",
        );
        let timeout = Duration::from_micros(n % 5 * 50);
        let _ = tokio::time::timeout(timeout, store.commit(commit)).await;
    }
    store.commit(append("last-1")).await.unwrap();
    let mut written = 0;
    for n in 0..200u64 {
        let name = stream(&format!("order-{n}"));
        let events = store.read_stream(StreamRead::new(name)).await.unwrap().collect().await.unwrap();
        let row = store.row(&Table::new("t").unwrap(), &n.to_be_bytes()).await.unwrap();
        assert!(matches!((events.len(), row.is_some()), (0, false) | (3, true)), "{n} was written in part");
        written += u64::from(row.is_some());
    }
    assert_eq!(store.stats().commits, written + 1);
}

#[tokio::test]
async fn closing_writes_queued_commits_and_rejects_later_ones() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let reading = store.read_log(LogRead::all()).await.unwrap();
    let mut waiting: Vec<_> = (0..50).map(|n| Box::pin(store.commit(append(&format!("order-{n}"))))).collect();
    // After one poll, each commit is queued; the first ones may be written already.
    let mut answers = Vec::new();
    for commit in &mut waiting {
        answers.push(poll_once(commit).await);
    }
    store.close().await.unwrap();
    for (commit, answer) in waiting.into_iter().zip(answers) {
        match answer {
            Poll::Ready(answer) => answer.unwrap(),
            Poll::Pending => commit.await.unwrap(),
        };
    }
    store.close().await.unwrap();
    assert!(matches!(store.commit(append("order-1")).await, Err(CommitError::Store(StoreError::Closed))));
    assert!(matches!(store.commit(Commit::new()).await, Err(CommitError::Store(StoreError::Closed))));
    assert!(matches!(store.head().await, Err(StoreError::Closed)));
    assert!(matches!(store.revision(&stream("order-1")).await, Err(StoreError::Closed)));
    assert!(matches!(store.read_log(LogRead::all()).await, Err(StoreError::Closed)));
    assert_eq!(reading.collect().await.unwrap(), [], "the log was empty when this read was opened");

    let reopened = open(dir.path()).await;
    assert_eq!(all(&reopened).await.len(), 50);
}

#[tokio::test]
async fn an_open_read_ends_with_an_error_when_the_store_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().read_batch(1, 1).tail_bytes(0).open(dir.path()).await.unwrap();
    // More than is read ahead.
    let large = || NewEvent::json(EventType::new("large").unwrap(), format!(r#""{}""#, "x".repeat(16 << 10)));
    for _ in 0..400 {
        let commit = Commit::to(&stream("order-1"), ExpectedRevision::Any, [large()]);
        store.commit(commit).await.unwrap();
    }
    let mut log = store.read_log(LogRead::all()).await.unwrap();
    let mut of_stream = store.read_stream(StreamRead::new(stream("order-1"))).await.unwrap();
    log.next().await.unwrap().unwrap();
    of_stream.next().await.unwrap().unwrap();
    drop(store);
    for read in [&mut log, &mut of_stream] {
        // Events that were already read are returned.
        let mut later = 0;
        let error = loop {
            later += 1;
            match read.next().await {
                Ok(event) => assert!(event.is_some(), "the read ended as if it was complete, after {later} events"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, StoreError::Closed), "{error}");
    }
    open(dir.path()).await;
}

/// A commit that waits for room in the queue and is never polled again does not keep the store open.
#[tokio::test]
async fn a_commit_that_is_not_polled_does_not_block_closing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().queue_bytes(1).open(dir.path()).await.unwrap();
    let mut forgotten: Vec<_> = (0..8).map(|_| Box::pin(store.commit(append("order-1")))).collect();
    let mut answers = Vec::new();
    for commit in &mut forgotten {
        answers.push(poll_once(commit).await);
    }
    tokio::time::timeout(Duration::from_secs(60), store.close()).await.unwrap().unwrap();
    let mut written = 0;
    for (commit, answer) in forgotten.into_iter().zip(answers) {
        let answer = match answer {
            Poll::Ready(answer) => answer,
            Poll::Pending => commit.await,
        };
        match answer {
            Ok(_) => written += 1,
            Err(CommitError::Store(StoreError::Closed)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(all(&open(dir.path()).await).await.len(), written);
}

#[tokio::test]
async fn all_data_is_kept_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (key, table) = (UniqueKey::new("email", "ada@example.org").unwrap(), Table::new("views").unwrap());
    let events = [event("placed").claiming(key.clone()), event("paid")];
    let commit = Commit::to(&stream("order-1"), ExpectedRevision::Any, events).put_row(table.clone(), "a", "1");
    let store = open(dir.path()).await;
    let committed = store.commit(commit.clone()).await.unwrap();
    drop(store);

    let store = open(dir.path()).await;
    assert_eq!(all(&store).await, committed.events);
    assert_eq!(store.head().await.unwrap(), Position::new(2));
    assert_eq!(store.revision(&stream("order-1")).await.unwrap(), Some(Revision::new(1)));
    assert_eq!(store.find(committed.events[1].data.id).await.unwrap().as_ref(), Some(&committed.events[1]));
    assert_eq!(store.owner(&key).await.unwrap(), Some(stream("order-1")));
    assert_eq!(store.row(&table, b"a").await.unwrap(), Some("1".into()));

    let repeated = store.commit(commit).await.unwrap();
    assert!(repeated.repeated);
    assert_eq!(repeated.events, committed.events);
    assert_eq!(store.stats().commits, 0);
    let next = store.commit(append("order-1")).await.unwrap();
    assert_eq!((next.position(), next.revision(&stream("order-1"))), (Position::new(3), Some(Revision::new(2))));
}

#[tokio::test]
async fn recorded_times_do_not_go_back_when_the_clock_does() {
    let dir = tempfile::tempdir().unwrap();
    let time = |text: &str| text.parse::<es_core::Timestamp>().unwrap();
    let late = Arc::new(ManualClock::at(time("2016-07-04T12:00:00.123456789Z")));
    let store = Options::new().clock(late.clone()).open(dir.path()).await.unwrap();
    assert_eq!(store.created(), time("2016-07-04T12:00:00.123456Z"));
    store.commit(append("order-1")).await.unwrap();
    late.set(time("2016-07-04T11:00:00Z"));
    store.commit(append("order-1")).await.unwrap();
    drop(store);
    let early = Arc::new(ManualClock::at(time("2016-07-04T10:00:00Z")));
    let store = Options::new().clock(early).open(dir.path()).await.unwrap();
    store.commit(append("order-1")).await.unwrap();
    for event in all(&store).await {
        assert_eq!(event.recorded_at, time("2016-07-04T12:00:00.123456Z"));
    }
}

#[tokio::test]
async fn a_buffered_store_never_syncs_and_keeps_what_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().durability(Durability::Buffered).open(dir.path()).await.unwrap();
    store.commit(append("order-1")).await.unwrap();
    assert_eq!((store.stats().frames, store.stats().syncs), (1, 0));
    store.close().await.unwrap();
    assert_eq!(all(&open(dir.path()).await).await.len(), 1);
}

/// A commit larger than the queue, the batch and the write buffer is still one commit.
#[tokio::test]
async fn a_commit_larger_than_every_limit_is_written_atomically() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().queue_bytes(1).write_buffer_bytes(1).read_batch(1, 1);
    let store = options.open(dir.path()).await.unwrap();
    let mut large = event("large");
    large.data.payload = vec![7; 3 << 20].into();
    let commit = Commit::to(&stream("order-1"), ExpectedRevision::Any, [large, event("a"), event("b")]);
    let committed = store.commit(commit).await.unwrap();
    store.commit(append("order-1")).await.unwrap();
    assert_eq!(all(&store).await[..3], committed.events);
}

/// Readers that follow the growing log get every position once, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_never_observe_a_gap_that_is_filled_later() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let reader = tokio::spawn({
        let store = store.clone();
        async move {
            let mut next = 1;
            let mut head = store.watch_head();
            while next <= 1000 {
                let seen = Some(head.wait_after(Position::new(next - 1)).await.unwrap());
                let read = LogRead::all().from(Position::new(next).unwrap());
                let events = store.read_log(read).await.unwrap().collect().await.unwrap();
                for event in events {
                    assert_eq!(event.position.get(), next);
                    next += 1;
                }
                assert!(Position::new(next) > seen, "the head was {seen:?}, but the log ended before {next}");
            }
        }
    });
    let writers = (0..10).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..100 {
                store.commit(append(&format!("order-{n}"))).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    reader.await.unwrap();
}

#[test]
fn the_store_works_without_a_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut run = |future: std::pin::Pin<Box<dyn Future<Output = Vec<u64>>>>| {
        let mut future = future;
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            std::thread::yield_now();
        }
    };
    let path = dir.path().to_owned();
    let read = run(Box::pin(async move {
        let store = open(&path).await;
        store.commit(append("order-1")).await.unwrap();
        let read = positions(&all(&store).await);
        store.close().await.unwrap();
        read
    }));
    assert_eq!(read, [1]);
}
