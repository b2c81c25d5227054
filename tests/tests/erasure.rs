//! Erasures reach every consumer: views in each mode, reactors, subscriptions, snapshots and caches. Case 7 of `user`:
//! a deletion did not reach views, snapshots and unique keys.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use es_core::consumer::reactor::{ReactError, Reactor, ReactorContext, ReactorRunner, StartAt};
use es_core::model::SubjectId;
use es_core::prelude::*;
use es_core::projection::inline::Inline;
use es_core::projection::view::{View, Views};
use es_core::projection::{Live, LiveEvents, ProjectionOptions};
use es_core::retention::{DeleteKind, Erasure, Note, Scavenge};
use es_core::store::memory::MemoryStore;
use es_core::store::{CommitError, QueryItem, StoreAdmin};
use es_core::testing::given_events;
use es_core::{Commit, EventType, LogRead, NewEvent, RecordedEvent, StreamId, Subscription};
use es_tests::account::{Account, AccountEvent, Deposit, Open};
use es_tests::stores::{on_every_store, small};
use es_tests::supervised::{TIMEOUT, start, wait_until};
use serde::{Deserialize, Serialize};

type Store = Arc<dyn EventStore>;

/// The owner of each account by its stream, and what was erased.
const OWNERS: View<String, Entry> = View::new("owners");
const ERASED: View<u64, String> = View::new("erased");

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Entry {
    owner: String,
    movements: u64,
}

/// A view of accounts, which deletes the row of a deleted account and records each erasure with its position.
#[derive(Clone, Copy)]
struct Owners;

impl Projection for Owners {
    type Source = Account;
    const NAME: &'static str = "owners";

    fn apply(&self, event: &AccountEvent, context: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        rows.view(&OWNERS)?.update(&context.stream().as_str().to_owned(), |entry| match event {
            AccountEvent::Opened { owner } => entry.owner.clone_from(owner),
            _ => entry.movements += 1,
        })
    }

    fn erased(&self, erasure: &Erasure, context: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        if let Some(stream) = erasure.stream() {
            rows.view(&OWNERS)?.delete(&stream.as_str().to_owned())?;
        }
        let text = erasure.to_string();
        rows.view(&ERASED)?.update(&context.position().get(), |erased| erased.push_str(&text))
    }
}

fn stream(name: &str) -> StreamId {
    StreamId::new(name).expect("a name")
}

async fn open(store: &Store, id: &str) {
    let accounts = Repository::<Account>::new(store.clone());
    accounts.execute(&id.to_owned(), Open { owner: format!("owner of {id}") }).await.expect("opened");
    accounts.execute(&id.to_owned(), Deposit { cents: 5 }).await.expect("executed");
}

async fn delete(store: &Store, name: &str, kind: DeleteKind) -> Position {
    let admin = StoreAdmin::new(store.clone());
    let deleted = admin.delete_stream(&stream(name), kind, ExpectedRevision::Any, Note::default()).await;
    deleted.expect("deleted").position().expect("an event")
}

async fn erase_subject(store: &Store, subject: &str) -> Position {
    let subject = SubjectId::new(subject).expect("a name");
    store
        .commit(Commit::erase_subject(subject, Note::default()))
        .await
        .expect("committed")
        .position()
        .expect("an event")
}

/// Returns the streams that have a row, and the recorded erasures.
async fn contents(store: &Store) -> (Vec<String>, Vec<(u64, String)>) {
    let views = Views::of::<Owners>(store.clone());
    let owners = views.view(&OWNERS).scan().read_all().await.expect("read");
    let erased = views.view(&ERASED).scan().read_all().await.expect("read");
    (owners.into_iter().map(|(name, _)| name).collect(), erased)
}

/// Opens two accounts and another stream, deletes one account and the other stream, and erases a subject. Returns the
/// expected contents of the view.
async fn open_and_erase(store: &Store) -> (Vec<String>, Vec<(u64, String)>) {
    for id in ["1", "2"] {
        open(store, id).await;
    }
    let other = NewEvent::json(EventType::new("x").expect("a name"), "{}");
    store.commit(Commit::to(&stream("other-1"), ExpectedRevision::Any, [other])).await.expect("committed");
    let deleted = delete(store, "account-1", DeleteKind::Soft).await;
    delete(store, "other-1", DeleteKind::Hard).await;
    let erased = erase_subject(store, "7c9e").await;
    let erasures = [
        (deleted.get(), "soft deletion of stream \"account-1\"".to_owned()),
        (erased.get(), "erasure of subject \"7c9e\"".to_owned()),
    ];
    (vec!["account-2".to_owned()], erasures.into())
}

/// A background projection receives each erasure of its categories once, in order, before and after a restart. A
/// rebuild receives the same erasures.
#[test]
fn a_background_projection_receives_erasures_once_and_in_order() {
    on_every_store(async |store: Store| {
        for partitions in [1, 4] {
            let (running, owners) = start(&store, Owners, ProjectionOptions::new().partitions(partitions));
            let expected = match partitions {
                1 => open_and_erase(&store).await,
                _ => {
                    let (streams, mut erased) = contents(&store).await;
                    open(&store, "1").await;
                    let deleted = delete(&store, "account-1", DeleteKind::Hard).await;
                    erased.push((deleted.get(), "hard deletion of stream \"account-1\"".to_owned()));
                    (streams, erased)
                }
            };
            owners.wait_for(store.head().await.expect("read"), TIMEOUT).await.expect("followed");
            assert_eq!(contents(&store).await, expected);
            let before = es_tests::supervised::active(&*store, "owners").await.expect("read");
            owners.admin().rebuild(es_core::projection::RebuildFrom::Start, "test").await.expect("requested");
            wait_until("the rebuilt view is active", async || {
                es_tests::supervised::active(&*store, "owners").await.expect("read") != before
            })
            .await;
            owners.wait_for(store.head().await.expect("read"), TIMEOUT).await.expect("followed");
            assert_eq!(contents(&store).await, expected, "a rebuild receives the erasures, too");
            running.shutdown(TIMEOUT).await.expect("it stops");
        }
    });
}

/// The partitions of a projection with a key of its own apply an erasure after all earlier events and before all later
/// ones, whichever partition they are in.
struct Spread;

const ORDER: View<u64, Vec<u64>> = View::new("order");

impl Projection for Spread {
    type Source = Account;
    const NAME: &'static str = "spread";

    fn key(&self, event: &RecordedEvent) -> String {
        format!("{}", event.position.get() % 7)
    }

    fn apply(&self, _: &AccountEvent, context: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        // One row for each event: partitions that wrote one row would conflict and so be in order by chance.
        rows.view(&ORDER)?.update(&context.position().get(), |_| {})
    }

    fn erased(&self, _: &Erasure, context: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let mut found = Vec::new();
        for position in 1..200 {
            if rows.view(&ORDER)?.get(&position)?.is_some() {
                found.push(position);
            }
        }
        rows.view(&ORDER)?.update(&context.position().get(), |order| *order = found)
    }
}

#[test]
fn all_partitions_wait_at_an_erasure() {
    on_every_store(async |store: Store| {
        let mut erasures = Vec::new();
        let accounts = Repository::<Account>::new(store.clone());
        accounts.execute(&"1".to_owned(), Open { owner: "ada".into() }).await.expect("opened");
        for round in 0..8 {
            for cents in 0..11 {
                accounts.execute(&"1".to_owned(), Deposit { cents }).await.expect("executed");
            }
            erasures.push(erase_subject(&store, &format!("subject-{round}")).await.get());
        }
        let (running, spread) = start(&store, Spread, ProjectionOptions::new().partitions(5).batch(16));
        spread.wait_for(store.head().await.expect("read"), TIMEOUT).await.expect("followed");
        let order = Views::of::<Spread>(store.clone()).view(&ORDER).scan().read_all().await.expect("read");
        for (position, found) in order.into_iter().filter(|(position, _)| erasures.contains(position)) {
            let expected: Vec<u64> = (1..position).collect();
            assert_eq!(
                found, expected,
                "the erasure at {position} is applied after the events before it, and only them"
            );
        }
        running.shutdown(TIMEOUT).await.expect("it stops");
    });
}

/// An inline projection deletes the rows in the commit of the deletion. One that cannot rejects the deletion.
#[test]
fn an_inline_projection_deletes_rows_in_the_commit_of_the_deletion() {
    on_every_inline_store(Inline::new(Owners), async |store| {
        let expected = open_and_erase(&store).await;
        assert_eq!(contents(&store).await, expected);
    });
    struct Refuses;
    impl Projection for Refuses {
        type Source = Account;
        const NAME: &'static str = "refuses";
        fn apply(&self, _: &AccountEvent, _: &ProjectedContext<'_>, _: &mut Rows) -> Result<(), ApplyError> {
            Ok(())
        }
        fn erased(&self, _: &Erasure, _: &ProjectedContext<'_>, _: &mut Rows) -> Result<(), ApplyError> {
            Err(ApplyError::new("not yet"))
        }
    }
    on_every_inline_store(Inline::new(Refuses), async |store| {
        open(&store, "1").await;
        let admin = StoreAdmin::new(store.clone());
        let account = stream("account-1");
        let refused = admin.delete_stream(&account, DeleteKind::Hard, ExpectedRevision::Any, Note::default()).await;
        assert!(matches!(refused, Err(CommitError::Rejected(_))), "{refused:?}");
        assert!(!store.retained(&account).await.expect("read").is_ended, "nothing of a rejected commit is written");
    });
}

/// Runs a test on every store with an inline projection.
fn on_every_inline_store(projection: Inline, test: impl AsyncFn(Store)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    runtime.expect("a runtime").block_on(async {
        test(Arc::new(MemoryStore::new().with_hook(projection.clone()).await.expect("the hook starts"))).await;
        let dir = tempfile::tempdir().expect("a directory");
        let store = small().hook(projection).open(dir.path()).await.expect("opened");
        test(Arc::new(store.clone())).await;
        store.close().await.expect("closed");
    });
}

/// An inline projection that is added later catches up with the erasures of the log.
#[test]
fn an_inline_projection_catches_up_with_erasures() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    runtime.expect("a runtime").block_on(async {
        let memory = MemoryStore::new();
        let store: Store = Arc::new(memory.clone());
        let expected = open_and_erase(&store).await;
        let store: Store = Arc::new(memory.with_hook(Inline::new(Owners)).await.expect("it catches up"));
        assert_eq!(contents(&store).await, expected);

        let dir = tempfile::tempdir().expect("a directory");
        let store: Store = Arc::new(small().open(dir.path()).await.expect("opened"));
        let expected = open_and_erase(&store).await;
        store.close().await.expect("closed");
        let store: Store = Arc::new(small().hook(Inline::new(Owners)).open(dir.path()).await.expect("it catches up"));
        assert_eq!(contents(&store).await, expected);
        store.close().await.expect("closed");
    });
}

/// A live view applies erasures like a stored one. A live view of one stream is folded from scratch.
#[test]
fn a_live_view_follows_erasures() {
    on_every_store(async |store: Store| {
        open(&store, "2").await;
        let mut live = Live::fold(store.clone(), Owners, LiveEvents::All).await.expect("folded");
        let mut of_stream = Live::fold(store.clone(), Owners, stream("account-1")).await.expect("folded");
        let (streams, erased) = open_and_erase_second(&store).await;
        live.refresh().await.expect("refreshed");
        let found: Vec<String> = live.view(&OWNERS).scan().read().into_iter().map(|(name, _)| name).collect();
        assert_eq!((found, live.view(&ERASED).scan().read()), (streams, erased));
        of_stream.refresh().await.expect("refreshed");
        assert_eq!(of_stream.view(&OWNERS).scan().read(), []);
        open(&store, "1").await;
        of_stream.refresh().await.expect("refreshed");
        assert_eq!(of_stream.view(&OWNERS).get(&"account-1".to_owned()).expect("a row").movements, 1);
        delete(&store, "account-1", DeleteKind::Soft).await;
        open(&store, "1").await;
        of_stream.refresh().await.expect("refreshed");
        let row = of_stream.view(&OWNERS).get(&"account-1".to_owned()).expect("a row");
        assert_eq!(row.movements, 1, "the deleted deposit does not count");
    });
}

/// Opens an account, deletes it, and erases a subject. Returns the expected contents of the view.
async fn open_and_erase_second(store: &Store) -> (Vec<String>, Vec<(u64, String)>) {
    open(store, "1").await;
    let deleted = delete(store, "account-1", DeleteKind::Soft).await;
    let erased = erase_subject(store, "7c9e").await;
    let erasures = [
        (deleted.get(), "soft deletion of stream \"account-1\"".to_owned()),
        (erased.get(), "erasure of subject \"7c9e\"".to_owned()),
    ];
    (vec!["account-2".to_owned()], erasures.into())
}

/// Records the calls of a reactor. The first call for each erasure fails.
#[derive(Default)]
struct Recorder {
    calls: Arc<Mutex<Vec<String>>>,
    failed: Mutex<BTreeSet<String>>,
    attempts: AtomicUsize,
}

#[async_trait]
impl Reactor for Recorder {
    type Source = Account;
    const NAME: &'static str = "recorder";

    async fn react(&self, event: &AccountEvent, context: &ReactorContext) -> Result<(), ReactError> {
        if let AccountEvent::Opened { owner } = event
            && owner == "owner of broken"
        {
            return Err(ReactError::park("broken"));
        }
        self.calls.lock().expect("no panic").push(context.event().stream.to_string());
        Ok(())
    }

    async fn erased(&self, erasure: &Erasure, context: &ReactorContext) -> Result<(), ReactError> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        if self.failed.lock().expect("no panic").insert(context.key().to_string()) {
            return Err(ReactError::retry("the mail server is down"));
        }
        self.calls.lock().expect("no panic").push(erasure.to_string());
        Ok(())
    }
}

/// A reactor receives erasures at least once, after the events of the stream. A parked event of the deleted stream does
/// not block the erasure.
#[test]
fn a_reactor_receives_erasures() {
    on_every_store(async |store: Store| {
        let recorder = Recorder::default();
        let calls = Arc::clone(&recorder.calls);
        let reactor = ReactorRunner::new(recorder).start_at(StartAt::Beginning).concurrency(1);
        let reactor = reactor.start(store.clone()).await.expect("started");
        open(&store, "broken").await;
        reactor.wait_for(store.head().await.expect("read"), TIMEOUT).await.expect("finished");
        assert_eq!(reactor.parked().len(), 2, "the first event failed, and the second waits for it");
        open(&store, "1").await;
        // Otherwise the events may be hidden before the reactor reads them.
        reactor.wait_for(store.head().await.expect("read"), TIMEOUT).await.expect("finished");
        delete(&store, "account-1", DeleteKind::Soft).await;
        let other = NewEvent::json(EventType::new("x").expect("a name"), "{}");
        store.commit(Commit::to(&stream("other-1"), ExpectedRevision::Any, [other])).await.expect("committed");
        delete(&store, "other-1", DeleteKind::Hard).await;
        erase_subject(&store, "7c9e").await;
        delete(&store, "account-broken", DeleteKind::Hard).await;
        wait_until("the parked events are gone", async || reactor.parked().is_empty()).await;
        let erasures = [
            "hard deletion of stream \"account-broken\"",
            "soft deletion of stream \"account-1\"",
            "erasure of subject \"7c9e\"",
        ];
        wait_until("the erasures are delivered", async || {
            let calls = calls.lock().expect("no panic");
            erasures.iter().all(|erasure| calls.iter().any(|call| call == erasure))
        })
        .await;
        reactor.shutdown(TIMEOUT).await.expect("it stops");
        let mut calls = calls.lock().expect("no panic").clone();
        let position = |text: &str| calls.iter().position(|call| call == text).expect("it was called");
        assert!(position("account-1") < position("soft deletion of stream \"account-1\""), "{calls:?}");
        calls.sort();
        let mut expected: Vec<&str> = ["account-1", "account-1"].into_iter().chain(erasures).collect();
        expected.sort_unstable();
        assert_eq!(calls, expected);
    });
}

/// A parked event of a deleted stream does not block the erasure of a view.
#[test]
fn a_parked_key_does_not_block_an_erasure() {
    struct Fails;
    impl Projection for Fails {
        type Source = Account;
        const NAME: &'static str = "fails";
        fn apply(&self, event: &AccountEvent, _: &ProjectedContext<'_>, _: &mut Rows) -> Result<(), ApplyError> {
            if matches!(event, AccountEvent::Deposited { .. }) { Err(ApplyError::new("no deposits")) } else { Ok(()) }
        }
        fn erased(&self, _: &Erasure, context: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
            rows.view(&ERASED)?.update(&context.position().get(), |text| text.push('x'))
        }
    }
    on_every_store(async |store: Store| {
        let retry = es_core::aggregate::RetryPolicy { attempts: 1, ..es_core::aggregate::RetryPolicy::default() };
        let (running, fails) = start(&store, Fails, ProjectionOptions::new().retry(retry));
        open(&store, "1").await;
        open(&store, "2").await;
        fails.wait_for(store.head().await.expect("read"), TIMEOUT).await.expect("parked");
        let parked = async || fails.admin().parked(None, 10).await.expect("read").len();
        assert_eq!(parked().await, 2);
        let deleted = delete(&store, "account-1", DeleteKind::Hard).await;
        fails.wait_for(store.head().await.expect("read"), TIMEOUT).await.expect("followed");
        let erased = Views::of::<Fails>(store.clone()).view(&ERASED).scan().read_all().await.expect("read");
        assert_eq!(erased, [(deleted.get(), "x".to_owned())]);
        assert_eq!(parked().await, 1, "the other key stays parked");
        running.shutdown(TIMEOUT).await.expect("it stops");
    });
}

/// A subscription receives erasures if its query names them.
#[test]
fn a_subscription_receives_erasures() {
    on_every_store(async |store: Store| {
        open(&store, "1").await;
        delete(&store, "account-1", DeleteKind::Hard).await;
        erase_subject(&store, "7c9e").await;
        let mut subscription = Subscription::new(store.clone(), QueryItem::erasures(), None).expect("from the start");
        let mut found = Vec::new();
        while found.len() < 2 {
            let events = subscription.next().await.expect("read").events;
            found.extend(events.iter().map(|event| Erasure::of(event).expect("an erasure").name().to_owned()));
        }
        assert_eq!(found, ["account-1", "7c9e"]);
    });
}

/// The erasures of a subject are operator events: they survive a scavenge, and no commit can forge or hide them.
#[test]
fn an_erasure_of_a_subject_stays_in_the_log() {
    on_every_store(async |store: Store| {
        let position = erase_subject(&store, "7c9e").await;
        store.scavenge(&Scavenge::default()).await.expect("scavenged");
        let events = store.read_log(LogRead::matching(QueryItem::erasures())).await.expect("opened");
        assert_eq!(events.collect().await.expect("read")[0].position, position);
        let forged = NewEvent::json(EventType::new("es.subject-erased").expect("a name"), r#"{"subject":""}"#);
        let forged = Commit::to(&stream("es.retention-erasures"), ExpectedRevision::Any, [forged]);
        assert!(matches!(store.commit(forged).await, Err(CommitError::Invalid(_))));
    });
}

/// Tests of a projection can contain erasures.
#[test]
fn a_test_of_a_projection_can_erase() {
    let opened = |owner: &str| AccountEvent::Opened { owner: owner.to_owned() };
    given_events()
        .of::<Account>("1".to_owned(), [opened("ada")])
        .of::<Account>("2".to_owned(), [opened("bob")])
        .deleted::<Account>("1".to_owned(), DeleteKind::Hard)
        .erased(SubjectId::new("7c9e").expect("a name"))
        .project(Owners)
        .then(|views| {
            assert_eq!(views.view(&OWNERS).scan().read().len(), 1);
            let erased: Vec<String> = views.view(&ERASED).scan().read().into_iter().map(|(_, text)| text).collect();
            assert_eq!(erased, ["hard deletion of stream \"account-1\"", "erasure of subject \"7c9e\""]);
        });
}
