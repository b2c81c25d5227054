//! Cases: a repeated commit is written once (R24).

use super::tools::*;
use crate::store::{Commit, CommitError, Committed, IdConflict, InvalidCommit};

async fn id_conflict(store: &Store, commit: Commit) -> IdConflict {
    match store.commit(commit).await {
        Err(CommitError::IdConflict(conflict)) => conflict,
        other => panic!("expected an id conflict, found {other:?}"),
    }
}

async fn assert_repeats(store: &Store, repeat: Commit, first: &Committed) {
    let second = commit(store, repeat).await;
    assert!(second.repeated, "the commit is recognized as a repeat");
    assert_eq!(second.events, first.events);
}

/// A repeated commit returns the result of the first one and writes nothing.
pub(super) async fn a_repeated_commit_returns_the_first_result(harness: &dyn Harness) {
    let store = harness.open().await;
    let twice = Commit::to(&stream("a-1"), NoStream, events(3)).append(stream("b-1"), event("x"));
    let first = commit(&store, twice.clone()).await;
    assert_repeats(&store, twice, &first).await;
    assert_eq!(log(&store).await, first.events);
}

/// A repeat is recognized whether or not its expectation still holds.
pub(super) async fn a_repeat_is_recognized_for_every_expectation(harness: &dyn Harness) {
    let store = harness.open().await;
    for (index, expected) in [Any, NoStream, StreamExists, Exact(rev(0))].into_iter().enumerate() {
        let name = format!("s-{index}");
        if matches!(expected, StreamExists | Exact(_)) {
            append(&store, &name, &["x"]).await;
        }
        let twice = Commit::to(&stream(&name), expected, events(2));
        let first = commit(&store, twice.clone()).await;
        assert_repeats(&store, twice, &first).await;
    }
}

/// A repeat is recognized after many other commits.
pub(super) async fn a_repeat_is_recognized_after_others_have_written(harness: &dyn Harness) {
    let store = harness.open().await;
    let twice = Commit::to(&stream("a-1"), Any, events(1));
    let first = commit(&store, twice.clone()).await;
    for n in 0..50 {
        commit(&store, Commit::to(&stream(&format!("s-{}", n % 3)), Any, events(100))).await;
    }
    append(&store, "a-1", &["x"]).await;
    assert_repeats(&store, twice, &first).await;
}

/// A repeated commit does not write its rows again.
pub(super) async fn a_repeat_changes_no_rows(harness: &dyn Harness) {
    let store = harness.open().await;
    let twice = Commit::to(&stream("a-1"), Any, events(1)).put_row(table("t"), "k", "old");
    let first = commit(&store, twice.clone()).await;
    commit(&store, Commit::new().put_row(table("t"), "k", "new")).await;
    assert_repeats(&store, twice, &first).await;
    assert_eq!(row(&store, "t", "k").await.as_deref(), Some(&b"new"[..]));
}

/// A commit of which only some events were written before is rejected.
pub(super) async fn a_partial_repeat_is_rejected(harness: &dyn Harness) {
    let store = harness.open().await;
    let written = events(2);
    let id = written[0].data.id;
    commit(&store, Commit::to(&stream("a-1"), Any, written.clone())).await;
    let longer = Commit::to(&stream("a-1"), Any, [written, events(1)].concat());
    assert_eq!(id_conflict(&store, longer).await, IdConflict::Partial { found: 2, of: 3, id });
    assert_eq!(log(&store).await.len(), 2);
}

/// An event with the id of a recorded one and other content is rejected.
pub(super) async fn an_id_with_other_content_is_rejected(harness: &dyn Harness) {
    let store = harness.open().await;
    let original = event("x");
    let id = original.data.id;
    commit(&store, Commit::to(&stream("a-1"), Any, [original.clone()])).await;
    let mut other_payload = original.clone();
    other_payload.data.payload = "{}".into();
    let mut other_version = original.clone();
    other_version.data.version = 2;
    for other in [other_payload, other_version, event("y").with_id(id), original.clone().tagged(tag("t"))] {
        let attempt = Commit::to(&stream("a-1"), Any, [other]);
        assert_eq!(id_conflict(&store, attempt).await, IdConflict::Taken { id, position: at(1) });
    }
}

/// An event with the id of a recorded one in another stream is rejected.
pub(super) async fn an_id_in_another_stream_is_rejected(harness: &dyn Harness) {
    let store = harness.open().await;
    let once = event("x");
    let id = once.data.id;
    commit(&store, Commit::to(&stream("a-1"), Any, [once.clone()])).await;
    let attempt = Commit::to(&stream("a-2"), Any, [once]);
    assert_eq!(id_conflict(&store, attempt).await, IdConflict::Taken { id, position: at(1) });
}

/// The same events in another order, or divided into other commits, are rejected.
pub(super) async fn a_repeat_in_other_commits_is_rejected(harness: &dyn Harness) {
    let store = harness.open().await;
    let pair = events(2);
    let [first, second] = [pair[0].clone(), pair[1].clone()];
    commit(&store, Commit::to(&stream("a-1"), Any, pair)).await;
    for other in [vec![first.clone()], vec![second.clone()], vec![second, first]] {
        id_conflict(&store, Commit::to(&stream("a-1"), Any, other)).await;
    }
    let (one, two) = (event("x"), event("x"));
    commit(&store, Commit::to(&stream("a-2"), Any, [one.clone()])).await;
    commit(&store, Commit::to(&stream("a-2"), Any, [two.clone()])).await;
    id_conflict(&store, Commit::to(&stream("a-2"), Any, [one, two])).await;
}

/// Two events of one commit cannot share an id.
pub(super) async fn a_repeated_id_in_one_commit_is_rejected(harness: &dyn Harness) {
    let store = harness.open().await;
    let once = event("x");
    let id = once.data.id;
    let refused = store.commit(Commit::to(&stream("a-1"), Any, [once.clone(), once])).await;
    let expected = InvalidCommit::SameIdTwice { id };
    assert!(matches!(&refused, Err(CommitError::Invalid(found)) if *found == expected), "found {refused:?}");
}

/// A repeat is recognized after a restart, also with the expectation `Any`.
pub(super) async fn a_repeat_is_recognized_after_a_restart(harness: &dyn Harness) {
    let store = harness.open().await;
    let commits: Vec<Commit> =
        (0..20).map(|n| Commit::to(&stream(&format!("s-{}", n % 4)), Any, events(1 + n % 3))).collect();
    let mut firsts = Vec::new();
    for once in &commits {
        firsts.push(commit(&store, once.clone()).await);
    }
    let Some(store) = harness.reopen(store).await else { return };
    for (repeat, first) in commits.into_iter().zip(&firsts) {
        assert_repeats(&store, repeat, first).await;
    }
}
