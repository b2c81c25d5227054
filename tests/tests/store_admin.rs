//! `StoreAdmin` on an open store: a writer, a reader, a subscription and a projection run during each operation. Case 7
//! of `user` and issue 13: a service need not stop.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use es_core::aggregate::snapshot;
use es_core::model::Category;
use es_core::prelude::*;
use es_core::projection::ProjectionOptions;
use es_core::projection::view::{View, Views};
use es_core::retention::{DeleteKind, Note, Rule, Scavenge, Scope};
use es_core::store::{InvalidCommit, QueryItem, RowScan, StoreAdmin};
use es_core::{Commit, CommitError, EventType, NewEvent, RecordedEvent, StreamId, StreamRead, Subscription};
use es_tests::account::{Account, Deposit, Open};
use es_tests::stores::on_every_store;
use es_tests::supervised::{TIMEOUT, start};

type Store = Arc<dyn EventStore>;

/// The streams that the operations are for, and the events of each.
const OLD_STREAMS: u64 = 8;
const OLD_EVENTS: u64 = 150;
/// The number of commits that the writer writes at least during an operation.
const COMMITS: u64 = 20;
/// The pause between two commits or reads: the memory store scans its whole log for each read.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(1);

const BUSY: View<(), u64> = View::new("busy");

/// Counts the events of the category `busy`.
struct BusyEvents;

impl Projection for BusyEvents {
    type Source = RawEvents;
    const NAME: &'static str = "busy-events";

    fn query(&self) -> es_core::store::Query {
        QueryItem::new().category(category("busy")).into()
    }

    fn apply(&self, _: &RecordedEvent, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        rows.view(&BUSY)?.update(&(), |count| *count += 1)
    }
}

fn category(name: &str) -> Category {
    Category::new(name).expect("a name")
}

fn stream(name: &str) -> StreamId {
    StreamId::new(name).expect("a name")
}

fn append(name: &str, count: u64) -> Commit {
    let event = |_| NewEvent::json(EventType::new("happened").expect("a name"), r#"{"text":"content"}"#);
    Commit::to(&stream(name), ExpectedRevision::Any, (0..count).map(event))
}

async fn read(store: &Store, name: &str) -> Vec<RecordedEvent> {
    let events = store.read_stream(StreamRead::new(stream(name))).await.expect("the read is opened");
    events.collect().await.expect("the stream is read")
}

/// Writes to the stream `busy-1` until it is told to stop, and returns the number of its events.
async fn write(store: Store, stop: Arc<AtomicBool>) -> u64 {
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        store.commit(append("busy-1", 1)).await.expect("a commit succeeds during the operation");
        written += 1;
        tokio::time::sleep(PAUSE).await;
    }
    written
}

/// Reads the stream `kept-1` until it is told to stop, and expects the same events each time.
async fn read_repeatedly(store: Store, stop: Arc<AtomicBool>) {
    let expected = read(&store, "kept-1").await;
    while !stop.load(Ordering::Relaxed) {
        assert_eq!(read(&store, "kept-1").await, expected);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Receives the events of the category `busy` up to this revision, and expects each of them once, in order.
async fn follow(store: Store, last: u64) {
    let busy = QueryItem::new().category(category("busy"));
    let mut subscription = Subscription::new(store, busy, None).expect("from the start");
    let mut next = 0;
    while next <= last {
        for event in subscription.next().await.expect("the subscription continues").events {
            assert_eq!(event.revision.get(), next, "the next event of the stream");
            next += 1;
        }
    }
}

/// Runs an operation on every store while a writer, a reader, a subscription and a projection use the store.
fn beside_a_service(operation: &impl AsyncFn(&Store, StoreAdmin)) {
    on_every_store(async |store: Store| {
        for number in 0..OLD_STREAMS {
            store.commit(append(&format!("old-{number}"), OLD_EVENTS)).await.expect("committed");
        }
        store.commit(append("kept-1", 30)).await.expect("committed");
        let (running, projection) = start(&store, BusyEvents, ProjectionOptions::new());
        let stop = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn(write(store.clone(), stop.clone()));
        let reader = tokio::spawn(read_repeatedly(store.clone(), stop.clone()));
        let follower = tokio::spawn(follow(store.clone(), COMMITS));

        operation(&store, StoreAdmin::new(store.clone())).await;

        tokio::time::timeout(TIMEOUT, follower).await.expect("in time").expect("each event once, in order");
        stop.store(true, Ordering::Relaxed);
        let written = writer.await.expect("the writer succeeds");
        reader.await.expect("the reader succeeds");
        let head = store.head().await.expect("read");
        projection.wait_for(head, TIMEOUT).await.expect("the projection follows");
        let counted = Views::of::<BusyEvents>(store.clone()).view(&BUSY).get(&()).await.expect("read");
        assert_eq!(counted, Some(written), "the projection counts each event once");
        running.shutdown(TIMEOUT).await.expect("it stops");
    });
}

#[test]
fn streams_are_deleted_beside_a_service() {
    beside_a_service(&async |store, admin| {
        for (number, kind) in [(0, DeleteKind::Soft), (1, DeleteKind::Hard)] {
            let name = format!("old-{number}");
            let (expected, note) = (ExpectedRevision::StreamExists, Note::default());
            admin.delete_stream(&stream(&name), kind, expected, note).await.expect("deleted");
            assert_eq!(read(store, &name).await, []);
        }
        assert_eq!(admin.retention().await.expect("read").deletions().count(), 2);
    });
}

#[test]
fn rules_are_set_and_cleared_beside_a_service() {
    beside_a_service(&async |store, admin| {
        let scope = Scope::Category(category("old"));
        let rule = Rule { max_count: Some(10), ..Rule::default() };
        admin.set_rule(scope.clone(), rule, Note::default()).await.expect("set");
        assert_eq!(read(store, "old-3").await.len(), 10);
        assert_eq!(admin.retention().await.expect("read").rules().collect::<Vec<_>>(), [(scope.clone(), rule)]);
        admin.clear_rule(scope, Note::default()).await.expect("cleared");
        assert_eq!(read(store, "old-3").await.len() as u64, OLD_EVENTS);
        assert_eq!(admin.retention().await.expect("read").rules().count(), 0);
    });
}

/// A rule with a typing error would hide all events that are written later.
#[test]
fn a_truncation_of_a_category_ahead_of_its_streams_is_refused() {
    beside_a_service(&async |store, admin| {
        let scope = Scope::Category(category("old"));
        let truncate = |first| Rule { truncate_before: Some(Revision::new(first)), ..Rule::default() };
        let refused = admin.set_rule(scope.clone(), truncate(OLD_EVENTS + 1), Note::default()).await;
        let (end, found) = (Revision::new(OLD_EVENTS), Revision::new(OLD_EVENTS + 1));
        let expected = InvalidCommit::TruncationAhead { category: category("old"), end, found };
        assert!(matches!(refused, Err(CommitError::Invalid(ref error)) if *error == expected), "{refused:?}");
        assert_eq!(read(store, "old-3").await.len() as u64, OLD_EVENTS);
        admin.set_rule(scope, truncate(OLD_EVENTS), Note::default()).await.expect("set");
        assert_eq!(read(store, "old-3").await, []);
    });
}

#[test]
fn hidden_events_are_scavenged_beside_a_service() {
    beside_a_service(&async |store, admin| {
        let rule = Rule { max_count: Some(10), ..Rule::default() };
        admin.set_rule(Scope::Category(category("old")), rule, Note::default()).await.expect("set");
        let report = admin.scavenge(&Scavenge::default()).await.expect("scavenged");
        assert_eq!((report.events, report.is_complete), (OLD_STREAMS * (OLD_EVENTS - 10), true));
        assert_eq!(read(store, "old-7").await.len(), 10);
    });
}

/// A paused scavenge could not be stopped: it slept once for each segment, whatever its callback returned.
#[test]
fn a_scavenge_is_stopped_during_its_pause() {
    beside_a_service(&async |store, admin| {
        let rule = Rule { max_count: Some(10), ..Rule::default() };
        admin.set_rule(Scope::Category(category("old")), rule, Note::default()).await.expect("set");
        let (reports, pause) = (Arc::new(AtomicU64::new(0)), TIMEOUT * 60);
        let counted = Arc::clone(&reports);
        // The first report may be that of a pause: it continues.
        let stop_later = move |_| {
            let is_first = counted.fetch_add(1, Ordering::SeqCst) == 0;
            if is_first { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let scavenge = Scavenge { pause, progress: Some(Arc::new(stop_later)), ..Scavenge::default() };
        tokio::time::timeout(TIMEOUT, admin.scavenge(&scavenge)).await.expect("it ends").expect("scavenged");
        assert!(reports.load(Ordering::SeqCst) > 1);
        assert_eq!(read(store, "old-7").await.len(), 10);
    });
}

#[test]
fn the_store_is_compacted_beside_a_service() {
    beside_a_service(&async |_, admin| {
        for _ in 0..3 {
            admin.compact().await.expect("compacted");
        }
    });
}

/// A dropped compaction has no effect on the store, and can be repeated.
#[test]
fn a_compaction_can_be_cancelled() {
    beside_a_service(&async |_, admin| {
        let first_poll = tokio::time::timeout(std::time::Duration::ZERO, admin.compact()).await;
        drop(first_poll);
        admin.compact().await.expect("compacted");
    });
}

#[test]
fn snapshots_are_deleted_beside_a_service() {
    beside_a_service(&async |store, admin| {
        let accounts = Repository::<Account>::new(store.clone());
        for id in ["1", "2", "12"] {
            accounts.execute(&id.to_owned(), Open { owner: "ada".into() }).await.expect("executed");
            for cents in 0..12 {
                accounts.execute(&id.to_owned(), Deposit { cents }).await.expect("executed");
            }
        }
        accounts.settle().await;
        let count = async || store.rows(RowScan::new(snapshot::table(), "", 100)).await.expect("scanned").len() as u64;
        let before = count().await;
        assert!(before >= 3, "{before} snapshots");
        let of_one = admin.delete_snapshots(Some(&Scope::Stream(stream("account-1")))).await.expect("deleted");
        assert_eq!((of_one > 0, count().await), (true, before - of_one), "not those of account-12");
        assert_eq!(admin.delete_snapshots(Some(&Scope::Category(category("acc")))).await.expect("deleted"), 0);
        let others = admin.delete_snapshots(Some(&Scope::Category(category("account")))).await.expect("deleted");
        assert_eq!((others, count().await), (before - of_one, 0));
        assert_eq!(admin.delete_snapshots(None).await.expect("deleted"), 0);
        let loaded = Repository::<Account>::new(store.clone()).load(&"1".to_owned()).await.expect("loaded");
        assert_eq!(loaded.state.movements, 12, "a snapshot never changes the result of a load");
    });
}

/// A snapshot of a state that was deleted meanwhile is not stored: it would keep the content of the events.
#[test]
fn no_snapshot_of_a_deleted_stream_is_left() {
    on_every_store(async |store: Store| {
        let admin = StoreAdmin::new(store.clone());
        for round in 0..20 {
            let id = format!("round-{round}");
            let accounts = Repository::<Account>::new(store.clone());
            accounts.execute(&id, Open { owner: "ada".into() }).await.expect("executed");
            for cents in 0..9 {
                accounts.execute(&id, Deposit { cents }).await.expect("executed");
            }
            // The tenth event requested a snapshot, which a background task takes.
            let kind = if round % 2 == 0 { DeleteKind::Soft } else { DeleteKind::Hard };
            let account = stream(&format!("account-{id}"));
            admin.delete_stream(&account, kind, ExpectedRevision::Any, Note::default()).await.expect("deleted");
            accounts.settle().await;
            let rows = store.rows(RowScan::new(snapshot::table(), "", 10)).await.expect("scanned");
            assert!(rows.is_empty(), "round {round}: {} snapshots", rows.len());
        }
    });
}

/// A deletion that a crash interrupted after its commit may leave a snapshot of another writer. A scavenge deletes it.
#[test]
fn a_scavenge_deletes_the_snapshots_that_an_interrupted_deletion_has_left() {
    on_every_store(async |store: Store| {
        store.commit(append("account-7", 3)).await.expect("committed");
        store.commit(append("account-8", 3)).await.expect("committed");
        let key = |name: &str| [name.as_bytes(), &[0], &2_u64.to_be_bytes()].concat();
        let put = |name: &str| Commit::new().put_row(snapshot::table(), key(name), "state");
        let through = Some(Revision::new(2));
        let deletion = Commit::delete_stream(stream("account-7"), DeleteKind::Soft, through, Note::default());
        for commit in [put("account-7"), put("account-8"), deletion] {
            store.commit(commit).await.expect("committed");
        }
        StoreAdmin::new(store.clone()).scavenge(&Scavenge::default()).await.expect("scavenged");
        let rows = store.rows(RowScan::new(snapshot::table(), "", 10)).await.expect("scanned");
        assert_eq!(rows.into_iter().map(|row| row.key.to_vec()).collect::<Vec<_>>(), [key("account-8")]);
    });
}
