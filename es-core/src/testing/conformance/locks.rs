//! Cases: prepared transactions lock streams, whatever writes to them.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;

use super::tools::*;
use crate::Commit;
use crate::model::{Metadata, NewEvent, RecordedEvent, TransactionId};
use crate::retention::{DeleteKind, Note};
use crate::store::implement::{DecisionHook, LogView};
use crate::store::transaction::{Prepared, TransactionEvent};
use crate::store::{CommitError, FailedCheck, IdConflict, InvalidCommit, LogRead, Query, StreamRead};

/// Returns a transaction; a greater number is younger.
fn transaction(number: u8) -> TransactionId {
    format!("orders.1.01983c2f-7a51-7b3e-9c55-0000000000{number:02x}").parse().expect("a valid id")
}

/// Returns the decided events of a transaction for one stream.
fn decided(number: u8, events: Vec<NewEvent>) -> Prepared {
    Prepared { transaction: transaction(number), details: json!({"note": "x"}), events }
}

fn encode(name: &str, event: &TransactionEvent) -> NewEvent {
    event.encode(&stream(name)).expect("the event is encoded")
}

/// Returns a commit that prepares a transaction in one stream.
fn prepare(name: &str, prepared: &Prepared) -> Commit {
    let events = Commit::to(&stream(name), Any, prepared.events.clone());
    events.prepare(&prepared.transaction, &prepared.details).expect("the events are encoded")
}

fn finish(name: &str, prepared: &Prepared, event: &TransactionEvent) -> Commit {
    prepared.finish(&stream(name), event, Metadata::new(), Commit::new()).expect("the event is encoded")
}

fn committed(number: u8) -> TransactionEvent {
    TransactionEvent::Committed { transaction: transaction(number), is_heuristic: false }
}

fn aborted(number: u8) -> TransactionEvent {
    TransactionEvent::Aborted { transaction: transaction(number), is_heuristic: false }
}

fn locked(name: &str, number: u8) -> FailedCheck {
    FailedCheck::Locked { stream: stream(name), transaction: transaction(number) }
}

async fn invalid(store: &Store, commit: Commit) -> InvalidCommit {
    match store.commit(commit).await {
        Err(CommitError::Invalid(invalid)) => invalid,
        other => panic!("expected an invalid commit, found {other:?}"),
    }
}

/// While a transaction is prepared, no commit writes, deletes or expects its streams.
pub(super) async fn a_prepared_transaction_locks_its_streams(harness: &dyn Harness) {
    let store = harness.open().await;
    append(&store, "a-1", &["x"]).await;
    let both = Commit::to(&stream("a-1"), Exact(rev(0)), events(2)).append(stream("b-1"), event("y"));
    let both = both.prepare(&transaction(1), &json!({})).expect("the events are encoded");
    assert_eq!(both.events().len(), 2, "one event for each stream");
    commit(&store, both).await;
    for name in ["a-1", "b-1"] {
        let found = conflict(&store, Commit::to(&stream(name), Any, events(1))).await;
        assert_eq!(found, [locked(name, 1)]);
    }
    let checked = Commit::to(&stream("c-1"), Any, events(1)).expect(stream("a-1"), Exact(rev(1)));
    assert_eq!(conflict(&store, checked).await, [locked("a-1", 1)]);
    let all = Commit::to(&stream("a-1"), NoStream, events(1)).append(stream("b-1"), event("x"));
    let found = conflict(&store, all).await;
    assert_eq!(found.len(), 3, "the lock is reported beside the other failed checks: {found:?}");
    append(&store, "c-1", &["x"]).await;
}

/// The commit of the outcome contains the decided events, and nothing else of the stream.
pub(super) async fn a_committed_transaction_writes_exactly_the_decided_events(harness: &dyn Harness) {
    let store = harness.open().await;
    let prepared = decided(1, vec![tagged("x", &["t"]), event("y").claiming(key("k"))]);
    commit(&store, prepare("a-1", &prepared)).await;
    let outcome = encode("a-1", &committed(1));
    let with = |events: Vec<NewEvent>| Commit::to(&stream("a-1"), Any, [vec![outcome.clone()], events].concat());
    for other in [
        vec![],
        vec![prepared.events[0].clone()],
        vec![prepared.events[1].clone(), prepared.events[0].clone()],
        vec![event("x"), prepared.events[1].clone()],
        [prepared.events.clone(), vec![event("z")]].concat(),
    ] {
        assert!(matches!(invalid(&store, with(other)).await, InvalidCommit::Reserved { .. }));
    }
    let written = commit(&store, finish("a-1", &prepared, &committed(1))).await;
    assert_eq!(written.events.len(), 3);
    assert_eq!(read_stream(&store, StreamRead::new(stream("a-1")).from(rev(1))).await, written.events);
    assert_eq!(positions(&store, LogRead::tag(tag("t"))).await, [3]);
    assert_eq!(store.owner(&key("k")).await.expect("the owner is read"), Some(stream("a-1")));
    append(&store, "a-1", &["x"]).await;
    let repeated = commit(&store, finish("a-1", &prepared, &committed(1))).await;
    assert!(repeated.repeated, "the outcome can be repeated");
}

/// An aborted transaction leaves no decided event, and its keys are free.
pub(super) async fn an_aborted_transaction_unlocks_its_streams(harness: &dyn Harness) {
    let store = harness.open().await;
    let prepared = decided(1, vec![event("y").claiming(key("k"))]);
    commit(&store, prepare("a-1", &prepared)).await;
    commit(&store, finish("a-1", &prepared, &aborted(1))).await;
    append(&store, "a-1", &["x"]).await;
    commit(&store, Commit::to(&stream("b-1"), Any, [event("y").claiming(key("k"))])).await;
    let types: Vec<String> = read_stream(&store, StreamRead::new(stream("a-1"))).await.iter().map(type_of).collect();
    assert_eq!(types, ["es.tx-prepared", "es.tx-aborted", "x"]);
}

fn type_of(event: &RecordedEvent) -> String {
    event.data.event_type.to_string()
}

/// An outcome names the transaction that is prepared.
pub(super) async fn only_the_holder_finishes_a_transaction(harness: &dyn Harness) {
    let store = harness.open().await;
    let not_prepared = |number, holder: Option<u8>| FailedCheck::NotPrepared {
        stream: stream("a-1"),
        transaction: transaction(number),
        holder: holder.map(transaction),
    };
    let (first, second) = (decided(1, events(1)), decided(2, events(1)));
    for outcome in [committed(1), aborted(1), TransactionEvent::PreCommitted { transaction: transaction(1) }] {
        assert_eq!(
            conflict(&store, Commit::new().append(stream("a-1"), encode("a-1", &outcome))).await,
            [not_prepared(1, None)]
        );
    }
    commit(&store, prepare("a-1", &first)).await;
    let other = Commit::new().append(stream("a-1"), encode("a-1", &aborted(2)));
    assert_eq!(conflict(&store, other).await, [not_prepared(2, Some(1))]);
    assert_eq!(conflict(&store, prepare("a-1", &second)).await, [locked("a-1", 1)]);
    let pre_committed = TransactionEvent::PreCommitted { transaction: transaction(1) };
    commit(&store, Commit::new().append(stream("a-1"), encode("a-1", &pre_committed))).await;
    assert_eq!(conflict(&store, prepare("a-1", &second)).await, [locked("a-1", 1)], "it is still locked");
    commit(&store, finish("a-1", &first, &committed(1))).await;
    commit(&store, prepare("a-1", &second)).await;
}

/// A store accepts no other events with the types of transactions.
pub(super) async fn events_of_transactions_are_validated(harness: &dyn Harness) {
    let store = harness.open().await;
    let raw = |event_type: &str, payload: String| {
        Commit::new().append(stream("a-1"), NewEvent::json(self::event_type(event_type), payload))
    };
    let id = transaction(1);
    let line = |stream: &str, event_type: &str| format!(r#"{{"stream":"{stream}","type":"{event_type}","data":1}}"#);
    let prepared = |events: String| format!(r#"{{"transaction":"{id}","details":null,"events":[{events}]}}"#);
    for (event_type, payload) in [
        ("es.tx-other", format!(r#"{{"transaction":"{id}"}}"#)),
        ("es.tx-aborted", "{}".to_owned()),
        ("es.tx-aborted", format!(r#"{{"transaction":"{id}","more":1}}"#)),
        ("es.tx-committed", r#"{"transaction":"x"}"#.to_owned()),
        ("es.tx-prepared", prepared(String::new())),
        ("es.tx-prepared", prepared(line("b-1", "x"))),
        ("es.tx-prepared", prepared(line("a-1", "es.removed"))),
        ("es.tx-prepared", prepared(line("a-1", "es.tx-aborted"))),
        ("es.tx-prepared", prepared("1".to_owned())),
    ] {
        let found = invalid(&store, raw(event_type, payload.clone())).await;
        assert!(matches!(found, InvalidCommit::Reserved { .. }), "{event_type} {payload}: {found}");
    }
    let twice = Commit::to(&stream("a-1"), Any, [encode("a-1", &TransactionEvent::Prepared(decided(1, events(1))))]);
    for more in [event("x"), encode("a-1", &TransactionEvent::Prepared(decided(2, events(1))))] {
        let found = invalid(&store, twice.clone().append(stream("a-1"), more)).await;
        assert!(matches!(found, InvalidCommit::Reserved { .. }), "{found}");
    }
    let before = Commit::to(&stream("a-1"), Any, [event("x")]);
    let before = before.append(stream("a-1"), encode("a-1", &TransactionEvent::Prepared(decided(1, events(1)))));
    assert!(matches!(invalid(&store, before).await, InvalidCommit::Reserved { .. }));
    let large = decided(1, vec![event("x").with_id(event("x").data.id); 300].into_iter().map(many_tags).collect());
    assert!(matches!(invalid(&store, prepare("a-1", &large)).await, InvalidCommit::TooManyTags { .. }));
    assert_eq!(store.head().await.expect("the head is read"), None);
}

fn many_tags(event: NewEvent) -> NewEvent {
    (0..300).fold(event, |event, number| event.tagged(tag(&format!("t{number}"))))
}

/// A lock also covers what only depends on the decided events: append conditions, unique keys, and the deletion of the
/// stream.
pub(super) async fn a_lock_covers_conditions_keys_and_deletions(harness: &dyn Harness) {
    let store = harness.open().await;
    append(&store, "a-1", &["x"]).await;
    let prepared = decided(1, vec![tagged("y", &["t"]).claiming(key("k"))]);
    commit(&store, prepare("a-1", &prepared)).await;
    let head = store.head().await.expect("the head is read");
    for query in [Query::all(), LogRead::tag(tag("t")).query, LogRead::category(category("a")).query] {
        let guarded = Commit::to(&stream("b-1"), Any, events(1)).append_if_none(query.clone(), head);
        assert_eq!(conflict(&store, guarded).await, [locked("a-1", 1)], "{query:?}");
    }
    let other = Commit::to(&stream("b-1"), Any, events(1)).append_if_none(LogRead::tag(tag("u")).query, head);
    commit(&store, other).await;
    let claim = Commit::to(&stream("c-1"), Any, [event("x").claiming(key("k"))]);
    assert_eq!(conflict(&store, claim).await, [locked("a-1", 1)]);
    let claim = prepare("c-1", &decided(2, vec![event("x").claiming(key("k"))]));
    assert_eq!(conflict(&store, claim).await, [locked("a-1", 1)], "two transactions claim one key");
    for kind in [DeleteKind::Soft, DeleteKind::Hard] {
        let deletion = Commit::delete_stream(stream("a-1"), kind, Some(rev(1)), Note::default());
        assert_eq!(conflict(&store, deletion).await, [locked("a-1", 1)], "{kind:?}");
    }
    commit(&store, finish("a-1", &prepared, &committed(1))).await;
}

/// A hook that refuses events of one type.
#[derive(Debug)]
struct Refusing;

impl DecisionHook for Refusing {
    fn name(&self) -> &str {
        "refusing"
    }

    fn check(&self, events: &[RecordedEvent], view: &mut dyn LogView) -> Result<(), CommitError> {
        let head = view.head()?.map_or(0, crate::Position::get);
        for event in events {
            assert!(event.position.get() > head + 1, "the decided events follow the prepared one");
            assert_eq!(event.revision, rev(4), "after the event of the outcome");
            if event.data.event_type == "refused" {
                return Err(CommitError::Rejected("refused by the hook".into()));
            }
        }
        Ok(())
    }
}

/// What could refuse the decided events refuses the preparation: conditions, keys of others, ids, and hooks.
pub(super) async fn everything_is_decided_when_it_is_prepared(harness: &dyn Harness) {
    let store = harness.open_with(vec![Arc::new(Arc::new(Refusing))]).await;
    append(&store, "a-1", &["x"]).await;
    let held = Commit::to(&stream("b-1"), Any, [event("x").claiming(key("k"))]);
    let held = commit(&store, held).await;
    let claim = prepare("a-1", &decided(1, vec![event("x").claiming(key("k"))]));
    let found = conflict(&store, claim).await;
    assert!(matches!(&found[..], [FailedCheck::UniqueKey { .. }]), "{found:?}");
    let stale = Commit::to(&stream("a-1"), NoStream, events(1)).prepare(&transaction(1), &json!({}));
    let found = conflict(&store, stale.expect("the events are encoded")).await;
    assert_eq!(found, [revision_check("a-1", NoStream, Some(0))]);
    let used = decided(1, vec![event("x").with_id(held.events[0].data.id)]);
    let found = store.commit(prepare("a-1", &used)).await;
    assert!(matches!(found, Err(CommitError::IdConflict(IdConflict::Taken { .. }))), "{found:?}");
    append(&store, "a-1", &["x"]).await;
    assert_eq!(append(&store, "c-1", &["x"]).await.events.len(), 1, "the hook checks no other events");
    commit(&store, prepare("a-1", &decided(1, vec![event("x")]))).await;
}

/// A preparation that a hook refuses, in a batch or alone, leaves the stream unlocked.
pub(super) async fn a_refused_preparation_leaves_no_lock(harness: &dyn Harness) {
    let store = harness.open_with(vec![Arc::new(Arc::new(Refusing))]).await;
    append(&store, "a-1", &["x", "x"]).await;
    let refused = store.commit(prepare("a-1", &decided(1, vec![event("refused")]))).await;
    assert!(matches!(refused, Err(CommitError::Rejected(_))), "{refused:?}");
    append(&store, "b-1", &["x", "x"]).await;
    let refused = prepare("b-1", &decided(1, vec![event("refused")]));
    let results = store.commit_all(vec![refused, Commit::to(&stream("b-1"), Any, events(1))]).await;
    assert!(results[0].is_err() && results[1].is_ok(), "{results:?}");
    append(&store, "a-1", &["x"]).await;
}

/// A repeated commit returns its first result although the stream has been locked since.
pub(super) async fn a_repeat_is_recognized_beside_a_lock(harness: &dyn Harness) {
    let store = harness.open().await;
    let first = Commit::to(&stream("a-1"), NoStream, events(2));
    commit(&store, first.clone()).await;
    let preparation = prepare("a-1", &decided(1, events(1)));
    commit(&store, preparation.clone()).await;
    assert!(commit(&store, first).await.repeated);
    assert!(commit(&store, preparation).await.repeated);
}

/// A store that is opened again has the locks of all transactions in doubt.
pub(super) async fn locks_survive_a_restart(harness: &dyn Harness) {
    let store = harness.open().await;
    let prepared = decided(1, vec![event("x").claiming(key("k"))]);
    commit(&store, prepare("a-1", &prepared)).await;
    commit(&store, prepare("b-1", &decided(2, events(1)))).await;
    commit(&store, finish("b-1", &decided(2, vec![]), &aborted(2))).await;
    let Some(store) = harness.reopen(store).await else { return };
    assert_eq!(conflict(&store, Commit::to(&stream("a-1"), Any, events(1))).await, [locked("a-1", 1)]);
    append(&store, "b-1", &["x"]).await;
    let claim = Commit::to(&stream("c-1"), Any, [event("x").claiming(key("k"))]);
    assert_eq!(conflict(&store, claim).await, [locked("a-1", 1)]);
    commit(&store, finish("a-1", &prepared, &committed(1))).await;
    let Some(store) = harness.reopen(store).await else { return };
    append(&store, "a-1", &["x"]).await;
}

/// Of concurrent transactions, one is prepared.
pub(super) async fn one_transaction_locks_a_stream(harness: &dyn Harness) {
    let store = harness.open().await;
    let commits = (1..=20).map(|number| prepare("a-1", &decided(number, events(1))));
    let results = join_all(commits.map(|commit| store.commit(commit))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(positions(&store, LogRead::all()).await, [1]);
}

/// A copy of a log has the recorded times, and perhaps more tags or a tombstone for the prepared event. It is accepted.
pub(super) async fn a_log_with_transactions_can_be_copied(harness: &dyn Harness) {
    let source = harness.open().await;
    let prepared = decided(1, vec![tagged("x", &["t"]).claiming(key("k"))]);
    commit(&source, prepare("a-1", &prepared)).await;
    commit(&source, finish("a-1", &prepared, &committed(1))).await;
    for removes_prepared in [false, true] {
        let copy = harness.open().await;
        let (mut commits, mut last) = (Vec::new(), None);
        for record in log(&source).await {
            let mut event = NewEvent::from(record.data.clone()).occurred_at(record.occurred_at).tagged(tag("more"));
            let is_first = record.part.index == 0;
            let next = if is_first { Commit::new() } else { last.take().expect("a commit") };
            let next = if removes_prepared && record.position == at(1) {
                event.data = record.without_content().data;
                next.append_removed(record.stream, event.data.id)
            } else {
                next.append(record.stream, event)
            };
            last = Some(next.recorded_at(record.recorded_at));
            if record.part.is_last() {
                commits.extend(last.take());
            }
        }
        for result in copy.commit_all(commits).await {
            result.expect("the copy is written");
        }
        assert_eq!(copy.owner(&key("k")).await.expect("the owner is read"), Some(stream("a-1")));
        append(&copy, "a-1", &["y"]).await;
    }
}

/// What can never be committed is not prepared: ids that repeat or are missing, and a stream that the commit deletes.
pub(super) async fn what_cannot_be_committed_is_not_prepared(harness: &dyn Harness) {
    let store = harness.open().await;
    append(&store, "a-1", &["x"]).await;
    let one = event("x");
    let twice = decided(1, vec![one.clone(), one.clone()]);
    assert!(matches!(invalid(&store, prepare("a-1", &twice)).await, InvalidCommit::SameIdTwice { .. }));
    let line = r#"{"stream":"a-1","type":"x","data":1}"#;
    let payload = format!(r#"{{"transaction":"{}","details":null,"events":[{line}]}}"#, transaction(1));
    let without_id = Commit::new().append(stream("a-1"), NewEvent::json(event_type("es.tx-prepared"), payload));
    assert!(matches!(invalid(&store, without_id).await, InvalidCommit::Reserved { .. }));
    let deletion = Commit::delete_stream(stream("a-1"), DeleteKind::Hard, Some(rev(0)), Note::default());
    let both = deletion.append(stream("a-1"), encode("a-1", &TransactionEvent::Prepared(decided(1, vec![one]))));
    assert!(matches!(invalid(&store, both).await, InvalidCommit::Reserved { .. }));
    append(&store, "a-1", &["x"]).await;
}
