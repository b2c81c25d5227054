//! Cases: a commit counts once, however often it comes (R24).

use super::tools::*;
use crate::store::{Commit, CommitError, Committed, IdConflict, InvalidCommit};

async fn id_conflict(store: &Store, commit: Commit) -> IdConflict {
    match store.commit(commit).await {
        Err(CommitError::IdConflict(conflict)) => conflict,
        other => panic!("expected an id conflict, found {other:?}"),
    }
}

async fn assert_repeats(store: &Store, again: Commit, first: &Committed) {
    let second = commit(store, again).await;
    assert!(second.repeated, "the commit is recognized");
    assert_eq!(second.events, first.events);
}

/// The second time gives what the first time gave, and writes nothing.
pub(super) async fn a_repeated_commit_gives_its_first_result(harness: &dyn Harness) {
    let store = harness.open().await;
    let twice = Commit::to(&stream("a-1"), NoStream, events(3)).append(stream("b-1"), event("x"));
    let first = commit(&store, twice.clone()).await;
    assert_repeats(&store, twice, &first).await;
    assert_eq!(log(&store).await, first.events);
}

/// Also where the expectation no longer holds, and where it always does.
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

/// Also when much was written since.
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

/// A repeated commit does not change its rows again.
pub(super) async fn a_repeat_changes_no_rows(harness: &dyn Harness) {
    let store = harness.open().await;
    let twice = Commit::to(&stream("a-1"), Any, events(1)).put_row(table("t"), "k", "old");
    let first = commit(&store, twice.clone()).await;
    commit(&store, Commit::new().put_row(table("t"), "k", "new")).await;
    assert_repeats(&store, twice, &first).await;
    assert_eq!(row(&store, "t", "k").await.as_deref(), Some(&b"new"[..]));
}

/// A commit of which only a part was written before is an error, not a merge.
pub(super) async fn a_partial_repeat_is_refused(harness: &dyn Harness) {
    let store = harness.open().await;
    let written = events(2);
    let id = written[0].data.id;
    commit(&store, Commit::to(&stream("a-1"), Any, written.clone())).await;
    let longer = Commit::to(&stream("a-1"), Any, [written, events(1)].concat());
    assert_eq!(id_conflict(&store, longer).await, IdConflict::Partial { found: 2, of: 3, id });
    assert_eq!(log(&store).await.len(), 2);
}

/// One id is one event: other content under it is refused.
pub(super) async fn an_id_with_other_content_is_refused(harness: &dyn Harness) {
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

/// One id is one event: another stream is refused.
pub(super) async fn an_id_in_another_stream_is_refused(harness: &dyn Harness) {
    let store = harness.open().await;
    let once = event("x");
    let id = once.data.id;
    commit(&store, Commit::to(&stream("a-1"), Any, [once.clone()])).await;
    let attempt = Commit::to(&stream("a-2"), Any, [once]);
    assert_eq!(id_conflict(&store, attempt).await, IdConflict::Taken { id, position: at(1) });
}

/// The same events in another order, or over other commits, are not the same commit.
pub(super) async fn a_commit_split_otherwise_is_refused(harness: &dyn Harness) {
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
pub(super) async fn an_id_twice_in_one_commit_is_refused(harness: &dyn Harness) {
    let store = harness.open().await;
    let once = event("x");
    let id = once.data.id;
    let refused = store.commit(Commit::to(&stream("a-1"), Any, [once.clone(), once])).await;
    let expected = InvalidCommit::SameIdTwice { id };
    assert!(matches!(&refused, Err(CommitError::Invalid(found)) if *found == expected), "found {refused:?}");
}

/// Also `Any`, also after a restart.
pub(super) async fn a_repeat_is_recognized_after_a_restart(harness: &dyn Harness) {
    let store = harness.open().await;
    let commits: Vec<Commit> =
        (0..20).map(|n| Commit::to(&stream(&format!("s-{}", n % 4)), Any, events(1 + n % 3))).collect();
    let mut firsts = Vec::new();
    for once in &commits {
        firsts.push(commit(&store, once.clone()).await);
    }
    let Some(store) = harness.reopen(store).await else { return };
    for (again, first) in commits.into_iter().zip(&firsts) {
        assert_repeats(&store, again, first).await;
    }
}
