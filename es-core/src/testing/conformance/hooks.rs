//! Cases: [hooks](DecisionHook) take part in the decision on each commit.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::watch;

use super::tools::*;
use crate::Commit;
use crate::model::{Category, Dot, HybridTime, OriginId, Position, RecordedEvent, RetiredOrigins, Stamp};
use crate::retention::{DeleteKind, Note, OperatorEvent, Scavenge};
use crate::store::implement::RowChange;
use crate::store::implement::{DecisionHook, LogView, Replication, SettledTime, ValidCommit};
use crate::store::{
    CommitError, EventStore, InvalidCommit, LogRead, MAX_COMMIT_BYTES, QueryItem, StoreError, StreamRead,
};

/// A hook that the types of the events control. It counts all events in a row.
#[derive(Debug)]
struct Directed;

/// The error of [`Directed`].
#[derive(Debug, PartialEq, Eq)]
struct HookRefusal(&'static str);

impl fmt::Display for HookRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused {}", self.0)
    }
}

impl std::error::Error for HookRefusal {}

fn has(commit: &Commit, event_type: &str) -> bool {
    commit.events().iter().any(|(_, event)| event.data.event_type == event_type)
}

fn change(key: &'static str, value: impl Into<bytes::Bytes>) -> RowChange {
    RowChange { table: table("hooked"), key: key.into(), value: Some(value.into()) }
}

fn stamp() -> Stamp {
    let dot = Dot { origin: OriginId::new(7), sequence: NonZeroU64::MIN };
    Stamp { dot, time: HybridTime::from_bits(1), seen: None, command: None }
}

impl DecisionHook for Directed {
    fn name(&self) -> &str {
        "directed"
    }

    fn before(&self, commit: &mut ValidCommit, view: &mut dyn LogView) -> Result<(), CommitError> {
        if has(commit, "refused-before") {
            return Err(CommitError::Rejected(Box::new(HookRefusal("before"))));
        }
        if has(commit, "last-of-stream") {
            let stream = commit.events()[0].0.clone();
            let (kind, through) = (DeleteKind::Soft, view.revision(&stream)?);
            let deleted = OperatorEvent::StreamDeleted { stream, kind, through, note: Note::default() };
            commit.add_local_events(vec![deleted.encode()])?;
        }
        commit.stamp_events(|_, event| (event.data.event_type == "to-stamp").then(stamp))?;
        Ok(commit.retain_events(|_, event| event.data.event_type != "dropped")?)
    }

    fn after(
        &self,
        commit: &mut ValidCommit,
        events: &[RecordedEvent],
        view: &mut dyn LogView,
    ) -> Result<(), CommitError> {
        let has = |event_type: &str| events.iter().any(|event| event.data.event_type == event_type);
        if has("refused-after") {
            return Err(CommitError::Rejected(Box::new(HookRefusal("after"))));
        }
        if has("changed-late") {
            commit.retain_events(|_, _| false)?;
        }
        if has("too-much") {
            commit.add_rows(vec![change("large", vec![0; MAX_COMMIT_BYTES])])?;
        }
        let stored = view.row(&table("hooked"), b"count")?;
        let before: u64 =
            stored.map_or(0, |value| std::str::from_utf8(&value).expect("digits").parse().expect("a number"));
        let count = before + events.len() as u64;
        Ok(commit.add_rows(vec![change("count", count.to_string())])?)
    }
}

/// A hook of a replica, of which one origin is the own one.
#[derive(Debug)]
struct Replicating(OriginId);

#[async_trait]
impl Replication for Replicating {
    fn is_own_origin(&self, origin: OriginId) -> bool {
        origin == self.0
    }
    fn replicates(&self, _: &Category) -> bool {
        false
    }
    fn retired_origins(&self) -> RetiredOrigins {
        RetiredOrigins::default()
    }
    async fn settled(&self, _: &dyn EventStore) -> Result<SettledTime, StoreError> {
        Ok(SettledTime::default())
    }
    fn watch_settled(&self) -> watch::Receiver<()> {
        watch::Sender::new(()).subscribe()
    }
    async fn stored_after(
        &self,
        _: &dyn EventStore,
        _: OriginId,
        _: u64,
        _: usize,
    ) -> Result<Vec<(Dot, Position)>, StoreError> {
        Ok(Vec::new())
    }
}

impl DecisionHook for Replicating {
    fn name(&self) -> &str {
        "replicating"
    }
    fn replication(self: Arc<Self>) -> Option<Arc<dyn Replication>> {
        Some(self)
    }
}

/// A store asks the hook of a replica which origins are those of the node. Without one, every origin is.
pub(super) async fn a_store_knows_its_own_origins_from_a_hook(harness: &dyn Harness) {
    let (own, other) = (OriginId::new(7), OriginId::new(8));
    let store = harness.open_with(vec![std::sync::Arc::new(std::sync::Arc::new(Replicating(own)))]).await;
    assert_eq!([own, other].map(|origin| store.is_own_origin(origin)), [true, false]);
    let replication = store.replication().expect("a hook replicates");
    assert_eq!([own, other].map(|origin| replication.is_own_origin(origin)), [true, false]);
    let store = open(harness).await;
    assert_eq!([own, other].map(|origin| store.is_own_origin(origin)), [true, true]);
    assert!(store.replication().is_none());
}

async fn open(harness: &dyn Harness) -> Store {
    harness.open_with(vec![std::sync::Arc::new(std::sync::Arc::new(Directed))]).await
}

async fn count(store: &Store) -> u64 {
    let value = row(store, "hooked", "count").await.expect("the hook has written the row");
    std::str::from_utf8(&value).expect("digits").parse().expect("a number")
}

/// A hook rejects a commit with its own error, before or after the decision, and nothing is written.
pub(super) async fn a_hook_rejects_a_commit_with_its_own_error(harness: &dyn Harness) {
    let store = open(harness).await;
    append(&store, "a-1", &["x"]).await;
    for (event_type, phase) in [("refused-before", "before"), ("refused-after", "after")] {
        let refused = Commit::to(&stream("a-1"), Any, [event("x"), event(event_type)]).put_row(table("t"), "k", "v");
        match store.commit(refused).await {
            Err(CommitError::Rejected(error)) => assert_eq!(error.downcast_ref(), Some(&HookRefusal(phase))),
            other => panic!("expected the error of the hook, found {other:?}"),
        }
    }
    assert_eq!((positions(&store, LogRead::all()).await, row(&store, "t", "k").await), (vec![1], None));
    assert_eq!(count(&store).await, 1);
}

/// A hook cannot exceed the limits of a commit, and cannot change events that have positions.
pub(super) async fn a_hook_cannot_exceed_the_limits(harness: &dyn Harness) {
    let store = open(harness).await;
    let too_much = store.commit(Commit::to(&stream("a-1"), Any, [event("too-much")])).await;
    assert!(matches!(too_much, Err(CommitError::Invalid(InvalidCommit::TooManyBytes { .. }))), "{too_much:?}");
    let late = store.commit(Commit::to(&stream("a-1"), Any, [event("changed-late")])).await;
    assert!(matches!(late, Err(CommitError::Invalid(InvalidCommit::Numbered))), "{late:?}");
    assert_eq!(store.head().await.expect("the head is read"), None);
}

/// The rows that a hook adds are written with the commit. Each commit sees the rows of earlier ones, also within one
/// write.
pub(super) async fn a_hook_adds_rows_and_sees_earlier_commits(harness: &dyn Harness) {
    let store = open(harness).await;
    assert!(store.runs_hook("directed") && !store.runs_hook("another"));
    let commits: Vec<Commit> = (0..100).map(|_| Commit::to(&stream("a-1"), Any, events(2))).collect();
    assert!(store.commit_all(commits.clone()).await.iter().all(Result::is_ok));
    assert_eq!(count(&store).await, 200);
    let concurrent = (0..100).map(|number| Commit::to(&stream(&format!("b-{number}")), Any, events(1)));
    for result in join_all(concurrent.map(|commit| store.commit(commit))).await {
        assert!(!result.expect("the commit is written").repeated);
    }
    assert_eq!(count(&store).await, 300);
    let repeat = store.commit(commits[7].clone()).await.expect("the commit is repeated");
    assert!(repeat.repeated);
    assert_eq!(count(&store).await, 300, "a repeated commit changes nothing");
}

/// Events that a hook drops before the decision are not written. The others are written as one commit.
pub(super) async fn a_hook_drops_events(harness: &dyn Harness) {
    let store = open(harness).await;
    let kept = tagged("kept", &["t"]);
    let commit = Commit::to(&stream("a-1"), NoStream, [event("dropped"), kept.clone(), event("dropped"), event("x")]);
    let committed = store.commit(commit).await.expect("the commit is written");
    assert_eq!(numbers(&committed.events), [1, 2]);
    assert_eq!((committed.events[1].part.index, committed.events[1].part.size), (1, 2));
    assert_eq!(committed.events[0].data, kept.data);
    assert_eq!(read_stream(&store, StreamRead::new(stream("a-1"))).await, committed.events);
    assert_eq!(positions(&store, LogRead::tag(tag("t"))).await, [1]);
    let nothing =
        store.commit(Commit::to(&stream("a-1"), Any, [event("dropped")])).await.expect("the commit is written");
    assert_eq!((nothing.events.len(), positions(&store, LogRead::all()).await), (0, vec![1, 2]));
}

/// A hook deletes the events of a stream in the commit of its last event.
pub(super) async fn a_hook_adds_events(harness: &dyn Harness) {
    let store = open(harness).await;
    append(&store, "a-1", &["x", "x"]).await;
    append(&store, "b-1", &["x"]).await;
    let last = Commit::to(&stream("a-1"), Any, [event("last-of-stream")]);
    let committed = store.commit(last).await.expect("the commit is written");
    assert_eq!(numbers(&committed.events), [4, 5]);
    assert_eq!((committed.events[1].part.index, committed.events[1].part.size), (1, 2));
    let check = async |store: &Store| {
        assert_eq!(read_stream(store, StreamRead::new(stream("a-1"))).await, committed.events[..1]);
        let retained = store.retained(&stream("a-1")).await.expect("the range is read");
        assert_eq!((retained.begins, retained.is_ended), (rev(2), false));
        assert_eq!(positions(store, LogRead::matching(QueryItem::erasures())).await, [5]);
    };
    check(&store).await;
    let report = store.scavenge(&Scavenge::default()).await.expect("the scavenge ends");
    assert_eq!(report.events, 2);
    check(&store).await;
    let Some(store) = harness.reopen(store).await else { return };
    check(&store).await;
}

/// A hook can stamp events. The stamps are stored.
pub(super) async fn a_hook_stamps_events(harness: &dyn Harness) {
    let store = open(harness).await;
    let commit = Commit::to(&stream("a-1"), Any, [event("x"), event("to-stamp")]);
    let committed = store.commit(commit.clone()).await.expect("the commit is written");
    assert_eq!(committed.events[1].data.stamp.as_deref(), Some(&stamp()));
    assert_eq!(committed.events[0].data.stamp, None);
    assert_eq!(read_stream(&store, StreamRead::new(stream("a-1"))).await, committed.events);
    let Some(store) = harness.reopen(store).await else { return };
    assert_eq!(read_stream(&store, StreamRead::new(stream("a-1"))).await, committed.events);
    let repeat = store.commit(commit).await.expect("the commit is repeated");
    assert!(repeat.repeated, "an event without a stamp is a repeat of the stamped one");
}
