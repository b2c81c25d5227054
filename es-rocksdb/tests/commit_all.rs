//! `commit_all` keeps the order and the recorded times of its commits, however many share a sync.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use chrono::DateTime;
use common::{append, event, stream};
use es_core::{Commit, CommitError, EventStore, ExpectedRevision, Timestamp};
use es_rocksdb::{Options, RocksDbStore};
use tempfile::TempDir;

fn at(seconds: i64) -> Timestamp {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

#[tokio::test]
async fn each_commit_has_its_time_also_after_rejected_and_repeated_ones() {
    let dir = TempDir::new().unwrap();
    let store = RocksDbStore::open(dir.path()).await.unwrap();
    let timed = |seconds, commit: Commit| commit.recorded_at(at(seconds));
    let first = append("a-1");
    let bad = Commit::to(&stream("a-1"), ExpectedRevision::NoStream, [event("happened")]);
    let twice = event("happened");
    let invalid = Commit::new().append(stream("a-1"), twice.clone()).append(stream("a-1"), twice);
    let commits = vec![
        timed(10, first.clone()),
        timed(20, bad),
        timed(30, invalid),
        timed(40, first),
        timed(50, append("a-1")),
        timed(45, append("a-1")),
        timed(60, append("a-1")),
    ];
    let answers = store.commit_all(commits).await;
    assert!(matches!(answers[1], Err(CommitError::Conflict(_))));
    assert!(matches!(answers[2], Err(CommitError::Invalid(_))));
    assert!(answers[3].as_ref().is_ok_and(|committed| committed.repeated));
    let times: Vec<_> = answers.iter().flatten().map(|committed| committed.events[0].recorded_at.timestamp()).collect();
    assert_eq!(times, [10, 10, 50, 50, 60]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn many_commits_keep_their_order_and_their_times() {
    let dir = TempDir::new().unwrap();
    let store = Options::new().queue_bytes(64 * 1024).open(dir.path()).await.unwrap();
    let commits = (0..2000).map(|second| append("a-1").recorded_at(at(second))).collect();
    for (expected, answer) in (0i64..).zip(store.commit_all(commits).await) {
        let event = &answer.unwrap().events[0];
        assert_eq!((event.recorded_at.timestamp(), event.revision.get()), (expected, expected.unsigned_abs()));
    }
    store.close().await.unwrap();
}

/// Commits within the limits of a batch are one write with one sync.
#[tokio::test]
async fn commits_of_one_batch_share_one_sync() {
    let dir = TempDir::new().unwrap();
    let store = RocksDbStore::open(dir.path()).await.unwrap();
    let before = store.stats();
    let answers = store.commit_all((0..100).map(|_| append("a-1")).collect()).await;
    assert!(answers.iter().all(Result::is_ok));
    let after = store.stats();
    assert_eq!((after.commits - before.commits, after.frames - before.frames, after.syncs - before.syncs), (100, 1, 1));
    store.close().await.unwrap();
}
