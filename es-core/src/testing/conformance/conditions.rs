//! Cases: a commit is written only if all its conditions hold.

use super::tools::*;
use crate::model::AheadOfLog;
use crate::store::{Commit, FailedCheck, LogRead, Query, QueryItem};

/// `Any` accepts a new and an existing stream.
pub(super) async fn any_accepts_every_stream(harness: &dyn Harness) {
    let store = harness.open().await;
    for count in 1..4 {
        commit(&store, Commit::to(&stream("a-1"), Any, events(1))).await;
        assert_eq!(log(&store).await.len(), count);
    }
}

/// `NoStream` accepts only a new stream.
pub(super) async fn no_stream_rejects_an_existing_stream(harness: &dyn Harness) {
    let store = harness.open().await;
    let attempt = || Commit::to(&stream("a-1"), NoStream, events(1));
    commit(&store, attempt()).await;
    assert_eq!(conflict(&store, attempt()).await, [revision_check("a-1", NoStream, Some(0))]);
}

/// `StreamExists` accepts only an existing stream.
pub(super) async fn stream_exists_rejects_a_missing_stream(harness: &dyn Harness) {
    let store = harness.open().await;
    let attempt = || Commit::to(&stream("a-1"), StreamExists, events(1));
    assert_eq!(conflict(&store, attempt()).await, [revision_check("a-1", StreamExists, None)]);
    append(&store, "a-1", &["x"]).await;
    commit(&store, attempt()).await;
}

/// `Exact` accepts only a stream whose last event has this revision.
pub(super) async fn exact_rejects_every_other_revision(harness: &dyn Harness) {
    let store = harness.open().await;
    let attempt = |revision| Commit::to(&stream("a-1"), Exact(rev(revision)), events(1));
    assert_eq!(conflict(&store, attempt(0)).await, [revision_check("a-1", Exact(rev(0)), None)]);
    append(&store, "a-1", &["x", "x", "x"]).await;
    for wrong in [0, 1, 3, u64::MAX] {
        assert_eq!(conflict(&store, attempt(wrong)).await, [revision_check("a-1", Exact(rev(wrong)), Some(2))]);
    }
    commit(&store, attempt(2)).await;
}

/// A commit can have a condition on a stream to which it writes nothing.
pub(super) async fn a_stream_can_be_checked_without_being_written(harness: &dyn Harness) {
    let store = harness.open().await;
    append(&store, "limit-1", &["set"]).await;
    let attempt =
        |limit| Commit::new().expect(stream("limit-1"), Exact(rev(limit))).append(stream("order-1"), event("placed"));
    commit(&store, attempt(0)).await;
    append(&store, "limit-1", &["raised"]).await;
    assert_eq!(conflict(&store, attempt(0)).await, [revision_check("limit-1", Exact(rev(0)), Some(1))]);
    let only_checks = Commit::new().expect(stream("limit-1"), Exact(rev(1)));
    assert_eq!(commit(&store, only_checks).await.events, []);
}

/// A conflict lists every condition that does not hold, with the found value.
pub(super) async fn a_conflict_lists_all_failed_checks(harness: &dyn Harness) {
    let store = harness.open().await;
    let claimed = tagged("x", &["t"]).claiming(key("taken"));
    let setup = Commit::to(&stream("a-1"), Any, [claimed]).put_row(table("t"), "k", "v");
    commit(&store, setup).await;
    let query = Query::from(QueryItem::new().tag(tag("t")));
    let attempt = Commit::new()
        .expect(stream("a-1"), NoStream)
        .expect(stream("b-1"), Exact(rev(4)))
        .expect(stream("c-1"), Any)
        .append_if_none(query.clone(), None)
        .append(stream("b-1"), event("x").claiming(key("taken")))
        .expect_row(table("t"), "k", None)
        .append(stream("c-1"), event("x"));
    let expected = [
        revision_check("a-1", NoStream, Some(0)),
        revision_check("b-1", Exact(rev(4)), None),
        FailedCheck::Match { query, after: None, found: at(1) },
        FailedCheck::UniqueKey { key: key("taken"), wanted_by: stream("b-1"), held_by: stream("a-1") },
        FailedCheck::Row { table: table("t"), key: "k".into(), expected_present: false, found_present: true },
    ];
    assert_eq!(conflict(&store, attempt).await, expected);
}

/// A rejected commit writes no event, no key and no row.
pub(super) async fn a_rejected_commit_leaves_no_trace(harness: &dyn Harness) {
    let store = harness.open().await;
    append(&store, "a-1", &["x"]).await;
    let attempt = Commit::new()
        .append(stream("b-1"), tagged("y", &["t"]).claiming(key("k")))
        .expect(stream("a-1"), NoStream)
        .put_row(table("t"), "k", "v");
    let id = attempt.events()[0].1.data.id;
    conflict(&store, attempt).await;
    assert_eq!(log(&store).await.len(), 1);
    assert_eq!(store.revision(&stream("b-1")).await.expect("revision"), None);
    assert_eq!(store.owner(&key("k")).await.expect("owner"), None);
    assert_eq!(row(&store, "t", "k").await, None);
    assert_eq!(store.find(id).await.expect("find"), None);
    assert_eq!(read(&store, LogRead::tag(tag("t"))).await, []);
    assert_eq!(numbers(&append(&store, "b-1", &["z"]).await.events), [2], "no position is lost");
}

/// An append condition ignores events at and before its position.
pub(super) async fn an_append_condition_checks_only_later_events(harness: &dyn Harness) {
    let store = harness.open().await;
    for name in ["x", "y", "x"] {
        append(&store, "a-1", &[name]).await;
    }
    let query = Query::from(QueryItem::new().event_type(event_type("x")));
    let attempt = |after| Commit::new().append_if_none(query.clone(), after).append(stream("b-1"), event("y"));
    for (after, found) in [(None, at(1)), (Some(at(1)), at(3)), (Some(at(2)), at(3))] {
        let expected = FailedCheck::Match { query: query.clone(), after, found };
        assert_eq!(conflict(&store, attempt(after)).await, [expected]);
    }
    commit(&store, attempt(Some(at(3)))).await;
}

/// An append condition after a position that the log has not reached is rejected with the head: it would hold whatever
/// the log contains. Such a position is from another log, or from before a restore.
pub(super) async fn an_append_condition_ahead_of_the_log_is_rejected(harness: &dyn Harness) {
    let store = harness.open().await;
    let attempt = |after| Commit::new().append_if_none(Query::all(), after).append(stream("b-1"), event("y"));
    let ahead = |position, head| [FailedCheck::AheadOfLog(AheadOfLog { position, head })];
    assert_eq!(conflict(&store, attempt(Some(at(1)))).await, ahead(at(1), None));
    append(&store, "a-1", &["x", "x"]).await;
    assert_eq!(conflict(&store, attempt(Some(at(3)))).await, ahead(at(3), Some(at(2))));
    commit(&store, attempt(Some(at(2)))).await;
    assert_eq!(log(&store).await.len(), 3);
}

/// An append condition matches if any item matches. An item matches if category, type and all tags match.
pub(super) async fn an_append_condition_matches_any_item_with_all_its_tags(harness: &dyn Harness) {
    let store = harness.open().await;
    commit(&store, Commit::to(&stream("course-1"), Any, [tagged("booked", &["course:1", "student:7"])])).await;
    let item = QueryItem::new;
    let hits = [
        item().tag(tag("course:1")).into(),
        item().tag(tag("course:1")).tag(tag("student:7")).into(),
        item().event_type(event_type("booked")).event_type(event_type("left")).tag(tag("student:7")).into(),
        item().category(category("course")).into(),
        Query::any_of([item().tag(tag("nobody")), item().tag(tag("student:7"))]),
        Query::all(),
        item().into(),
    ];
    let misses = [
        item().tag(tag("course:1")).tag(tag("student:8")).into(),
        item().event_type(event_type("left")).tag(tag("student:7")).into(),
        item().category(category("cours")).into(),
        Query::any_of([]),
    ];
    for query in hits {
        conflict(&store, Commit::new().append_if_none(query, None)).await;
    }
    for query in misses {
        commit(&store, Commit::new().append_if_none(query, None)).await;
    }
}

/// The events of a commit do not violate its own append condition.
pub(super) async fn an_append_condition_ignores_its_own_commit(harness: &dyn Harness) {
    let store = harness.open().await;
    let attempt = || {
        Commit::new()
            .append_if_none(QueryItem::new().tag(tag("seat:1")), None)
            .append(stream("a-1"), tagged("taken", &["seat:1"]))
            .append(stream("a-1"), tagged("taken", &["seat:1"]))
    };
    commit(&store, attempt()).await;
    conflict(&store, attempt()).await;
}

/// Every kind of condition includes events that were written before a restart.
pub(super) async fn conditions_hold_after_a_restart(harness: &dyn Harness) {
    let store = harness.open().await;
    commit(&store, Commit::to(&stream("a-1"), Any, [tagged("x", &["t"])])).await;
    let Some(store) = harness.reopen(store).await else { return };
    conflict(&store, Commit::to(&stream("a-1"), NoStream, events(1))).await;
    conflict(&store, Commit::new().append_if_none(QueryItem::new().tag(tag("t")), None)).await;
    commit(&store, Commit::to(&stream("a-1"), Exact(rev(0)), events(1))).await;
}
