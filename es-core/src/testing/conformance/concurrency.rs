//! Cases: concurrent writers and readers. Each writer is a task on a runtime with two threads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::tools::*;
use crate::model::CommitPart;
use crate::store::{Commit, CommitError, LogRead, QueryItem, StreamRead};

const WRITERS: usize = 16;

/// Runs a task for each writer concurrently, and returns their results in the order of the writers.
async fn all<T: Send + 'static, F: Future<Output = T> + Send + 'static>(task: impl Fn(usize) -> F) -> Vec<T> {
    let tasks: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(task(writer))).collect();
    let mut results = Vec::with_capacity(WRITERS);
    for task in tasks {
        results.push(task.await.expect("the writer did not panic"));
    }
    results
}

/// Of several writers that expect the same revision, one succeeds and the others get a conflict.
pub(super) async fn one_writer_wins_each_revision(harness: &dyn Harness) {
    let store = harness.open().await;
    for round in 0..20 {
        let won = all(|_| {
            let store = Arc::clone(&store);
            async move {
                let expected = if round == 0 { NoStream } else { Exact(rev(round - 1)) };
                match store.commit(Commit::to(&stream("a-1"), expected, events(1))).await {
                    Ok(_) => true,
                    Err(CommitError::Conflict(_)) => false,
                    Err(error) => panic!("expected a conflict, found {error}"),
                }
            }
        })
        .await;
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "round {round}");
    }
    assert_eq!(log(&store).await.len(), 20);
}

/// Concurrent commits get positions and revisions without gaps, and the log contains exactly the acknowledged events.
pub(super) async fn positions_have_no_gaps_under_concurrent_writers(harness: &dyn Harness) {
    let store = harness.open().await;
    let committed = all(|writer| {
        let store = Arc::clone(&store);
        async move {
            let mut acknowledged = Vec::new();
            for n in 0..25 {
                let name = format!("s-{}", (writer + n) % 5);
                let written = Commit::to(&stream(&name), Any, events(1 + n % 3));
                acknowledged.extend(store.commit(written).await.expect("written").events);
            }
            acknowledged
        }
    })
    .await;
    let mut acknowledged = committed.concat();
    acknowledged.sort_by_key(|event| event.position);
    assert_eq!(log(&store).await, acknowledged);
    assert_eq!(numbers(&acknowledged), (1..=acknowledged.len() as u64).collect::<Vec<_>>());
    for n in 0..5 {
        let found = revisions(&store, StreamRead::new(stream(&format!("s-{n}")))).await;
        assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>());
    }
}

/// Of several streams that claim the same key, one succeeds.
pub(super) async fn one_writer_claims_a_unique_key(harness: &dyn Harness) {
    let store = harness.open().await;
    let won = all(|writer| {
        let store = Arc::clone(&store);
        let owner = stream(&format!("a-{writer}"));
        async move { store.commit(Commit::to(&owner, Any, [event("x").claiming(key("k"))])).await.is_ok() }
    })
    .await;
    let winner = won.iter().position(|won| *won).expect("one wins");
    assert_eq!(won.iter().filter(|won| **won).count(), 1);
    assert_eq!(store.owner(&key("k")).await.expect("owner"), Some(stream(&format!("a-{winner}"))));
    assert_eq!(log(&store).await.len(), 1);
}

/// Of several writers whose append conditions exclude each other's events, one succeeds (R19).
pub(super) async fn one_writer_passes_an_append_condition(harness: &dyn Harness) {
    let store = harness.open().await;
    for seat in 0..10 {
        let won = all(|writer| {
            let store = Arc::clone(&store);
            async move {
                let seat = format!("seat:{seat}");
                let taken = tagged("seat-taken", &[&seat]);
                let attempt = Commit::to(&stream(&format!("guest-{writer}")), Any, [taken]);
                store.commit(attempt.append_if_none(QueryItem::new().tag(tag(&seat)), None)).await.is_ok()
            }
        })
        .await;
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "seat {seat}");
    }
}

/// A commit that several tasks send concurrently is written once, and all of them get the same result.
pub(super) async fn concurrent_repeats_write_once(harness: &dyn Harness) {
    let store = harness.open().await;
    for _ in 0..10 {
        let once = Commit::to(&stream("a-1"), Any, events(2));
        let results = all(|_| {
            let (store, once) = (Arc::clone(&store), once.clone());
            async move { store.commit(once).await.expect("written or repeated") }
        })
        .await;
        assert_eq!(results.iter().filter(|committed| !committed.repeated).count(), 1);
        assert!(results.windows(2).all(|pair| pair[0].events == pair[1].events));
    }
    assert_eq!(log(&store).await.len(), 20);
}

/// During concurrent writes, each read returns all events from position 1 to some position, and at least those of the
/// previous read.
pub(super) async fn a_reader_never_sees_a_gap(harness: &dyn Harness) {
    let store = harness.open().await;
    let done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        tokio::spawn(async move {
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) {
                let found = positions(&store, LogRead::all()).await;
                assert_eq!(found, (1..=found.len() as u64).collect::<Vec<_>>());
                let of_tag = positions(&store, LogRead::tag(tag("t"))).await;
                assert_eq!(of_tag, (1..=of_tag.len() as u64).collect::<Vec<_>>());
                assert!(found.len() >= seen && of_tag.len() >= found.len(), "an event of an earlier read is missing");
                seen = of_tag.len();
                tokio::task::yield_now().await;
            }
        })
    };
    all(|writer| {
        let store = Arc::clone(&store);
        async move {
            for _ in 0..20 {
                let written = Commit::to(&stream(&format!("s-{writer}")), Any, [tagged("x", &["t"])]);
                store.commit(written).await.expect("written");
            }
        }
    })
    .await;
    done.store(true, Ordering::Relaxed);
    reader.await.expect("the reader saw no gap");
}

/// A read sees all events of a commit or none.
pub(super) async fn a_reader_never_sees_a_partial_commit(harness: &dyn Harness) {
    let store = harness.open().await;
    let done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let events = log(&store).await;
                let last = events.last().map(|event| event.part);
                assert!(last.is_none_or(CommitPart::is_last), "the log ends within a commit: {last:?}");
                tokio::task::yield_now().await;
            }
        })
    };
    all(|writer| {
        let store = Arc::clone(&store);
        async move {
            for n in 0..10 {
                store.commit(Commit::to(&stream(&format!("s-{writer}")), Any, events(1 + n))).await.expect("written");
            }
        }
    })
    .await;
    done.store(true, Ordering::Relaxed);
    reader.await.expect("the reader saw whole commits");
}

/// An acknowledged commit is visible to every later read, also of another task.
pub(super) async fn an_acknowledged_commit_is_seen_by_the_next_read(harness: &dyn Harness) {
    let store = harness.open().await;
    all(|writer| {
        let store = Arc::clone(&store);
        async move {
            let name = stream(&format!("s-{writer}"));
            for n in 0..20_u64 {
                let committed = store.commit(Commit::to(&name, Any, events(1))).await.expect("written");
                let reader = Arc::clone(&store);
                let (name, position) = (name.clone(), committed.position().expect("a position"));
                let seen = tokio::spawn(async move {
                    let head = reader.head().await.expect("head");
                    let revision = reader.revision(&name).await.expect("revision");
                    let last = read_stream(&reader, StreamRead::new(name).backward().limit(1)).await;
                    (head >= Some(position), revision, last.first().map(|event| event.position))
                });
                assert_eq!(seen.await.expect("read"), (true, Some(rev(n)), Some(position)));
            }
        }
    })
    .await;
}

/// A commit whose future is dropped is written completely or not at all.
pub(super) async fn a_dropped_commit_is_whole_or_absent(harness: &dyn Harness) {
    let store = harness.open().await;
    all(|writer| {
        let store = Arc::clone(&store);
        async move {
            for n in 0..10_u64 {
                let written = Commit::to(&stream(&format!("s-{writer}")), Any, events(3));
                let dropped = tokio::time::timeout(std::time::Duration::from_micros(n * 40), store.commit(written));
                drop(dropped.await);
            }
        }
    })
    .await;
    // When a commit is acknowledged, all earlier ones are decided.
    append(&store, "end-1", &["x"]).await;
    let events = log(&store).await;
    assert_eq!(numbers(&events), (1..=events.len() as u64).collect::<Vec<_>>());
    let sizes: BTreeSet<u32> = events.iter().map(|event| event.part.size).collect();
    assert!(sizes.is_subset(&[1, 3].into()));
    for (index, event) in events.iter().enumerate().filter(|(_, event)| event.part.index == 0) {
        let size = usize::try_from(event.part.size).expect("the size is small");
        let whole = events.get(index..index + size).expect("the commit is whole");
        assert!(whole.iter().all(|part| part.stream == event.stream && part.part.size == event.part.size));
    }
}

/// A watcher of the head wakes for new events only, and a read then returns them.
pub(super) async fn a_new_head_wakes_its_watchers(harness: &dyn Harness) {
    let store = harness.open().await;
    let mut head = store.watch_head();
    assert_eq!(head.current(), None);
    let follower = tokio::spawn({
        let (store, mut head) = (Arc::clone(&store), store.watch_head());
        async move {
            let mut seen = None;
            while seen < Some(at(50)) {
                let new_head = head.wait_after(seen).await.expect("the store is open");
                let read = LogRead::all().after(seen);
                let found = store.read_log(read).await.expect("a read").collect().await.expect("read");
                let last = found.last().map(|event| event.position);
                assert!(last >= Some(new_head), "the head was {new_head}, but the log ended at {last:?}");
                seen = last;
            }
        }
    });
    for n in 0..50 {
        store.commit(Commit::to(&stream(&format!("s-{}", n % 3)), Any, events(1))).await.expect("written");
        store.commit(Commit::new().put_row(table("t"), "k", "v")).await.expect("written");
    }
    follower.await.expect("the follower did not panic");
    assert_eq!(Some(head.wait_after(Some(at(49))).await.expect("the store is open")), Some(at(50)));
    let more = tokio::time::timeout(std::time::Duration::from_millis(50), head.wait_after(Some(at(50)))).await;
    assert!(more.is_err(), "expected to wait for an event, found {more:?}");
}
