//! Retention across crates: aggregates with truncated and deleted streams, and a scavenged store compared with one that
//! is not.

use std::sync::Arc;

use es_core::aggregate::InfrastructureError;
use es_core::model::Category;
use es_core::prelude::*;
use es_core::retention::{DeleteKind, Note, Rule, Scavenge, Scope};
use es_core::store::RowScan;
use es_core::store::delete_stream;
use es_core::testing::ManualClock;
use es_core::{
    Commit, EventType, LoadError, LogRead, NewEvent, RecordedEvent, StreamId, StreamRead, aggregate::snapshot,
};
use es_rocksdb::RocksDbStore;
use es_tests::account::{Account, Check, Deposit, Open};
use es_tests::stores::{on_every_store, small};

type Store = Arc<dyn EventStore>;

fn id() -> String {
    "7".to_owned()
}

fn stream() -> StreamId {
    StreamId::new("account-7").expect("a name")
}

async fn deposits(accounts: &Repository<Account>, count: u64) {
    for cents in 0..count {
        accounts.execute(&id(), Deposit { cents }).await.expect("executed");
    }
}

async fn rule(store: &Store, rule: Rule) {
    let set = Commit::set_rule(Scope::Stream(stream()), rule, Note::default());
    store.commit(set).await.expect("the rule is set");
}

/// A state is never computed from a part of its events: a snapshot covers the truncated events, or the load fails.
#[test]
fn a_truncated_aggregate_loads_from_a_snapshot_or_fails() {
    on_every_store(async |store: Store| {
        let without = Repository::<Account>::new(Arc::clone(&store)).without_snapshots().without_cache();
        let with = Repository::<Account>::new(Arc::clone(&store)).without_cache();
        with.execute(&id(), Open { owner: "ada".into() }).await.expect("executed");
        // A background task takes the snapshots. The first one is waited for, so that the next one is not later than
        // revision 22, as the load below needs it.
        for _ in 0..2 {
            deposits(&with, 12).await;
            with.settle().await;
        }
        let expected = without.load(&id()).await.expect("loaded");
        let before = |first| Rule { truncate_before: Some(Revision::new(first)), ..Rule::default() };
        rule(&store, before(15)).await;
        for scavenged in [false, true] {
            let found = with.load(&id()).await.expect("a snapshot covers the truncated events");
            let state = (expected.state.clone(), expected.revision);
            assert_eq!((found.state, found.revision), state, "scavenged: {scavenged}");
            let missing = |error: &LoadError, from, first| {
                assert!(
                    matches!(error, LoadError::Truncated { from: f, first: l, .. }
                        if (f.get(), l.get()) == (from, first)),
                    "{error}"
                );
            };
            missing(&without.load(&id()).await.expect_err("events are missing"), 0, 15);
            missing(&without.load_at_revision(&id(), Revision::new(3)).await.expect_err("missing"), 0, 15);
            missing(&without.load_at_revision(&id(), Revision::new(20)).await.expect_err("missing"), 0, 15);
            missing(&with.load_at(&id(), AsOf::Recorded(chrono::Utc::now())).await.expect_err("missing"), 0, 15);
            let past =
                with.load_at_revision(&id(), Revision::new(22)).await.expect("a snapshot covers the truncated events");
            assert_eq!(past.revision, Some(Revision::new(22)));
            let error = without.execute(&id(), Deposit { cents: 1 }).await.expect_err("the load fails");
            assert!(matches!(error, ExecuteError::Failed(InfrastructureError::Load(LoadError::Truncated { .. }))));
            store.scavenge(&Scavenge::default()).await.expect("scavenged");
        }
        // An account without any retained events is not a new account.
        rule(&store, before(25)).await;
        let error = without.load(&id()).await.expect_err("all events are missing");
        assert_eq!(
            error.to_string(),
            "stream \"account-7\": expected its events from revision 0 on, found the first at 25: revisions 0 to 24 \
             were truncated and no snapshot covers them; widen the rule, or keep a snapshot"
        );
        let other = Repository::<Account>::new(Arc::clone(&store)).load(&"8".to_owned()).await.expect("a new account");
        assert_eq!(other.revision, None);
    });
}

/// After a deletion, earlier snapshots and cached states are not used.
#[test]
fn a_deleted_aggregate_starts_from_its_initial_state() {
    on_every_store(async |store: Store| {
        let accounts = Repository::<Account>::new(Arc::clone(&store)).with_cache(10);
        accounts.execute(&id(), Open { owner: "ada".into() }).await.expect("executed");
        deposits(&accounts, 12).await;
        accounts.settle().await;
        let rows = RowScan::new(snapshot::table(), "account-7\0", 10);
        assert!(!store.rows(rows.clone()).await.expect("scanned").is_empty());
        delete_stream(&*store, &stream(), DeleteKind::Soft, ExpectedRevision::Any, Note::default())
            .await
            .expect("deleted");
        assert!(store.rows(rows).await.expect("scanned").is_empty(), "the snapshots are deleted with the stream");
        let loaded = accounts.load(&id()).await.expect("loaded");
        assert_eq!((loaded.state, loaded.revision), (Account::initial(&id()), None));
        let opened = accounts.execute(&id(), Open { owner: "bob".into() }).await.expect("the stream can be used again");
        assert_eq!(opened.revision, Some(Revision::new(13)));
        deposits(&accounts, 15).await;
        accounts.settle().await;
        store.scavenge(&Scavenge::default()).await.expect("scavenged");
        for accounts in
            [accounts, Repository::new(Arc::clone(&store)), Repository::new(store.clone()).without_snapshots()]
        {
            let loaded = accounts.load(&id()).await.expect("loaded");
            assert_eq!((loaded.state.owner.as_deref(), loaded.state.movements), (Some("bob"), 15));
            let past = accounts.load_at_revision(&id(), Revision::new(14)).await.expect("loaded");
            assert_eq!(past.state.movements, 1);
            let before =
                accounts.load_at_revision(&id(), Revision::new(5)).await.expect_err("the revision was deleted");
            assert!(matches!(before, LoadError::Deleted { begins, .. } if begins.get() == 13), "{before}");
        }
        let accounts = Repository::<Account>::new(Arc::clone(&store));
        delete_stream(&*store, &stream(), DeleteKind::Hard, ExpectedRevision::Any, Note::default())
            .await
            .expect("deleted");
        let error = accounts.execute(&id(), Open { owner: "eve".into() }).await.expect_err("a hard deletion is final");
        assert!(error.to_string().contains("hard deleted at position"), "{error}");
    });
}

/// Returns all events that a consumer can read from a store.
async fn visible(store: &RocksDbStore) -> Vec<Vec<RecordedEvent>> {
    let mut all = Vec::new();
    for read in [
        LogRead::all(),
        LogRead::all().backward(),
        LogRead::category(Category::new("a").expect("a name")),
        LogRead::event_type(EventType::new("t").expect("a name")).limit(7),
    ] {
        all.push(store.read_log(read).await.expect("read").collect().await.expect("read"));
    }
    for number in 0..10 {
        let stream = StreamId::new(format!("a-{number}")).expect("a name");
        all.push(store.read_stream(StreamRead::new(stream)).await.expect("read").collect().await.expect("read"));
    }
    all
}

/// R20: a consumer can switch between a scavenged store and one of the same log that is not scavenged.
#[tokio::test]
async fn a_scavenged_store_and_one_that_is_not_return_the_same_events() {
    let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().expect("a time")));
    let dirs = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    let open =
        async |at: usize| small().clock(Arc::clone(&clock) as _).open(dirs[at].path()).await.expect("the store opens");
    let (scavenged, other) = (open(0).await, open(1).await);
    let both = async |commit: Commit| {
        let first = scavenged.commit(commit.clone()).await.expect("committed");
        assert_eq!(other.commit(commit).await.expect("committed"), first);
    };
    for round in 0..20 {
        for number in 0..10 {
            let stream = StreamId::new(format!("a-{number}")).expect("a name");
            let event = NewEvent::json(EventType::new("t").expect("a name"), format!("{round}"));
            both(Commit::new().append(stream, event)).await;
        }
        clock.advance(std::time::Duration::from_secs(60));
    }
    let category = Scope::Category(Category::new("a").expect("a name"));
    let age = Rule { max_age: Some(std::time::Duration::from_secs(600)), ..Rule::default() };
    both(Commit::set_rule(category, age, Note::default())).await;
    let count = Rule { max_count: Some(3), ..Rule::default() };
    both(Commit::set_rule(Scope::Stream(StreamId::new("a-3").expect("a name")), count, Note::default())).await;
    let through = Some(Revision::new(19));
    both(Commit::delete_stream(StreamId::new("a-4").expect("a name"), DeleteKind::Soft, through, Note::default()))
        .await;
    let report = scavenged.scavenge(&Scavenge::default()).await.expect("scavenged");
    assert!(report.events > 80, "{report:?}");
    // The other store receives the scavenge point with the log, but has not scavenged.
    let read = LogRead::all().from(report.point.position);
    let point = scavenged.read_log(read).await.expect("read").next().await.expect("read").expect("the point");
    let copy = NewEvent::json(point.data.event_type.clone(), point.data.payload.clone()).with_id(point.data.id);
    other.commit(Commit::new().append(point.stream.clone(), copy)).await.expect("committed");
    assert_eq!(visible(&scavenged).await, visible(&other).await);
    clock.advance(std::time::Duration::from_secs(120));
    assert_eq!(visible(&scavenged).await, visible(&other).await);
    // It scavenges later, and removes the same events for that point, by the time of the point.
    scavenged.close().await.expect("closed");
    let late = other.scavenge(&Scavenge::default()).await.expect("scavenged");
    assert_eq!(late.earlier_points, 1);
    other.close().await.expect("closed");
    let removed = async |at: usize| {
        let store = es_rocksdb::ReadOnlyStore::open(dirs[at].path()).await.expect("opens");
        let found = store.verify(&mut |_, _, _| {}).expect("verified");
        assert!(found.is_sound(), "{:?}", found.damage);
        found.removed
    };
    assert_eq!((removed(0).await, removed(1).await), (report.events, late.events));
    assert!(late.events > report.events, "its own point is later, when more events are too old");
}

#[test]
fn a_repeated_command_whose_events_were_removed_is_an_error() {
    on_every_store(async |store: Store| {
        let accounts = Repository::<Account>::new(Arc::clone(&store));
        let deposit = || {
            let request = CommandId::new("r").expect("a name");
            accounts.execute(&id(), Deposit { cents: 1 }).with_id(request)
        };
        deposit().await.expect("deposited");
        for _ in 0..12 {
            accounts.execute(&id(), Deposit { cents: 1 }).await.expect("deposited");
        }
        accounts.settle().await;
        rule(&store, Rule { truncate_before: Some(Revision::new(5)), ..Rule::default() }).await;
        for scavenged in [false, true] {
            let removed = deposit().await.expect_err("the event was removed");
            assert!(
                matches!(&removed, ExecuteError::Failed(InfrastructureError::ResultRemoved { .. })),
                "scavenged: {scavenged}: {removed}"
            );
            store.scavenge(&Scavenge::default()).await.expect("scavenged");
        }
        assert_eq!(accounts.load(&id()).await.expect("loaded").state.cents, 13, "the command was not executed again");
        let row = Commit::new().put_row(
            es_core::model::Table::new("commands").expect("a name"),
            "account-7\0old",
            "{\"events\":1}",
        );
        store.commit(row).await.expect("written");
        let old = accounts.execute(&id(), Deposit { cents: 1 }).with_id(CommandId::new("old").expect("a name")).await;
        let old = old.expect_err("a row of another format");
        assert!(matches!(old, ExecuteError::Failed(InfrastructureError::CommandResult { .. })), "{old}");
    });
}

/// A load succeeds or fails as after a restart: a cached state does not hide missing events.
#[test]
fn a_cached_state_does_not_replace_truncated_events() {
    on_every_store(async |store: Store| {
        let cached = Repository::<Account>::new(Arc::clone(&store)).without_snapshots();
        let restarted = || Repository::<Account>::new(Arc::clone(&store)).without_snapshots();
        cached.execute(&id(), Open { owner: "ada".into() }).await.expect("executed");
        deposits(&cached, 4).await;
        let expected_state = cached.load(&id()).await.expect("loaded").state;
        rule(&store, Rule { max_count: Some(3), ..Rule::default() }).await;
        for accounts in [&cached, &restarted()] {
            let error = accounts.load(&id()).await.expect_err("events are missing");
            let expected =
                LoadError::Truncated { stream: stream(), from: Revision::FIRST, first: Revision::new(2) }.to_string();
            assert_eq!(error.to_string(), expected);
            let error = accounts.execute(&id(), Deposit { cents: 1 }).await.expect_err("the load fails");
            assert!(matches!(error, ExecuteError::Failed(InfrastructureError::Load(LoadError::Truncated { .. }))));
        }
        let clear = Commit::clear_rule(Scope::Stream(stream()), Note::default());
        store.commit(clear).await.expect("the rule is cleared");
        for accounts in [cached, restarted()] {
            assert_eq!(accounts.load(&id()).await.expect("all events are visible again").state, expected_state);
        }
    });
}

/// A command is not executed a second time if a soft deletion hides its events.
#[test]
fn a_repeated_command_whose_events_are_hidden_by_a_soft_deletion_is_an_error() {
    on_every_store(async |store: Store| {
        let accounts = Repository::<Account>::new(Arc::clone(&store));
        accounts.execute(&id(), Open { owner: "ada".into() }).await.expect("executed");
        let with_events = || {
            let request = CommandId::new("deposit").expect("a name");
            accounts.execute(&id(), Deposit { cents: 5 }).with_id(request)
        };
        let without_events = || {
            let request = CommandId::new("nothing").expect("a name");
            accounts.execute(&id(), Check).with_id(request)
        };
        with_events().await.expect("executed");
        assert!(without_events().await.expect("executed").events.is_empty());
        let soft = DeleteKind::Soft;
        delete_stream(&*store, &stream(), soft, ExpectedRevision::Any, Note::default()).await.expect("deleted");
        for is_reopened in [false, true] {
            let removed = with_events().await.expect_err("the event is hidden");
            let is_removed = matches!(&removed, ExecuteError::Failed(InfrastructureError::ResultRemoved { .. }));
            assert!(is_removed, "reopened: {is_reopened}: {removed}");
            let removed = without_events().await.expect_err("the state is hidden");
            let is_removed = matches!(&removed, ExecuteError::Failed(InfrastructureError::ResultRemoved { .. }));
            assert!(is_removed, "reopened: {is_reopened}: {removed}");
            if !is_reopened {
                accounts.execute(&id(), Open { owner: "bob".into() }).await.expect("reopened");
            }
        }
        let loaded = accounts.load(&id()).await.expect("loaded").state;
        assert_eq!((loaded.owner.as_deref(), loaded.cents), (Some("bob"), 0), "the deposit was not repeated");
    });
}
