//! The unit of work on every store: one commit for several aggregates, retries, command ids, and locks without
//! deadlock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use es_core::aggregate::{InfrastructureError, RetryPolicy, SnapshotPolicy, UnitError, UnitRejection};
use es_core::model::{Context, CorrelationId, Metadata};
use es_core::prelude::*;
use es_core::store::FailedCheck;
use es_core::store::memory::MemoryStore;
use es_core::testing::{Fault, FaultyStore};
use es_core::{Commit, LogRead, Outcome, RecordedEvent, UnitOfWork};
use es_tests::account::{Account, Check, Close, Deposit, Open, Refusal, Withdraw};
use es_tests::member::{Join, Member};
use es_tests::stores::{on_every_store, rocksdb};
use tokio::task::JoinSet;
use tokio::time::timeout;

type Store = Arc<dyn EventStore>;
type Accounts = Repository<Account>;
type Transferred = Result<(Executed<Account>, Executed<Account>), UnitError<UnitRejection<Refusal, Refusal>>>;

/// The time after which a test assumes a deadlock.
const DEADLOCK: Duration = Duration::from_secs(60);

fn accounts(store: &Store) -> Accounts {
    Repository::new(Arc::clone(store))
}

fn memory() -> Store {
    Arc::new(MemoryStore::new())
}

fn request(id: &str) -> CommandId {
    CommandId::new(id).expect("a name")
}

async fn open(accounts: &Accounts, id: &str, cents: u64) {
    accounts.execute(&id.to_owned(), Deposit { cents }).await.expect("deposited");
}

async fn transfer(store: &Store, accounts: &Accounts, from: &str, to: &str, cents: u64) -> Transferred {
    UnitOfWork::new(store)
        .execute(accounts, from.to_owned(), Withdraw { cents })
        .execute(accounts, to.to_owned(), Deposit { cents })
        .await
}

async fn cents(accounts: &Accounts, id: &str) -> u64 {
    accounts.load(&id.to_owned()).await.expect("loaded").state.cents
}

async fn events(store: &Store) -> Vec<RecordedEvent> {
    store.read_log(LogRead::all()).await.expect("opened").collect().await.expect("read")
}

/// The tuples of results and rejections have eight elements at most; a unit has any number of calls.
#[test]
fn a_unit_has_any_number_of_calls() {
    on_every_store(async |store| {
        let accounts = accounts(&store);
        let ten_calls = async |last: u64| {
            let mut cents = 0..8;
            let mut next = || Deposit { cents: cents.next().expect("eight calls") + 1 };
            UnitOfWork::new(&store)
                .execute(&accounts, "1".into(), next())
                .execute(&accounts, "2".into(), next())
                .execute(&accounts, "3".into(), next())
                .execute(&accounts, "4".into(), next())
                .execute(&accounts, "5".into(), next())
                .execute(&accounts, "6".into(), next())
                .execute(&accounts, "7".into(), next())
                .execute(&accounts, "8".into(), next())
                .execute(&accounts, "8".into(), Withdraw { cents: 8 })
                .execute(&accounts, "1".into(), Withdraw { cents: last })
                .await
        };
        let ((first, .., eighth), ninth, tenth) = ten_calls(1).await.expect("executed");
        assert_eq!((first.state.cents, eighth.state.cents, ninth.state.cents, tenth.state.cents), (1, 8, 0, 0));
        assert_eq!(events(&store).await.len(), 10);
        let rejected = ten_calls(100).await.expect_err("the first account has one cent");
        assert!(
            matches!(rejected, UnitError::Rejected { index: 9, rejection: UnitRejection::Third(_) }),
            "{rejected:?}"
        );
        assert_eq!(events(&store).await.len(), 10, "nothing was written");
    });
}

#[test]
fn aggregates_of_different_types_change_in_one_commit() {
    on_every_store(async |store| {
        let (accounts, members) = (accounts(&store), Repository::<Member>::new(Arc::clone(&store)));
        let unit = UnitOfWork::new(&store)
            .execute(&members, 7, Join { email: "ada@example.org".into() })
            .execute(&accounts, "7".into(), Open { owner: "ada".into() })
            .execute_all(&accounts, ["8", "9"].map(|id| (id.to_owned(), Deposit { cents: 5 })));
        let (member, account, gifts) = unit.await.expect("executed");
        assert_eq!(member.state.email.as_deref(), Some("ada@example.org"));
        assert_eq!((account.state.owner.as_deref(), account.position), (Some("ada"), Position::new(2)));
        assert_eq!(gifts.iter().map(|gift| gift.state.cents).collect::<Vec<_>>(), [5, 5]);
        assert_eq!(gifts[1].version().map(|version| version.to_string()).as_deref(), Some("0"));
        let events = events(&store).await;
        assert_eq!(events.len(), 4);
        let parts: Vec<_> = events.iter().map(|event| (event.part.index, event.part.size)).collect();
        assert_eq!(parts, [(0, 4), (1, 4), (2, 4), (3, 4)], "one commit");
        assert_eq!(events.iter().map(|event| event.data.correlation_id).collect::<BTreeSet<_>>().len(), 1);
        let duplicate = UnitOfWork::new(&store)
            .execute(&accounts, "10".into(), Deposit { cents: 1 })
            .execute(&members, 8, Join { email: "ada@example.org".into() })
            .await;
        let conflict = duplicate.expect_err("member 7 holds the address");
        assert!(matches!(conflict.conflict().map(|conflict| &*conflict.failed), Some([FailedCheck::UniqueKey { .. }])));
        assert_eq!(cents(&accounts, "10").await, 0);
    });
}

#[test]
fn a_rejection_names_its_command_and_nothing_is_written() {
    on_every_store(async |store| {
        let accounts = accounts(&store);
        open(&accounts, "a", 10).await;
        let unit = UnitOfWork::new(&store)
            .execute_all(&accounts, ["b", "c"].map(|id| (id.to_owned(), Deposit { cents: 1 })))
            .execute(&accounts, "a".into(), Withdraw { cents: 11 })
            .with_id(request("r"));
        let rejected = unit.await.expect_err("there are 10 cents");
        assert_eq!(
            rejected.to_string(),
            "the command at index 2 of the unit of work is rejected: account a: expected at least 11 cents, found 10"
        );
        match rejected {
            UnitError::Rejected { index, rejection: UnitRejection::Second(Refusal::TooLittle { found, .. }) } => {
                assert_eq!((index, found), (2, 10));
            }
            other => panic!("expected a rejection of the second call, found {other}"),
        }
        assert_eq!(events(&store).await.len(), 1);
        let corrected =
            UnitOfWork::new(&store).execute(&accounts, "a".into(), Withdraw { cents: 10 }).with_id(request("r")).await;
        assert_eq!(corrected.expect("a rejection is not a result").outcome, Outcome::Done);
    });
}

#[test]
fn a_later_command_to_the_same_aggregate_sees_the_earlier_ones() {
    on_every_store(async |store| {
        let accounts = accounts(&store);
        let id = || "a".to_owned();
        let (first, second, third, checked) = UnitOfWork::new(&store)
            .execute(&accounts, id(), Deposit { cents: 5 })
            .execute(&accounts, id(), Withdraw { cents: 5 })
            .execute(&accounts, id(), Close)
            .execute(&accounts, id(), Close)
            .await
            .expect("each command is decided on the state after the one before it");
        assert_eq!((first.state.cents, first.revision), (5, Some(Revision::new(0))));
        assert_eq!((second.state.cents, second.revision), (0, Some(Revision::new(1))));
        assert_eq!((third.state.closed, third.revision, third.outcome), (true, Some(Revision::new(2)), Outcome::Done));
        assert_eq!((checked.outcome, checked.revision), (Outcome::Unchanged, Some(Revision::new(2))));
        let loaded = accounts.load(&id()).await.expect("loaded");
        assert_eq!((loaded.state, loaded.revision), (checked.state, checked.revision));
        let rejected = UnitOfWork::new(&store)
            .execute_all(&accounts, (0..3).map(|_| ("b".to_owned(), Deposit { cents: 1 })))
            .execute(&accounts, "b".into(), Withdraw { cents: 4 })
            .await
            .expect_err("three cents");
        assert!(matches!(rejected.rejection(), Some(UnitRejection::Second(Refusal::TooLittle { found: 3, .. }))));
    });
}

/// With two repositories, which lock separately as two processes do, only expected revisions protect the aggregate.
#[test]
fn less_than_one_percent_of_two_hundred_concurrent_callers_of_one_aggregate_fail() {
    const CALLERS: u64 = 200;
    on_every_store(async |store| {
        for repositories in [1, 2] {
            let hot = format!("hot-{repositories}");
            let shared: Vec<Arc<Accounts>> = (0..repositories).map(|_| Arc::new(accounts(&store))).collect();
            open(&shared[0], &hot, CALLERS).await;
            let failed = Arc::new(AtomicU64::new(0));
            let mut callers = JoinSet::new();
            for caller in 0..CALLERS {
                let (store, accounts) = (Arc::clone(&store), Arc::clone(&shared[caller as usize % repositories]));
                let (failed, hot) = (Arc::clone(&failed), hot.clone());
                callers.spawn(async move {
                    let own = format!("own-{repositories}-{caller}");
                    if transfer(&store, &accounts, &hot, &own, 1).await.is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            timeout(DEADLOCK, callers.join_all()).await.expect("no deadlock");
            let failed = failed.load(Ordering::Relaxed);
            assert!(failed * 100 < CALLERS, "{failed} of {CALLERS} callers failed");
            assert_eq!(cents(&shared[0], &hot).await, failed, "each transfer is executed once");
        }
    });
}

#[test]
fn units_with_opposite_orders_of_aggregates_do_not_deadlock() {
    on_every_store(async |store| {
        let shared = Arc::new(accounts(&store).with_retry(RetryPolicy::NEVER));
        for id in ["a", "b", "c"] {
            open(&shared, id, 1_000).await;
        }
        let mut callers = JoinSet::new();
        for (from, to) in [("a", "b"), ("b", "a"), ("b", "c"), ("c", "a"), ("a", "c"), ("c", "b")] {
            let (store, accounts) = (Arc::clone(&store), Arc::clone(&shared));
            callers.spawn(async move {
                for _ in 0..25 {
                    transfer(&store, &accounts, from, to, 1).await.expect("locks prevent conflicts");
                    accounts.execute(&to.to_owned(), Check).await.expect("accepted");
                }
            });
        }
        timeout(DEADLOCK, callers.join_all()).await.expect("no deadlock");
        for id in ["a", "b", "c"] {
            assert_eq!(cents(&shared, id).await, 1_000);
        }
    });
}

#[tokio::test]
async fn a_fault_of_the_store_does_not_change_the_total_of_a_transfer() {
    for fault in [Fault::Refuse, Fault::LoseAcknowledgement, Fault::Conflict] {
        let faulty = FaultyStore::new(memory());
        let store: Store = Arc::new(faulty.clone());
        let writer = accounts(&store).with_retry(RetryPolicy::NEVER);
        open(&writer, "a", 10).await;
        faulty.at_commit(1, fault.clone());
        let unit = || {
            UnitOfWork::new(&store)
                .execute(&writer, "a".into(), Withdraw { cents: 4 })
                .execute(&writer, "b".into(), Deposit { cents: 4 })
                .with_id(request("r"))
        };
        unit().await.expect_err("the commit failed");
        let is_written = fault == Fault::LoseAcknowledgement;
        let fresh = accounts(&store);
        let expected = if is_written { (6, 4) } else { (10, 0) };
        assert_eq!((cents(&fresh, "a").await, cents(&fresh, "b").await), expected, "{fault:?}");
        let (from, to) = unit().await.expect("a unit with a command id can be repeated");
        assert_eq!(from.outcome, if is_written { Outcome::Repeated } else { Outcome::Done });
        assert_eq!((from.state.cents, to.state.cents), (6, 4));
        assert_eq!((cents(&fresh, "a").await, cents(&fresh, "b").await), (6, 4), "{fault:?}");
    }
}

#[tokio::test]
async fn a_dropped_unit_releases_its_locks_and_is_atomic() {
    let faulty = FaultyStore::new(memory());
    let store: Store = Arc::new(faulty.clone());
    let accounts = accounts(&store);
    open(&accounts, "a", 10).await;
    faulty.at_commit(1, Fault::Hang);
    let dropped = timeout(Duration::from_millis(20), transfer(&store, &accounts, "a", "b", 4)).await;
    assert!(dropped.is_err(), "the commit hangs");
    assert_eq!((cents(&accounts, "a").await, cents(&accounts, "b").await), (10, 0));
    let next = timeout(DEADLOCK, transfer(&store, &accounts, "b", "a", 0)).await;
    next.expect("the locks were released").expect("executed");
}

#[test]
fn a_conflict_retries_all_commands() {
    on_every_store(async |store| {
        let shared = accounts(&store);
        open(&shared, "a", 10).await;
        let faulty = FaultyStore::new(Arc::clone(&store));
        for commit in 0..3 {
            faulty.at_commit(commit, Fault::Conflict);
        }
        let store: Store = Arc::new(faulty.clone());
        let patient = accounts(&store).with_retry(RetryPolicy::attempts(4));
        let (from, to) = transfer(&store, &patient, "a", "b", 1).await.expect("the fourth attempt");
        assert_eq!((from.state.cents, to.state.cents, faulty.commits()), (9, 1, 4));
        faulty.at_commit(4, Fault::Conflict);
        let hasty = UnitOfWork::new(&store).execute(&patient, "a".into(), Close).with_retry(RetryPolicy::NEVER);
        assert!(hasty.await.expect_err("one attempt").conflict().is_some());
    });
}

#[test]
fn a_repeated_unit_returns_its_first_results() {
    on_every_store(async |store| {
        let accounts = accounts(&store);
        open(&accounts, "a", 10).await;
        let unit = || {
            UnitOfWork::new(&store)
                .execute(&accounts, "a".into(), Withdraw { cents: 4 })
                .execute(&accounts, "b".into(), Check)
                .execute_all(&accounts, ["b", "b"].map(|id| (id.to_owned(), Deposit { cents: 2 })))
                .with_id(request("r"))
        };
        let first = unit().await.expect("executed");
        open(&accounts, "b", 100).await;
        let repeat = unit().await.expect("the first results");
        assert_eq!((repeat.0.events, repeat.0.state), (first.0.events, first.0.state));
        assert_eq!((repeat.1.events, repeat.1.state, repeat.1.revision), (first.1.events, first.1.state, None));
        for (repeat, first) in repeat.2.iter().zip(&first.2) {
            assert_eq!((&repeat.events, &repeat.state), (&first.events, &first.state));
            assert_eq!((repeat.revision, repeat.position), (first.revision, first.position));
            assert_eq!(repeat.outcome, Outcome::Repeated);
        }
        assert_eq!(events(&store).await.len(), 5);
        let other = UnitOfWork::new(&store).execute(&accounts, "a".into(), Close).with_id(request("r")).await;
        let other = other.expect_err("the id belongs to another unit");
        assert!(matches!(other, UnitError::Failed(InfrastructureError::CommandIdReused { .. })), "{other}");
    });
}

#[test]
fn a_unit_can_be_repeated_after_a_restart() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    runtime.expect("a runtime").block_on(async {
        let directory = tempfile::tempdir().expect("a directory");
        let mut results = Vec::new();
        for _ in 0..2 {
            let opened = rocksdb(directory.path()).await;
            let store: Store = Arc::new(opened.clone());
            let accounts = accounts(&store);
            let unit = UnitOfWork::new(&store)
                .execute(&accounts, "a".into(), Deposit { cents: 3 })
                .execute(&accounts, "b".into(), Open { owner: "ada".into() })
                .with_id(request("r"));
            let (a, b) = unit.await.expect("executed");
            results.push((a.state, a.revision, a.position, b.state, b.position));
            assert_eq!(events(&store).await.len(), 2);
            opened.close().await.expect("closed");
        }
        assert_eq!(results[0], results[1]);
    });
}

#[test]
fn a_unit_sent_by_concurrent_callers_is_executed_once() {
    on_every_store(async |store| {
        open(&accounts(&store), "a", 10).await;
        let mut callers = JoinSet::new();
        for _ in 0..16 {
            let store = Arc::clone(&store);
            callers.spawn(async move {
                let accounts = accounts(&store);
                let unit = UnitOfWork::new(&store)
                    .execute(&accounts, "a".into(), Withdraw { cents: 1 })
                    .execute(&accounts, "b".into(), Deposit { cents: 1 })
                    .with_retry(RetryPolicy::attempts(1_000))
                    .with_id(request("once"));
                let (from, _) = unit.await.expect("a result");
                from.outcome
            });
        }
        let outcomes = callers.join_all().await;
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Done).count(), 1);
        assert_eq!(events(&store).await.len(), 3);
    });
}

#[test]
fn expected_versions_refer_to_the_stored_aggregate() {
    on_every_store(async |store| {
        let accounts = accounts(&store);
        open(&accounts, "a", 10).await;
        let version =
            accounts.load(&"a".to_owned()).await.expect("loaded").version().expect("the account has an event");
        let unit = |version| {
            UnitOfWork::new(&store)
                .execute(&accounts, "b".into(), Deposit { cents: 1 })
                .expecting(ExpectedRevision::Any)
                .execute(&accounts, "a".into(), Withdraw { cents: 1 })
                .at_version(version)
        };
        let (_, from) = unit(version).await.expect("the version is current");
        let stale = unit(version).await.expect_err("the version is stale");
        let expected = FailedCheck::Version {
            stream: Account::stream(&"a".to_owned()).expect("a name"),
            expected: version,
            actual: from.version(),
        };
        assert_eq!(stale.conflict().map(|conflict| &*conflict.failed), Some(&[expected][..]));
        let exact = UnitOfWork::new(&store).execute(&accounts, "a".into(), Close).at_revision(Revision::FIRST);
        assert!(exact.await.expect_err("the account is at revision 1").conflict().is_some());
        let of_ada = es_core::store::QueryItem::new().tag(es_core::model::Tag::new("owner:ada").expect("a name"));
        let once = || {
            let unit = UnitOfWork::new(&store).execute(&accounts, "c".into(), Open { owner: "ada".into() });
            unit.execute(&accounts, "d".into(), Open { owner: "ada".into() }).append_if_none(of_ada.clone(), None)
        };
        once().await.expect("no event has the tag");
        let error = once().await.expect_err("two events have the tag");
        assert!(matches!(error.conflict().map(|c| &*c.failed), Some([FailedCheck::Match { .. }, ..])), "{error}");
    });
}

#[test]
fn all_events_have_the_time_metadata_and_context_of_the_unit() {
    on_every_store(async |store| {
        let accounts = accounts(&store);
        let noon = "2016-07-04T12:00:00Z".parse().expect("a time");
        let (metadata, request) =
            (Metadata::new().with("user", "ada"), Context::with_correlation(CorrelationId::new()));
        let unit = UnitOfWork::new(&store)
            .execute(&accounts, "a".into(), Deposit { cents: 1 })
            .execute(&accounts, "b".into(), Deposit { cents: 1 })
            .occurred_at(noon)
            .with_metadata(metadata.clone())
            .in_context(request);
        let (a, b) = unit.await.expect("executed");
        assert_eq!((a.state.last_movement, b.state.last_movement), (Some(noon), Some(noon)));
        for event in events(&store).await {
            assert_eq!((event.occurred_at, &event.data.metadata), (noon, &metadata));
            assert_eq!(event.data.correlation_id, Some(request.correlation_id));
        }
    });
}

#[test]
fn a_repository_on_another_store_is_an_error() {
    on_every_store(async |store| {
        let (same_store, other_store) = (accounts(&store), accounts(&memory()));
        let unit = UnitOfWork::new(&store).execute(&same_store, "a".into(), Deposit { cents: 1 }).execute(
            &other_store,
            "b".into(),
            Deposit { cents: 1 },
        );
        let error = unit.await.expect_err("two stores cannot share a commit");
        assert!(matches!(error, UnitError::Failed(InfrastructureError::OtherStore { .. })), "{error}");
        assert_eq!(events(&store).await, []);
        let empty = UnitOfWork::new(&store).execute_all(&same_store, std::iter::empty::<(String, Deposit)>()).await;
        assert!(empty.expect("an empty unit succeeds").is_empty());
    });
}

/// After random transfers, loads from the cache and from snapshots equal a replay of all events.
#[test]
fn loads_from_the_cache_and_from_snapshots_equal_a_replay() {
    on_every_store(async |store| {
        let policy = SnapshotPolicy::every(2);
        let cached = accounts(&store).with_snapshot_policy(policy);
        let replayed = accounts(&store).without_snapshots().without_cache();
        let snapshotted = accounts(&store).with_snapshot_policy(policy).without_cache();
        let ids = ["a", "b", "c"];
        for id in ids {
            open(&cached, id, 20).await;
        }
        for round in 0..60_usize {
            let (from, to) = (ids[round * 7 % 3], ids[(round * 5 + round / 3) % 3]);
            let moved = transfer(&store, &cached, from, to, round as u64 % 4).await;
            if round % 10 == 9 {
                cached.settle().await;
            }
            for id in ids.map(ToOwned::to_owned) {
                let expected = replayed.load(&id).await.expect("loaded");
                for repository in [&cached, &snapshotted] {
                    let loaded = repository.load(&id).await.expect("loaded");
                    assert_eq!((&loaded.state, loaded.revision), (&expected.state, expected.revision));
                }
                if let Ok((_, last)) = &moved
                    && id == to
                {
                    assert_eq!((&last.state, last.revision), (&expected.state, expected.revision));
                }
            }
        }
    });
}

#[test]
fn a_plan_can_share_a_commit_with_other_changes() {
    on_every_store(async |store| {
        let accounts = accounts(&store);
        let id = "a".to_owned();
        let plan = accounts.plan(&id, Deposit { cents: 5 }).await.expect("decided");
        assert_eq!(events(&store).await, [], "a plan writes nothing");
        let table = es_core::model::Table::new("outbox").expect("a name");
        let commit = Commit::new().with(&plan).put_row(table.clone(), "a", "deposited");
        let committed = store.commit(commit).await.expect("committed");
        let executed = plan.complete(&committed).expect("completed");
        assert_eq!((executed.state.cents, executed.revision), (5, Some(Revision::FIRST)));
        assert!(store.row(&table, b"a").await.expect("read").is_some());
        let stale = accounts.plan(&id, Withdraw { cents: 5 }).await.expect("decided");
        accounts.execute(&id, Withdraw { cents: 1 }).await.expect("another writer");
        let conflict = store.commit(Commit::new().with(&stale)).await.expect_err("the account has changed");
        assert!(matches!(conflict, es_core::CommitError::Conflict(_)), "{conflict}");
        let not_committed = stale.complete(&committed).expect_err("the plan was not committed");
        assert!(matches!(not_committed, InfrastructureError::NotCommitted { .. }), "{not_committed}");
    });
}
