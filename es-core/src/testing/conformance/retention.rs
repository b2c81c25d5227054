//! Cases: rules, deletions and scavenges (R20, R21).

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::tools::*;
use crate::model::EventId;
use crate::model::StreamId;
use crate::retention::{self, DeleteKind, Note, Retained, Rule, Scavenge, ScavengeProgress, ScavengeReport, Scope};
use crate::store::delete_stream;
use crate::store::{Commit, CommitError, FailedCheck, IdConflict, InvalidCommit, LogRead, QueryItem, StreamRead};

const COUNT: fn(u64) -> Rule = |max_count| Rule { max_count: Some(max_count), ..Rule::default() };
const BEFORE: fn(u64) -> Rule = |first| Rule { truncate_before: Some(rev(first)), ..Rule::default() };
const AGE: fn(u64) -> Rule = |millis| Rule { max_age: Some(Duration::from_millis(millis)), ..Rule::default() };

async fn set(store: &Store, scope: Scope, rule: Rule) {
    commit(store, Commit::set_rule(scope, rule, Note::default())).await;
}

fn of_stream(name: &str) -> Scope {
    Scope::Stream(stream(name))
}

fn of_category(name: &str) -> Scope {
    Scope::Category(category(name))
}

pub(super) async fn delete(store: &Store, name: &str, kind: DeleteKind) {
    let deleted = delete_stream(&**store, &stream(name), kind, Any, Note::default()).await;
    deleted.expect("the stream is deleted");
}

pub(super) async fn scavenge(store: &Store) -> ScavengeReport {
    store.scavenge(&Scavenge::default()).await.expect("the store is scavenged")
}

async fn retained(store: &Store, name: &str) -> Retained {
    store.retained(&stream(name)).await.expect("the state is read")
}

/// Returns the revisions of the visible events of a stream.
async fn visible(store: &Store, name: &str) -> Vec<u64> {
    revisions(store, StreamRead::new(stream(name))).await
}

/// Returns the store after a restart, or the store itself if it is not persistent.
pub(super) async fn also_reopened(harness: &dyn Harness, store: Store) -> Store {
    match harness.reopen(store.clone()).await {
        Some(store) => store,
        None => store,
    }
}

/// A rule cannot truncate a stream after its last event, because it would hide later events. A copy of such a rule, as
/// in an import, is accepted.
pub(super) async fn a_rule_cannot_truncate_events_that_are_not_written(harness: &dyn Harness) {
    let store = harness.open().await;
    append(&store, "a-1", &["x", "x"]).await;
    let rule = |name: &str, first| Commit::set_rule(of_stream(name), BEFORE(first), Note::default());
    assert_eq!(conflict(&store, rule("a-1", 3)).await, [revision_check("a-1", Exact(rev(2)), Some(1))]);
    assert_eq!(conflict(&store, rule("b-1", 1)).await, [revision_check("b-1", Exact(rev(0)), None)]);
    commit(&store, rule("a-1", 2)).await;
    assert_eq!(visible(&store, "a-1").await, [0; 0]);
    let now = log(&store).await.last().expect("events").recorded_at;
    commit(&store, rule("b-1", 1).recorded_at(now)).await;
}

/// Each kind of rule hides the old events of a stream in every read. Each field of a stream's rule overrides that of
/// its category. A cleared rule hides nothing.
pub(super) async fn rules_hide_old_events_in_every_read(harness: &dyn Harness) {
    let store = harness.open().await;
    for n in 0..5 {
        commit(&store, Commit::to(&stream("a-1"), Any, [tagged("x", &["t"])])).await;
        commit(&store, Commit::to(&stream("a-2"), Any, [event(if n % 2 == 0 { "x" } else { "y" })])).await;
    }
    set(&store, of_stream("a-1"), COUNT(2)).await;
    assert_eq!(visible(&store, "a-1").await, [3, 4]);
    assert_eq!(revisions(&store, StreamRead::new(stream("a-1")).backward().limit(1)).await, [4]);
    assert_eq!(revisions(&store, StreamRead::new(stream("a-1")).backward()).await, [4, 3]);
    assert_eq!(
        revisions(&store, StreamRead::new(stream("a-1")).from(rev(1)).limit(1)).await,
        [3],
        "a limit counts visible events only"
    );
    assert_eq!(revisions(&store, StreamRead::new(stream("a-1")).from(rev(2)).backward()).await, [0; 0]);
    assert_eq!(positions(&store, LogRead::tag(tag("t"))).await, [7, 9]);
    assert_eq!(positions(&store, LogRead::all().limit(7)).await, [2, 4, 6, 7, 8, 9, 10]);
    assert_eq!(positions(&store, LogRead::event_type(event_type("x")).backward()).await, [10, 9, 7, 6, 2]);
    set(&store, of_category("a"), BEFORE(4)).await;
    assert_eq!((visible(&store, "a-1").await, visible(&store, "a-2").await), (vec![4], vec![4]));
    set(&store, of_stream("a-2"), BEFORE(1)).await;
    assert_eq!((visible(&store, "a-1").await, visible(&store, "a-2").await), (vec![4], vec![1, 2, 3, 4]));
    let store = also_reopened(harness, store).await;
    assert_eq!((visible(&store, "a-1").await, visible(&store, "a-2").await), (vec![4], vec![1, 2, 3, 4]));
    assert_eq!(retained(&store, "a-1").await, Retained { first: rev(4), ..Retained::WHOLE });
    append(&store, "a-1", &["x"]).await;
    assert_eq!(visible(&store, "a-1").await, [4, 5]);
    commit(&store, Commit::clear_rule(of_category("a"), Note::default())).await;
    commit(&store, Commit::clear_rule(of_stream("a-2"), Note::default())).await;
    assert_eq!((visible(&store, "a-1").await, visible(&store, "a-2").await), (vec![4, 5], vec![0, 1, 2, 3, 4]));
    assert_eq!(retained(&store, "a-2").await, Retained::WHOLE);
}

/// The age of an event is measured from its recorded time with the clock of the store.
pub(super) async fn a_maximum_age_hides_old_events(harness: &dyn Harness) {
    let store = harness.open().await;
    append(&store, "a-1", &["x", "x"]).await;
    append(&store, "b-1", &["x"]).await;
    // A maximum age of one second hides the events above and not the next one.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    set(&store, of_category("b"), AGE(3_600_000)).await;
    set(&store, of_category("a"), AGE(1000)).await;
    assert_eq!((visible(&store, "a-1").await, visible(&store, "b-1").await), (vec![], vec![0]));
    assert_eq!(retained(&store, "a-1").await, Retained { first: rev(2), ..Retained::WHOLE });
    assert_eq!(positions(&store, LogRead::event_type(event_type("x"))).await, [3]);
    assert_eq!(scavenge(&store).await.events, 2);
    set(&store, of_category("a"), AGE(3_600_000)).await;
    append(&store, "a-1", &["x"]).await;
    let store = also_reopened(harness, store).await;
    assert_eq!((visible(&store, "a-1").await, visible(&store, "b-1").await), (vec![2], vec![0]));
}

/// Lookups by id and append conditions ignore hidden events, before and after a scavenge.
pub(super) async fn conditions_and_lookups_ignore_hidden_events(harness: &dyn Harness) {
    let store = harness.open().await;
    let committed = commit(&store, Commit::to(&stream("a-1"), Any, [tagged("x", &["t"]), tagged("x", &["u"])])).await;
    let [hidden, shown] = &committed.events[..] else { panic!("expected two events") };
    set(&store, of_stream("a-1"), BEFORE(1)).await;
    for _ in 0..2 {
        for query in [QueryItem::new().tag(tag("t")), QueryItem::new().tag(tag("t")).category(category("a"))] {
            commit(&store, Commit::new().append_if_none(query, None)).await;
        }
        let failed =
            conflict(&store, Commit::new().append_if_none(QueryItem::new().category(category("a")), None)).await;
        assert!(matches!(failed[..], [FailedCheck::Match { found, .. }] if found == shown.position), "{failed:?}");
        assert_eq!(store.find(hidden.data.id).await.expect("the lookup succeeds"), None);
        assert_eq!(store.find(shown.data.id).await.expect("the lookup succeeds").as_ref(), Some(shown));
        scavenge(&store).await;
    }
}

/// A soft delete hides all events of a stream. New events continue at the next revision, and the stream counts as not
/// existing until then.
pub(super) async fn a_soft_deleted_stream_continues_at_the_next_revision(harness: &dyn Harness) {
    let store = harness.open().await;
    append(&store, "a-1", &["x", "x", "x"]).await;
    let missing = delete_stream(&*store, &stream("a-2"), DeleteKind::Soft, Any, Note::default()).await;
    assert!(matches!(missing, Err(CommitError::Conflict(_) | CommitError::Invalid(_))), "{missing:?}");
    delete(&store, "a-1", DeleteKind::Soft).await;
    let store = also_reopened(harness, store).await;
    assert_eq!(visible(&store, "a-1").await, [0; 0]);
    assert_eq!(retained(&store, "a-1").await, Retained { begins: rev(3), first: rev(3), is_ended: false });
    assert_eq!(store.revision(&stream("a-1")).await.expect("the value is read"), Some(rev(2)));
    let exists = Commit::new().expect(stream("a-1"), StreamExists);
    assert_eq!(conflict(&store, exists.clone()).await, [revision_check("a-1", StreamExists, None)]);
    commit(&store, Commit::new().expect(stream("a-1"), NoStream).expect(stream("a-1"), Exact(rev(2)))).await;
    let stale = Commit::new().expect(stream("a-1"), Exact(rev(1)));
    assert_eq!(conflict(&store, stale).await, [revision_check("a-1", Exact(rev(1)), Some(2))]);
    scavenge(&store).await;
    let first = commit(&store, Commit::to(&stream("a-1"), NoStream, events(1))).await;
    assert_eq!(first.revision(&stream("a-1")), Some(rev(3)));
    commit(&store, exists).await;
    let no_stream = Commit::new().expect(stream("a-1"), NoStream);
    assert_eq!(conflict(&store, no_stream).await, [revision_check("a-1", NoStream, Some(3))]);
    let store = also_reopened(harness, store).await;
    assert_eq!(visible(&store, "a-1").await, [3]);
    assert_eq!(revisions(&store, StreamRead::new(stream("a-1")).backward()).await, [3]);
    delete(&store, "a-1", DeleteKind::Soft).await;
    assert_eq!(visible(&store, "a-1").await, [0; 0]);
}

/// A hard delete is permanent: every commit that writes to the stream or has a condition on it fails. The conflict
/// lists the deletion among the other failed checks.
pub(super) async fn a_hard_deleted_stream_is_never_written_again(harness: &dyn Harness) {
    let store = harness.open().await;
    let first = Commit::to(&stream("a-1"), NoStream, events(2));
    commit(&store, first.clone()).await;
    append(&store, "b-1", &["x"]).await;
    delete(&store, "a-1", DeleteKind::Hard).await;
    delete(&store, "never-1", DeleteKind::Hard).await;
    let mut store = store;
    for _ in 0..2 {
        assert_eq!(visible(&store, "a-1").await, [0; 0]);
        let ended = |name: &str, position| FailedCheck::Deleted { stream: stream(name), position: at(position) };
        for expected in [Any, NoStream, StreamExists, Exact(rev(1))] {
            assert_eq!(conflict(&store, Commit::to(&stream("a-1"), expected, events(1))).await, [ended("a-1", 4)]);
            assert_eq!(
                conflict(&store, Commit::new().expect(stream("never-1"), expected)).await,
                [ended("never-1", 5)]
            );
        }
        let many = Commit::to(&stream("b-1"), NoStream, events(1)).append(stream("a-1"), event("x"));
        assert_eq!(conflict(&store, many).await, [ended("a-1", 4), revision_check("b-1", NoStream, Some(0))]);
        for kind in [DeleteKind::Soft, DeleteKind::Hard] {
            let again = Commit::delete_stream(stream("a-1"), kind, Some(rev(1)), Note::default());
            assert_eq!(conflict(&store, again).await, [ended("a-1", 4)]);
        }
        store = also_reopened(harness, store).await;
    }
    let repeat = commit(&store, first).await;
    assert!(repeat.repeated, "a repeat is recognized before conditions");
    assert!(retained(&store, "a-1").await.is_ended);
}

/// Case 19: a repeated deletion returns the first one and writes nothing, whichever kind it has. A stream that was
/// written since, and a hard delete after a soft one, are deleted again.
pub(super) async fn a_deletion_can_be_repeated(harness: &dyn Harness) {
    let store = harness.open().await;
    append(&store, "a-1", &["x", "x"]).await;
    append(&store, "b-1", &["x"]).await;
    let delete = async |store: &Store, name: &str, kind, expected| {
        let deleted = delete_stream(&**store, &stream(name), kind, expected, Note::default()).await;
        let deleted = deleted.expect("the stream is deleted");
        assert_eq!(deleted.events.len(), 1);
        (deleted.repeated, deleted.events[0].position)
    };
    let (soft, hard) = (DeleteKind::Soft, DeleteKind::Hard);
    assert_eq!(delete(&store, "a-1", soft, Any).await, (false, at(4)));
    assert_eq!(delete(&store, "b-1", soft, Any).await, (false, at(5)));
    let store = also_reopened(harness, store).await;
    assert_eq!(delete(&store, "a-1", soft, Any).await, (true, at(4)));
    assert_eq!(delete(&store, "a-1", soft, Exact(rev(1))).await, (true, at(4)));
    for expected in [NoStream, StreamExists, Exact(rev(0))] {
        let refused = delete_stream(&*store, &stream("a-1"), soft, expected, Note::default()).await;
        assert!(matches!(refused, Err(CommitError::Conflict(_))), "{expected:?}: {refused:?}");
    }
    append(&store, "a-1", &["x"]).await;
    assert_eq!(delete(&store, "a-1", soft, Any).await, (false, at(7)));
    assert_eq!(delete(&store, "a-1", hard, Any).await, (false, at(8)));
    for (kind, expected) in [(hard, Any), (soft, Any), (hard, Exact(rev(2)))] {
        assert_eq!(delete(&store, "a-1", kind, expected).await, (true, at(8)));
    }
    assert_eq!(delete(&store, "never-1", hard, Any).await, (false, at(9)));
    assert_eq!(delete(&store, "never-1", hard, Any).await, (true, at(9)));
    assert_eq!(delete(&store, "b-1", soft, Any).await, (true, at(5)));
}

/// A deletion is conditional on the last revision of the stream, and can have an expected revision.
pub(super) async fn a_deletion_has_conditions(harness: &dyn Harness) {
    let store = harness.open().await;
    append(&store, "a-1", &["x", "x"]).await;
    let stale = Commit::delete_stream(stream("a-1"), DeleteKind::Hard, Some(rev(0)), Note::default());
    assert_eq!(conflict(&store, stale).await, [revision_check("a-1", Exact(rev(0)), Some(1))]);
    let refused = delete_stream(&*store, &stream("a-1"), DeleteKind::Soft, Exact(rev(5)), Note::default()).await;
    let Err(CommitError::Conflict(refused)) = refused else { panic!("expected a conflict, found {refused:?}") };
    assert_eq!(refused.failed, [revision_check("a-1", Exact(rev(5)), Some(1))]);
    let deleted = delete_stream(&*store, &stream("a-1"), DeleteKind::Soft, Exact(rev(1)), Note::default()).await;
    let deletion = deleted.expect("the stream is deleted").events;
    let repeat = Commit::to(&deletion[0].stream, Any, [to_new_event(&deletion[0])]);
    assert!(commit(&store, repeat).await.repeated);
    assert_eq!(visible(&store, "a-1").await, [0; 0]);
}

/// Returns an event with the id, type and content of a recorded one.
fn to_new_event(event: &crate::model::RecordedEvent) -> crate::model::NewEvent {
    crate::model::NewEvent::json(event.data.event_type.clone(), event.data.payload.clone()).with_id(event.data.id)
}

/// The reserved streams accept only events of operators. No rule or deletion hides them.
pub(super) async fn reserved_streams_accept_only_operator_events(harness: &dyn Harness) {
    let store = harness.open().await;
    append(&store, "a-1", &["x"]).await;
    let invalid = async |commit: Commit| match store.commit(commit).await {
        Err(CommitError::Invalid(InvalidCommit::Reserved { stream, .. })) => stream,
        other => panic!("expected a reserved name, found {other:?}"),
    };
    let rules = stream("es.retention-rules");
    assert_eq!(invalid(Commit::to(&rules, Any, events(1))).await, rules);
    assert_eq!(invalid(Commit::to(&stream("a-1"), Any, [event(retention::REMOVED)])).await, stream("a-1"));
    assert_eq!(invalid(Commit::set_rule(of_category("a"), Rule::default(), Note::default())).await, rules);
    invalid(Commit::set_rule(of_stream("es.retention-rules"), COUNT(1), Note::default())).await;
    invalid(Commit::delete_stream(rules.clone(), DeleteKind::Hard, None, Note::default())).await;
    let note = Note { by: Some("ada".into()), reason: Some("why".into()) };
    for count in [5, 6, 7] {
        commit(&store, Commit::set_rule(of_category("a"), COUNT(count), note.clone())).await;
    }
    scavenge(&store).await;
    let recorded = read(&store, LogRead::category(category(retention::CATEGORY))).await;
    assert_eq!(recorded.len(), 4);
    assert!(recorded[0].data.payload.windows(3).any(|text| text == b"why"), "the event contains the reason");
}

/// A scavenge removes exactly the hidden events. Positions, revisions, ids and the head do not change, also after a
/// restart.
pub(super) async fn a_scavenge_removes_hidden_events_and_keeps_all_numbers(harness: &dyn Harness) {
    let store = harness.open().await;
    let first = Commit::to(&stream("a-1"), Any, [tagged("x", &["t"]), event("x")]).append(stream("b-1"), event("x"));
    let ids: Vec<EventId> = first.events().iter().map(|(_, event)| event.data.id).collect();
    commit(&store, first.clone()).await;
    append(&store, "a-1", &["x", "x"]).await;
    append(&store, "c-1", &["x"]).await;
    set(&store, of_category("a"), COUNT(1)).await;
    delete(&store, "c-1", DeleteKind::Hard).await;
    let before = (log(&store).await, visible(&store, "a-1").await);
    let report = scavenge(&store).await;
    assert_eq!((report.events, report.earlier_points), (4, 0));
    assert_eq!(scavenge(&store).await.events, 0, "nothing is left to remove");
    let store = also_reopened(harness, store).await;
    let after = log(&store).await;
    assert_eq!((after[..before.0.len()].to_vec(), visible(&store, "a-1").await), before);
    assert_eq!(store.head().await.expect("the value is read"), Some(at(10)));
    assert_eq!(positions(&store, LogRead::event_type(event_type("x"))).await, [3, 5]);
    assert_eq!(positions(&store, LogRead::all().from(at(4)).backward()).await, [3]);
    // A repeat of a removed event is rejected. In another stream, or with other content, the id is taken as before.
    let repeated = store.commit(first).await;
    let removed = IdConflict::Removed { id: ids[0], position: at(1) };
    assert!(matches!(&repeated, Err(CommitError::IdConflict(found)) if *found == removed), "{repeated:?}");
    let elsewhere = store.commit(Commit::to(&stream("z-1"), Any, [event("x").with_id(ids[0])])).await;
    let taken = IdConflict::Taken { id: ids[0], position: at(1) };
    assert!(matches!(&elsewhere, Err(CommitError::IdConflict(found)) if *found == taken), "{elsewhere:?}");
    // Clearing a rule does not restore removed events.
    commit(&store, Commit::clear_rule(of_category("a"), Note::default())).await;
    assert_eq!(visible(&store, "a-1").await, [3]);
    assert_eq!(revisions(&store, StreamRead::new(stream("a-1")).backward()).await, [3]);
    assert_eq!(revisions(&store, StreamRead::new(stream("a-1")).from(rev(1)).backward()).await, [0; 0]);
    assert_eq!(retained(&store, "a-1").await, Retained { first: rev(3), ..Retained::WHOLE });
    let next = append(&store, "a-1", &["x"]).await;
    assert_eq!((next.position(), next.revision(&stream("a-1"))), (Some(at(12)), Some(rev(4))));
    assert_eq!(visible(&store, "a-1").await, [3, 4]);
}

/// A consumer whose checkpoint is in a removed range continues at the next existing event (R21). The scanned position
/// of a read includes hidden events, so that a checkpoint can pass them.
pub(super) async fn a_checkpoint_in_a_removed_range_continues_after_it(harness: &dyn Harness) {
    let store = harness.open().await;
    for n in 0..40 {
        append(&store, if n < 30 { "a-1" } else { "b-1" }, &["x"]).await;
    }
    set(&store, of_stream("a-1"), BEFORE(30)).await;
    for _ in 0..2 {
        for checkpoint in [None, Some(at(1)), Some(at(17)), Some(at(30))] {
            assert_eq!(positions(&store, LogRead::category(category("b")).after(checkpoint)).await[0], 31);
            assert_eq!(positions(&store, LogRead::all().after(checkpoint).limit(1)).await, [31]);
            let mut events =
                store.read_log(LogRead::category(category("a")).after(checkpoint)).await.expect("the read is opened");
            let head = store.head().await.expect("the value is read");
            assert_eq!(events.next().await.expect("the log is read"), None);
            assert_eq!(events.scanned(), head);
        }
        assert_eq!(positions(&store, LogRead::all().from(at(20)).backward()).await, [0; 0]);
        scavenge(&store).await;
    }
}

/// Tombstones of a copied log keep their positions, revisions and ids.
pub(super) async fn removed_events_can_be_copied(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = EventId::new();
    let copy = Commit::new().append_removed(stream("a-1"), id).append(stream("a-1"), event("x"));
    let copied = commit(&store, copy.clone()).await;
    assert!(copied.events[0].is_removed());
    assert!(commit(&store, copy).await.repeated);
    let store = also_reopened(harness, store).await;
    assert_eq!(visible(&store, "a-1").await, [1]);
    assert_eq!(positions(&store, LogRead::all()).await, [2]);
    assert_eq!(store.find(id).await.expect("the lookup succeeds"), None);
    assert_eq!(retained(&store, "a-1").await, Retained { first: rev(1), ..Retained::WHOLE });
    let rejected = store.commit(Commit::to(&stream("a-1"), Any, [event("x").with_id(id)])).await;
    assert!(matches!(&rejected, Err(CommitError::IdConflict(IdConflict::Removed { .. }))), "{rejected:?}");
    append(&store, "a-1", &["x"]).await;
    assert_eq!(visible(&store, "a-1").await, [1, 2]);
    // A tombstone has no place after an event with content, whether the event is in the store or in the commit.
    for late in [
        Commit::new().append_removed(stream("a-1"), EventId::new()),
        Commit::new().append(stream("b-1"), event("x")).append_removed(stream("b-1"), EventId::new()),
    ] {
        let refused = store.commit(late).await;
        assert!(matches!(&refused, Err(CommitError::Invalid(InvalidCommit::Reserved { .. }))), "{refused:?}");
    }
}

/// Reads and commits succeed during a scavenge, and no read of a stream has a gap.
pub(super) async fn reads_continue_during_a_scavenge(harness: &dyn Harness) {
    let store = harness.open().await;
    let names: Vec<StreamId> = (0..20).map(|n| stream(&format!("a-{n}"))).collect();
    for name in &names {
        commit(&store, Commit::to(name, Any, events(100))).await;
    }
    set(&store, of_category("a"), COUNT(10)).await;
    let scavenging = tokio::spawn({
        let store = store.clone();
        async move { store.scavenge(&Scavenge::default()).await }
    });
    let mut rounds = 0;
    while rounds < 3 || !scavenging.is_finished() {
        rounds += 1;
        for name in &names {
            let found = revisions(&store, StreamRead::new(name.clone())).await;
            assert_eq!(found.len(), 10);
            assert!(found.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{found:?}");
        }
        assert_eq!(positions(&store, LogRead::category(category("a"))).await.len(), 200);
        commit(&store, Commit::to(&names[0], Any, events(1))).await;
    }
    let report = scavenging.await.expect("the task ends").expect("the scavenge succeeds");
    assert_eq!(report.events, 20 * 90 + additionally_removed(&store).await);
}

/// A scavenge that its progress callback stops has removed a part of the hidden events. The next one removes the rest.
pub(super) async fn a_scavenge_can_be_stopped(harness: &dyn Harness) {
    let store = harness.open().await;
    for name in ["a-1", "a-2", "a-3"] {
        append(&store, name, &["x", "x"]).await;
        delete(&store, name, DeleteKind::Soft).await;
    }
    append(&store, "b-1", &["x"]).await;
    let removed = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&removed);
    let progress = move |progress: ScavengeProgress| {
        seen.store(progress.events, Ordering::Relaxed);
        ControlFlow::Break(())
    };
    let stopped = Scavenge { progress: Some(Arc::new(progress)), ..Scavenge::default() };
    let stopped = store.scavenge(&stopped).await.expect("the scavenge stops");
    assert_eq!((stopped.is_complete, stopped.events), (false, 2));
    assert_eq!(removed.load(Ordering::Relaxed), 2, "the callback received the number of removed events");
    let rest = scavenge(&store).await;
    assert_eq!((rest.is_complete, rest.events, rest.earlier_points), (true, 4, 1));
    let store = also_reopened(harness, store).await;
    assert_eq!((visible(&store, "a-2").await, visible(&store, "b-1").await), (vec![], vec![0]));
}

/// Reads return the same before and after a compaction, and commits continue during it.
pub(super) async fn a_compaction_changes_nothing_that_is_read(harness: &dyn Harness) {
    let store = harness.open().await;
    append(&store, "a-1", &["x", "x", "x"]).await;
    set(&store, of_stream("a-1"), BEFORE(1)).await;
    scavenge(&store).await;
    commit(&store, Commit::new().put_row(table("t"), "k", "1")).await;
    let compacting = tokio::spawn({
        let store = store.clone();
        async move { store.compact().await }
    });
    let mut written = 0;
    while written < 3 || !compacting.is_finished() {
        append(&store, "b-1", &["x"]).await;
        written += 1;
        assert_eq!(visible(&store, "a-1").await, [1, 2]);
    }
    compacting.await.expect("the task ends").expect("the store is compacted");
    let store = also_reopened(harness, store).await;
    assert_eq!(visible(&store, "b-1").await.len(), written);
    assert_eq!(row(&store, "t", "k").await.as_deref(), Some(&b"1"[..]));
}

/// Returns the number of events that were hidden by commits between the start of the test and the scavenge point.
async fn additionally_removed(store: &Store) -> u64 {
    let operator_events = read(store, LogRead::category(category(retention::CATEGORY))).await;
    let point = operator_events.last().expect("a scavenge point").position;
    let written = read(store, LogRead::category(category("a")).backward()).await;
    let last =
        written.iter().filter(|event| event.stream == "a-0" && event.position < point).map(|event| event.revision);
    last.max().map_or(0, |last| last.get() - 99)
}
