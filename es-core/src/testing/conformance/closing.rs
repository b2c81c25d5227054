//! Cases: closing a store.

use std::ops::ControlFlow;

use futures_util::future::{join, join_all};

use super::tools::*;
use crate::model::EventView;
use crate::store::{CommitError, LogRead, RowScan, StoreError, StreamRead};
use crate::{Commit, EventId};

/// After a store is closed, every call fails with [`StoreError::Closed`]. Closing it again has no effect.
pub(super) async fn a_closed_store_rejects_every_call(harness: &dyn Harness) {
    let store = harness.open().await;
    append(&store, "a-1", &["x"]).await;
    for _ in 0..2 {
        store.close().await.expect("the store is closed");
    }
    let commit = || Commit::to(&stream("a-1"), Any, events(1));
    assert!(matches!(store.commit(commit()).await, Err(CommitError::Store(StoreError::Closed))));
    let many = store.commit_all(vec![commit(), commit()]).await;
    assert!(many.len() == 2 && many.iter().all(|result| matches!(result, Err(CommitError::Store(StoreError::Closed)))));
    assert!(matches!(store.scavenge(&Default::default()).await, Err(CommitError::Store(StoreError::Closed))));
    assert!(matches!(store.compact().await, Err(StoreError::Closed)));
    let name = stream("a-1");
    let mut visited = 0;
    let mut visit = |_: EventView<'_>| {
        visited += 1;
        ControlFlow::Continue(())
    };
    let results = [
        store.head().await.map(drop),
        store.read_log(LogRead::all()).await.map(drop),
        store.read_stream(StreamRead::new(name.clone())).await.map(drop),
        store.visit_log(LogRead::all(), &mut visit).await.map(drop),
        store.visit_stream(StreamRead::new(name.clone()), &mut visit).await,
        store.revision(&name).await.map(drop),
        store.find(EventId::new()).await.map(drop),
        store.owner(&key("k")).await.map(drop),
        store.row(&table("t"), b"k").await.map(drop),
        store.rows(RowScan::new(table("t"), "", 1)).await.map(drop),
        store.retained(&name).await.map(drop),
    ];
    for (number, result) in results.into_iter().enumerate() {
        assert!(matches!(result, Err(StoreError::Closed)), "read {number}: {result:?}");
    }
    assert_eq!(visited, 0, "a visit of a closed store calls no visitor");
}

/// A commit during the close is written or rejected. Acknowledged commits are present after the store is opened again.
pub(super) async fn commits_before_the_close_are_written(harness: &dyn Harness) {
    let store = harness.open().await;
    let commits = (0..100).map(|_| store.commit(Commit::to(&stream("a-1"), Any, events(1))));
    let (results, closed) = join(join_all(commits), store.close()).await;
    closed.expect("the store is closed");
    let mut written = 0;
    for result in results {
        match result {
            Ok(committed) => written += committed.events.len() as u64,
            Err(CommitError::Store(StoreError::Closed)) => {}
            Err(other) => panic!("expected a commit or a closed store, found {other:?}"),
        }
    }
    if let Some(reopened) = harness.reopen(store).await {
        assert_eq!(log(&reopened).await.len() as u64, written);
    }
}

/// A follower of the head gets all committed events, then the error that the store was closed.
pub(super) async fn a_follower_learns_that_the_store_was_closed(harness: &dyn Harness) {
    let store = harness.open().await;
    let mut watch = store.watch_head();
    let waiting = tokio::spawn(async move {
        let first = watch.wait_after(None).await;
        (first, watch.wait_after(Some(at(1))).await)
    });
    append(&store, "a-1", &["x"]).await;
    store.close().await.expect("the store is closed");
    let (first, second) = waiting.await.expect("it does not panic");
    assert_eq!(first.expect("the first position is reported"), at(1));
    assert!(matches!(second, Err(StoreError::Closed)), "{second:?}");
}

/// Each opening of a store has its own number, so that a lease of an earlier opening is recognized.
pub(super) async fn each_opening_has_its_own_number(harness: &dyn Harness) {
    let mut store = harness.open().await;
    let mut numbers = vec![store.opening()];
    assert_eq!(store.opening(), numbers[0], "an opening keeps its number");
    while numbers.len() < 4 {
        let Some(reopened) = harness.reopen(store).await else { return };
        store = reopened;
        numbers.push(store.opening());
    }
    let numbered: std::collections::BTreeSet<u64> = numbers.iter().flatten().copied().collect();
    assert!(numbered.is_empty() || numbered.len() == numbers.len(), "{numbers:?}");
}
