//! Cases: copies of other logs, with recorded times, many commits at once, and commits of other nodes.

use std::num::NonZeroU64;

use super::tools::*;
use crate::Commit;
use crate::model::{Dot, HybridTime, NewEvent, OriginId, RecordedEvent, Stamp, Timestamp};
use crate::retention::{DeleteKind, Note, Scavenge};
use crate::store::QueryItem;
use crate::store::{CommitError, FailedCheck, InvalidCommit, LogRead, StreamRead, delete_stream};

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(seconds, 0).expect("a time")
}

/// Returns an event that another node decided.
fn foreign_event(sequence: u64) -> NewEvent {
    let mut event = event("y");
    let dot = Dot { origin: OriginId::new(7), sequence: NonZeroU64::new(sequence).expect("sequences start at 1") };
    event.data.stamp = Some(Box::new(Stamp { dot, time: HybridTime::at(time(1000)), seen: None, command: None }));
    event
}

/// A commit is recorded at its given time, or at the last recorded time of the log if that is later.
pub(super) async fn a_commit_can_have_a_recorded_time(harness: &dyn Harness) {
    let store = harness.open().await;
    let mut recorded = Vec::new();
    for seconds in [1000, 2000, 1500] {
        let commit = Commit::to(&stream("a-1"), Any, events(1)).recorded_at(time(seconds));
        recorded.push(store.commit(commit).await.expect("the commit is written").events[0].recorded_at);
    }
    assert_eq!(recorded, [time(1000), time(2000), time(2000)]);
    let by_clock = append(&store, "a-1", &["x"]).await.events[0].recorded_at;
    assert!(by_clock > time(1_000_000_000), "without a given time the clock of the store is used: {by_clock}");
    let late = Commit::to(&stream("a-1"), Any, events(1)).recorded_at(time(3000));
    let first = store.commit(late.clone()).await.expect("the commit is written");
    assert_eq!(first.events[0].recorded_at, by_clock);
    assert!(
        store.commit(late.recorded_at(time(4000))).await.expect("the same ids").repeated,
        "the recorded time is not part of the content"
    );
}

/// Commits that are written together are decided one after the other, and the results have the same order.
pub(super) async fn commit_all_returns_one_result_per_commit_in_order(harness: &dyn Harness) {
    let store = harness.open().await;
    assert!(store.commit_all(Vec::new()).await.is_empty());
    let first = Commit::to(&stream("a-1"), NoStream, events(2));
    let twice = event("x");
    let results = store
        .commit_all(vec![
            first.clone(),
            Commit::to(&stream("a-1"), NoStream, events(1)),
            Commit::to(&stream("a-1"), Any, [twice.clone(), twice]),
            Commit::to(&stream("a-1"), Exact(rev(1)), events(1)),
            first,
            Commit::new().put_row(table("t"), "k", "v").expect(stream("a-1"), Exact(rev(2))),
        ])
        .await;
    assert_eq!(results.len(), 6);
    assert!(matches!(&results[0], Ok(committed) if numbers(&committed.events) == [1, 2] && !committed.repeated));
    assert!(matches!(&results[1], Err(CommitError::Conflict(_))), "{:?}", results[1]);
    assert!(matches!(&results[2], Err(CommitError::Invalid(InvalidCommit::SameIdTwice { .. }))), "{:?}", results[2]);
    assert!(matches!(&results[3], Ok(committed) if numbers(&committed.events) == [3]), "{:?}", results[3]);
    assert!(matches!(&results[4], Ok(committed) if committed.repeated), "{:?}", results[4]);
    assert!(matches!(&results[5], Ok(committed) if committed.events.is_empty()), "{:?}", results[5]);
    assert_eq!(row(&store, "t", "k").await.as_deref(), Some(&b"v"[..]));
    let many: Vec<Commit> = (0..3000).map(|_| Commit::to(&stream("b-1"), Any, events(1))).collect();
    for (number, result) in (4..).zip(store.commit_all(many).await) {
        assert_eq!(numbers(&result.expect("the commit is written").events), [number]);
    }
}

/// A foreign commit cannot have conditions, and cannot write to reserved streams.
pub(super) async fn a_foreign_commit_has_no_conditions(harness: &dyn Harness) {
    let store = harness.open().await;
    let foreign = || Commit::foreign().append(stream("a-1"), foreign_event(1));
    for refused in [
        foreign().expect(stream("a-1"), Any),
        foreign().append_if_none(QueryItem::new(), None),
        foreign().append(stream("a-1"), foreign_event(2).claiming(key("k"))),
        foreign().append(stream("a-1"), foreign_event(2).releasing(key("k"))),
    ] {
        let result = store.commit(refused).await;
        assert!(matches!(result, Err(CommitError::Invalid(InvalidCommit::ForeignCondition { .. }))), "{result:?}");
    }
    let rule = Commit::delete_stream(stream("a-1"), DeleteKind::Hard, None, Note::default());
    for (stream, mut event) in rule.events().iter().cloned() {
        let unstamped = store.commit(Commit::foreign().append(stream.clone(), event.clone())).await;
        let is_refused = matches!(unstamped, Err(CommitError::Invalid(InvalidCommit::ForeignWithoutStamp { .. })));
        assert!(is_refused, "{unstamped:?}");
        event.data.stamp = foreign_event(1).data.stamp;
        let reserved = store.commit(Commit::foreign().append(stream, event)).await;
        assert!(matches!(reserved, Err(CommitError::Invalid(InvalidCommit::Reserved { .. }))), "{reserved:?}");
    }
    let fact = foreign().put_row(table("t"), "k", "v").recorded_at(time(1000));
    let committed = commit(&store, fact.clone()).await;
    assert_eq!((numbers(&committed.events), committed.events[0].recorded_at), (vec![1], time(1000)));
    assert!(store.commit(fact).await.expect("the same ids").repeated);
}

/// A foreign commit is written as a whole, with its stamps, also after a restart.
pub(super) async fn a_foreign_commit_is_written_as_a_whole(harness: &dyn Harness) {
    let store = harness.open().await;
    append(&store, "a-1", &["x"]).await;
    let foreign = Commit::foreign()
        .append(stream("a-1"), foreign_event(1))
        .append(stream("b-1"), foreign_event(2))
        .put_row(table("t"), "k", "v");
    let given: Vec<NewEvent> = foreign.events().iter().map(|(_, event)| event.clone()).collect();
    let written = commit(&store, foreign.clone()).await.events;
    check_foreign(&store, &written, &given).await;
    let Some(store) = harness.reopen(store).await else { return };
    check_foreign(&store, &written, &given).await;
    assert!(commit(&store, foreign).await.repeated, "a written commit is recognized");
    check_foreign(&store, &written, &given).await;
}

/// Checks that the store has one event of its own and the whole foreign commit.
async fn check_foreign(store: &Store, written: &[RecordedEvent], given: &[NewEvent]) {
    assert_eq!(log(store).await[1..], *written);
    assert_eq!(read_stream(store, StreamRead::new(stream("b-1"))).await, written[1..]);
    assert_eq!(row(store, "t", "k").await.as_deref(), Some(&b"v"[..]));
    for (event, recorded) in given.iter().zip(written) {
        let found = store.find(event.data.id).await.expect("the lookup succeeds");
        assert_eq!(found.as_ref(), Some(recorded));
        assert_eq!(recorded.data, event.data, "the stamp is unchanged");
    }
}

/// A hard-deleted stream takes foreign events, so that replication does not stop, and hides them. No number is reused.
pub(super) async fn a_foreign_event_of_a_hard_deleted_stream_stays_hidden(harness: &dyn Harness) {
    let store = harness.open().await;
    append(&store, "a-1", &["x", "x"]).await;
    delete_stream(&*store, &stream("a-1"), DeleteKind::Hard, Any, Note::default())
        .await
        .expect("the stream is deleted");
    let foreign = Commit::foreign().append(stream("a-1"), foreign_event(1));
    let committed = commit(&store, foreign.clone()).await;
    assert_eq!((numbers(&committed.events), committed.events[0].revision), (vec![4], rev(2)));
    check_hidden(&store, &committed.events[0]).await;
    assert!(commit(&store, foreign).await.repeated);
    let local = conflict(&store, Commit::to(&stream("a-1"), Any, events(1))).await;
    assert!(matches!(local[..], [FailedCheck::Deleted { .. }]), "{local:?}");
    let removed = store.scavenge(&Scavenge::default()).await.expect("the store is scavenged").events;
    assert_eq!(removed, 3);
    let second = Commit::foreign().append(stream("a-1"), foreign_event(2));
    let second = store.commit(second).await.expect("the commit is written");
    assert_eq!((numbers(&second.events), second.events[0].revision), (vec![6], rev(3)));
    check_hidden(&store, &second.events[0]).await;
    if let Some(reopened) = harness.reopen(store).await {
        check_hidden(&reopened, &second.events[0]).await;
    }
}

/// Checks that no read returns the last event of a stream, and that the stream has its revision.
async fn check_hidden(store: &Store, event: &RecordedEvent) {
    assert_eq!(read_stream(store, StreamRead::new(event.stream.clone())).await, []);
    assert_eq!(positions(store, LogRead::category(event.stream.category())).await, [0; 0]);
    assert_eq!(store.find(event.data.id).await.expect("the lookup succeeds"), None);
    assert_eq!(store.revision(&event.stream).await.expect("the value is read"), Some(event.revision));
}

/// A foreign event of a soft-deleted stream continues at the next revision. The deleted events stay hidden.
pub(super) async fn a_foreign_event_does_not_revive_a_soft_deleted_stream(harness: &dyn Harness) {
    let store = harness.open().await;
    append(&store, "a-1", &["x", "x"]).await;
    delete_stream(&*store, &stream("a-1"), DeleteKind::Soft, Any, Note::default())
        .await
        .expect("the stream is deleted");
    let committed = commit(&store, Commit::foreign().append(stream("a-1"), foreign_event(1))).await;
    assert_eq!(committed.events[0].revision, rev(2));
    assert_eq!(read_stream(&store, StreamRead::new(stream("a-1"))).await, committed.events);
}

/// Names that start with `es.` are reserved for the framework.
pub(super) async fn reserved_names_are_rejected(harness: &dyn Harness) {
    let store = harness.open().await;
    for refused in [
        Commit::to(&stream("a-1"), Any, [event("es.x")]),
        Commit::to(&stream("es.x-1"), Any, [event("x")]),
        Commit::to(&stream("es.x"), Any, [event("x")]),
    ] {
        let result = store.commit(refused).await;
        assert!(matches!(result, Err(CommitError::Invalid(InvalidCommit::Reserved { .. }))), "{result:?}");
    }
    append(&store, "es-1", &["es", "escorted"]).await;
    assert_eq!(store.head().await.expect("the value is read"), Some(at(2)));
}
