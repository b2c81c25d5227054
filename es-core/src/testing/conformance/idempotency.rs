//! Cases: a repeated commit is written once (R24).

use super::tools::*;
use crate::model::{CorrelationId, Metadata, NewEvent, Timestamp};
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

/// Case 10: an event with the id and the content of a recorded one, but with other metadata, another time or other
/// causes, is rejected, also after a restart. The event as it was written is a repeat, whether or not it has a time.
pub(super) async fn an_id_with_other_metadata_or_times_is_rejected(harness: &dyn Harness) {
    let store = harness.open().await;
    let mut timed = event("x").occurred_at(time("2020-01-01T00:00:00.123456789Z"));
    timed.data.metadata = Metadata::new().with("who", "ada").with("weight", 0.1);
    timed.data.correlation_id = Some(CorrelationId::new());
    let written = [timed, event("x")].map(|event| Commit::to(&stream("a-1"), Any, [event]));
    let firsts = [commit(&store, written[0].clone()).await, commit(&store, written[1].clone()).await];
    assert_metadata_and_times_are_compared(&store, &written, &firsts).await;
    if let Some(store) = harness.reopen(store).await {
        assert_metadata_and_times_are_compared(&store, &written, &firsts).await;
    }
}

/// `written` is an event with metadata and a time, and one without.
async fn assert_metadata_and_times_are_compared(store: &Store, written: &[Commit; 2], firsts: &[Committed; 2]) {
    let [timed, untimed] = written.each_ref().map(|commit| commit.events()[0].1.clone());
    let differs = async |original: &NewEvent, position, field, change: &dyn Fn(&mut NewEvent)| {
        let mut other = original.clone();
        change(&mut other);
        let found = id_conflict(store, Commit::to(&stream("a-1"), Any, [other])).await;
        assert_eq!(found, IdConflict::Differs { id: original.data.id, position: at(position), field });
    };
    differs(&timed, 1, "metadata", &|event| {
        event.data.metadata = Metadata::new().with("who", "bob").with("weight", 0.1);
    })
    .await;
    differs(&timed, 1, "metadata", &|event| event.data.metadata = Metadata::new()).await;
    differs(&timed, 1, "occurred_at", &|event| event.occurred_at = Some(time("2021-01-01T00:00:00Z"))).await;
    differs(&timed, 1, "occurred_at", &|event| event.occurred_at = None).await;
    differs(&timed, 1, "correlation id", &|event| event.data.correlation_id = Some(CorrelationId::new())).await;
    differs(&timed, 1, "causation id", &|event| event.data.causation_id = Some(event.data.id)).await;
    differs(&untimed, 2, "occurred_at", &|event| event.occurred_at = Some(time("2021-01-01T00:00:00Z"))).await;
    for (repeat, first) in written.iter().zip(firsts) {
        assert_repeats(store, repeat.clone(), first).await;
    }
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
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
    // Events of two commits: adjacent ones with other indexes, and ones of the same indexes that are not adjacent.
    let (early, late) = (events(2), events(2));
    for pair in [&early, &late] {
        commit(&store, Commit::to(&stream("a-3"), Any, pair.clone())).await;
    }
    for other in [[&early[1], &late[0]], [&early[0], &late[1]]] {
        id_conflict(&store, Commit::to(&stream("a-3"), Any, other.map(Clone::clone))).await;
    }
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
