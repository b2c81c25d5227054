//! A replay gives each commit the time at which it was recorded first, however many share a wait for the disk.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use chrono::DateTime;
use common::{append, event, stream};
use es_core::{Commit, CommitError, ExpectedRevision, Timestamp};
use es_rocksdb::{Options, Recorded, Replay};
use tempfile::TempDir;

fn at(seconds: i64) -> Timestamp {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

#[tokio::test]
async fn each_commit_has_its_time_also_behind_refused_and_repeated_ones() {
    let folder = TempDir::new().unwrap();
    let mut replay = Replay::open(folder.path(), Options::new()).await.unwrap();
    let timed = |seconds, commit| Recorded { commit, at: Some(at(seconds)) };
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
    let answers = replay.write(commits).await;
    assert!(matches!(answers[1], Err(CommitError::Conflict(_))));
    assert!(matches!(answers[2], Err(CommitError::Invalid(_))));
    assert!(answers[3].as_ref().is_ok_and(|committed| committed.repeated));
    let times: Vec<_> = answers.iter().flatten().map(|committed| committed.events[0].recorded_at.timestamp()).collect();
    assert_eq!(times, [10, 10, 50, 50, 60]);
    replay.close().await.unwrap();
}

#[tokio::test]
async fn many_commits_keep_their_order_and_their_times() {
    let folder = TempDir::new().unwrap();
    let mut replay = Replay::open(folder.path(), Options::new().queue_bytes(64 * 1024)).await.unwrap();
    let commits = (0..2000).map(|second| Recorded { commit: append("a-1"), at: Some(at(second)) }).collect();
    for (expected, answer) in (0i64..).zip(replay.write(commits).await) {
        let event = &answer.unwrap().events[0];
        assert_eq!((event.recorded_at.timestamp(), event.revision.get()), (expected, expected.unsigned_abs()));
    }
    replay.close().await.unwrap();
}
