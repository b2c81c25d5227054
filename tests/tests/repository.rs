//! The repository on every store: load, execute, conflicts, command ids, context, cache, past states.

use std::sync::Arc;
use std::time::Duration;

use es_core::aggregate::{InfrastructureError, RetryPolicy};
use es_core::model::{Context, CorrelationId, KeyChange, Metadata};
use es_core::prelude::*;
use es_core::schema::DecodeEventError;
use es_core::store::memory::MemoryStore;
use es_core::store::{FailedCheck, QueryItem};
use es_core::testing::{Fault, FaultyStore, ManualClock};
use es_core::{Commit, EventType, LoadError, LogRead, NewEvent, Outcome, RecordedEvent, StreamId, StreamRead};
use es_tests::account::{Account, AccountEvent, Check, Close, Deposit, Open, Refusal, Withdraw};
use es_tests::member::{Join, Leave, Member, Reserve, email_key};
use es_tests::stores::on_every_store;

type Store = Arc<dyn EventStore>;

fn id() -> String {
    "7".to_owned()
}

fn stream() -> StreamId {
    StreamId::new("account-7").expect("a name")
}

fn repository(store: &Store) -> Repository<Account> {
    Repository::new(Arc::clone(store))
}

async fn events(store: &Store) -> Vec<RecordedEvent> {
    store.read_log(LogRead::all()).await.expect("opened").collect().await.expect("read")
}

fn memory() -> Store {
    Arc::new(MemoryStore::new())
}

#[test]
fn a_command_returns_events_state_revision_and_position() {
    on_every_store(async |store| {
        let accounts = repository(&store);
        accounts.execute(&id(), Open { owner: "ada".into() }).await.expect("opened");
        let deposited = accounts.execute(&id(), Deposit { cents: 50 }).await.expect("deposited");
        assert_eq!(deposited.events, [AccountEvent::Deposited { cents: 50 }]);
        assert_eq!((deposited.state.cents, deposited.outcome), (50, Outcome::Done));
        assert_eq!((deposited.revision, deposited.position), (Some(Revision::new(1)), Position::new(2)));
        let closed = accounts.execute(&id(), Close).await.expect("closed");
        assert_eq!(closed.events, [AccountEvent::Withdrawn { cents: 50 }, AccountEvent::Closed]);
        assert_eq!(closed.revision, Some(Revision::new(3)));
        let loaded = accounts.load(&id()).await.expect("loaded");
        assert_eq!((loaded.state, loaded.revision), (closed.state, closed.revision));
    });
}

#[test]
fn a_decision_can_be_unchanged_none_or_a_rejection() {
    on_every_store(async |store| {
        let accounts = repository(&store);
        let checked = accounts.execute(&id(), Check).await.expect("accepted");
        assert_eq!((checked.outcome, checked.revision, checked.position), (Outcome::Done, None, None));
        accounts.execute(&id(), Close).await.expect("closed");
        let unchanged = accounts.execute(&id(), Close).await.expect("unchanged");
        assert_eq!((unchanged.events.len(), unchanged.outcome), (0, Outcome::Unchanged));
        assert_eq!((unchanged.revision, unchanged.position), (Some(Revision::FIRST), Some(Position::FIRST)));
        let rejected = accounts.execute(&id(), Deposit { cents: 1 }).await.expect_err("rejected");
        assert_eq!(rejected.rejection(), Some(&Refusal::Closed));
        let rejected = accounts.execute(&id(), Withdraw { cents: 1 }).await.expect_err("rejected");
        assert_eq!(rejected.to_string(), "the command is rejected: account 7: expected at least 1 cents, found 0");
        assert_eq!(events(&store).await.len(), 1);
    });
}

#[test]
fn a_wrong_expected_revision_is_a_conflict_with_the_actual_revision() {
    on_every_store(async |store| {
        let accounts = repository(&store);
        accounts.execute(&id(), Deposit { cents: 1 }).await.expect("deposited");
        accounts
            .execute(&id(), Deposit { cents: 1 })
            .at_revision(Revision::FIRST)
            .await
            .expect("the revision is current");
        let stale = accounts.execute(&id(), Deposit { cents: 1 }).at_revision(Revision::FIRST).await;
        let stale = stale.expect_err("the revision is stale");
        let expected = FailedCheck::Revision {
            stream: stream(),
            expected: ExpectedRevision::Exact(Revision::FIRST),
            actual: Some(Revision::new(1)),
        };
        assert_eq!(stale.conflict().map(|conflict| conflict.failed.as_slice()), Some(&[expected][..]));
        assert_eq!(
            stale.to_string(),
            "conflict: stream \"account-7\": expected revision 0, found revision 1; nothing was written: reload and \
             decide again"
        );
        let new = accounts.execute(&id(), Deposit { cents: 1 }).expecting(ExpectedRevision::NoStream).await;
        assert!(new.expect_err("the account exists").conflict().is_some());
    });
}

/// 64 tasks increment one aggregate 100 times each. Each task has its own repository, so that only the expected
/// revision protects the aggregate.
#[test]
fn concurrent_repositories_lose_no_increment() {
    on_every_store(async |store| {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let accounts = repository(&store).with_retry(RetryPolicy::attempts(10_000)).with_cache(4);
            tasks.spawn(async move {
                for _ in 0..100 {
                    accounts.execute(&id(), Deposit { cents: 1 }).await.expect("deposited after retries");
                }
            });
        }
        tasks.join_all().await;
        let account = repository(&store).load(&id()).await.expect("loaded");
        assert_eq!((account.state.cents, account.revision), (6_400, Some(Revision::new(6_399))));
    });
}

/// 64 tasks share one repository without retries: the repository serializes commands on an aggregate.
#[test]
fn commands_on_one_aggregate_through_one_repository_have_no_conflict() {
    on_every_store(async |store| {
        let accounts = Arc::new(repository(&store).with_retry(RetryPolicy::NEVER));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let accounts = Arc::clone(&accounts);
            tasks.spawn(async move {
                for _ in 0..100 {
                    accounts.execute(&id(), Deposit { cents: 1 }).await.expect("deposited without a retry");
                }
            });
        }
        tasks.join_all().await;
        assert_eq!(accounts.load(&id()).await.expect("loaded").state.cents, 6_400);
    });
}

#[tokio::test]
async fn a_conflict_is_retried_up_to_the_attempts_of_the_policy() {
    let faulty = FaultyStore::new(memory());
    for commit in 0..3 {
        faulty.at_commit(commit, Fault::Conflict);
    }
    let store: Store = Arc::new(faulty.clone());
    let patient = repository(&store).with_retry(RetryPolicy::attempts(4));
    patient.execute(&id(), Deposit { cents: 1 }).await.expect("the fourth attempt");
    assert_eq!(faulty.commits(), 4);
    for commit in 4..8 {
        faulty.at_commit(commit, Fault::Conflict);
    }
    let hasty = repository(&store).with_retry(RetryPolicy::attempts(2));
    let lost = hasty.execute(&id(), Deposit { cents: 1 }).await.expect_err("two attempts");
    assert!(lost.conflict().is_some());
    assert_eq!(faulty.commits(), 6);
}

#[test]
fn a_repeated_command_returns_its_first_result() {
    on_every_store(async |store| {
        let accounts = repository(&store);
        let request = || CommandId::new("request 1").expect("a name");
        accounts.execute(&id(), Deposit { cents: 5 }).await.expect("deposited");
        let first = accounts.execute(&id(), Deposit { cents: 10 }).with_id(request()).await.expect("deposited");
        accounts.execute(&id(), Close).await.expect("closed");
        // The account is closed and would reject a new deposit, but the first result is returned.
        let repeated = repository(&store).execute(&id(), Deposit { cents: 10 }).with_id(request()).await;
        let repeated = repeated.expect("the first result");
        assert_eq!(repeated.outcome, Outcome::Repeated);
        assert_eq!((repeated.events, repeated.state), (first.events, first.state));
        assert_eq!((repeated.revision, repeated.position), (first.revision, first.position));
        let other = accounts.execute(&"8".to_owned(), Deposit { cents: 10 }).with_id(request()).await;
        assert_eq!(other.expect("another aggregate").outcome, Outcome::Done);
        assert_eq!(events(&store).await.len(), 5);
    });
}

#[test]
fn a_repeated_command_without_events_returns_its_first_result() {
    on_every_store(async |store| {
        let accounts = repository(&store);
        let request = || CommandId::new("check").expect("a name");
        let first = accounts.execute(&id(), Check).with_id(request()).await.expect("accepted");
        accounts.execute(&id(), Close).await.expect("closed");
        let repeated = accounts.execute(&id(), Check).with_id(request()).await.expect("the first result");
        let found = (repeated.outcome, repeated.revision, repeated.state);
        assert_eq!(found, (Outcome::Repeated, first.revision, first.state));
    });
}

#[test]
fn a_command_sent_by_concurrent_callers_is_executed_once() {
    on_every_store(async |store| {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let accounts = repository(&store).with_retry(RetryPolicy::attempts(1_000));
            let request = CommandId::new("once").expect("a name");
            tasks.spawn(async move { accounts.execute(&id(), Deposit { cents: 1 }).with_id(request).await });
        }
        let outcomes: Vec<Outcome> =
            tasks.join_all().await.into_iter().map(|result| result.expect("a result").outcome).collect();
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Done).count(), 1);
        assert_eq!(events(&store).await.len(), 1);
    });
}

#[tokio::test]
async fn a_command_id_makes_a_retry_after_a_lost_acknowledgement_safe() {
    let faulty = FaultyStore::new(memory());
    faulty.at_commit(0, Fault::LoseAcknowledgement);
    let store: Store = Arc::new(faulty);
    let accounts = repository(&store);
    let request = || CommandId::new("r").expect("a name");
    let unknown = accounts.execute(&id(), Deposit { cents: 1 }).with_id(request()).await.expect_err("unknown");
    assert!(matches!(unknown, ExecuteError::Failed(InfrastructureError::Store(_))), "{unknown}");
    let known = accounts.execute(&id(), Deposit { cents: 1 }).with_id(request()).await.expect("the first result");
    assert_eq!((known.outcome, known.state.cents), (Outcome::Repeated, 1));
}

#[test]
fn correlation_and_causation_are_propagated_by_the_context() {
    on_every_store(async |store| {
        let accounts = repository(&store);
        let request = Context::with_correlation(CorrelationId::new());
        request.scope(async { accounts.execute(&id(), Deposit { cents: 1 }).await.expect("deposited") }).await;
        let cause = events(&store).await.remove(0);
        assert_eq!((cause.data.correlation_id, cause.data.causation_id), (Some(request.correlation_id), None));
        Context::caused_by(&cause)
            .scope(async { accounts.execute(&"8".to_owned(), Deposit { cents: 1 }).await.expect("deposited") })
            .await;
        let effect = events(&store).await.remove(1);
        assert_eq!(
            (effect.data.correlation_id, effect.data.causation_id),
            (Some(request.correlation_id), Some(cause.data.id))
        );
        accounts.execute(&id(), Close).await.expect("closed");
        let unrelated = events(&store).await.split_off(2);
        assert_eq!(unrelated.len(), 2);
        assert!(unrelated.iter().all(|event| event.data.correlation_id == unrelated[0].data.correlation_id));
        assert_ne!(unrelated[0].data.correlation_id, Some(request.correlation_id));
    });
}

#[test]
fn the_events_have_the_time_and_metadata_of_the_caller() {
    on_every_store(async |store| {
        let accounts = repository(&store);
        let noon = "2016-07-04T12:00:00Z".parse().expect("a time");
        let metadata = Metadata::new().with("user", "ada");
        let executed = accounts.execute(&id(), Deposit { cents: 1 }).occurred_at(noon).with_metadata(metadata.clone());
        assert_eq!(executed.await.expect("deposited").state.last_movement, Some(noon));
        let event = events(&store).await.remove(0);
        assert_eq!((event.occurred_at, &event.data.metadata), (noon, &metadata));
        assert!(event.recorded_at > noon);
    });
}

/// The cache of a repository does not see the commits of another repository, so each load reads the new events.
#[test]
fn a_command_is_never_decided_on_a_stale_cached_state() {
    on_every_store(async |store| {
        let cached = repository(&store).with_cache(10).with_retry(RetryPolicy::NEVER);
        let other = repository(&store);
        for round in 1..=20 {
            cached.execute(&id(), Deposit { cents: 1 }).await.expect("decided on the current state");
            other.execute(&id(), Deposit { cents: 1 }).await.expect("deposited");
            assert_eq!(cached.load(&id()).await.expect("loaded").state.cents, 2 * round);
        }
        other.execute(&id(), Close).await.expect("closed");
        // A rejection commits nothing, so a decision on a stale state would not be detected by a conflict.
        let rejected = cached.execute(&id(), Deposit { cents: 1 }).await.expect_err("closed");
        assert_eq!(rejected.rejection(), Some(&Refusal::Closed));
        assert_eq!(cached.execute(&id(), Close).await.expect("closed").outcome, Outcome::Unchanged);
    });
}

/// An aggregate that counts the calls of `evolve`.
mod counted {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    pub(crate) static EVOLVED: AtomicUsize = AtomicUsize::new(0);

    #[derive(Clone, Debug, Aggregate)]
    #[aggregate(category = "account", id = String, event = AccountEvent)]
    pub(crate) struct Counted;

    impl Evolve for Counted {
        fn initial(_: &String) -> Self {
            Self
        }
        fn evolve(&mut self, _: &AccountEvent, _: &EventContext<'_>) {
            EVOLVED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test]
async fn a_load_from_the_cache_applies_only_new_events() {
    let evolved = || counted::EVOLVED.swap(0, std::sync::atomic::Ordering::Relaxed);
    let store = memory();
    let deposit = async || repository(&store).execute(&id(), Deposit { cents: 1 }).await.expect("deposited");
    for _ in 0..5 {
        deposit().await;
    }
    let cached = Repository::<counted::Counted>::new(Arc::clone(&store)).with_cache(1);
    cached.load(&id()).await.expect("loaded");
    assert_eq!(evolved(), 5, "the first load applies all events");
    cached.load(&id()).await.expect("loaded");
    assert_eq!(evolved(), 0, "no event is new");
    deposit().await;
    cached.load(&id()).await.expect("loaded");
    assert_eq!(evolved(), 1, "one event is new");
    cached.load(&"8".to_owned()).await.expect("loaded");
    cached.load(&id()).await.expect("loaded");
    assert_eq!(evolved(), 6, "the cache holds only one aggregate");
    let default = Repository::<counted::Counted>::new(Arc::clone(&store));
    default.load(&id()).await.expect("loaded");
    default.load(&"8".to_owned()).await.expect("loaded");
    evolved();
    default.load(&id()).await.expect("loaded");
    assert_eq!(evolved(), 0, "a repository has a cache by default");
}

#[test]
fn past_states_can_be_loaded_by_revision_by_recorded_time_and_by_business_time() {
    let clock = Arc::new(ManualClock::at("2024-01-01T00:00:00Z".parse().expect("a time")));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let store: Store = Arc::new(MemoryStore::with_clock(Arc::clone(&clock) as _));
        let accounts = repository(&store).with_clock(Arc::clone(&clock) as _);
        let hour = Duration::from_secs(3_600);
        let june = |day: u32| format!("2016-06-{day:02}T00:00:00Z").parse().expect("a time");
        for (cents, day) in [(1, 10), (10, 5), (100, 20)] {
            accounts.execute(&id(), Deposit { cents }).occurred_at(june(day)).await.expect("deposited");
            clock.advance(hour);
        }
        let cents = async |as_of: AsOf| {
            accounts.load_at(&id(), as_of).await.map(|loaded| (loaded.state.cents, loaded.revision))
        };
        let revision = |number| Some(Revision::new(number));
        let second = accounts.load_at_revision(&id(), Revision::new(1)).await.expect("loaded");
        assert_eq!((second.state.cents, second.revision), (11, revision(1)));
        let start: es_core::Timestamp = "2024-01-01T00:30:00Z".parse().expect("a time");
        let first = start - hour / 2;
        assert_eq!(cents(AsOf::Recorded(first)).await.expect("loaded"), (1, revision(0)), "at exactly this time");
        assert_eq!(cents(AsOf::Recorded(start)).await.expect("loaded"), (1, revision(0)));
        assert_eq!(cents(AsOf::Recorded(start + hour)).await.expect("loaded"), (11, revision(1)));
        let future = cents(AsOf::Recorded(start + hour * 24)).await.expect_err("the time is in the future");
        assert!(matches!(&future, LoadError::TimeAheadOfLog(ahead) if ahead.now == start + hour / 2 * 5), "{future}");
        // The clock was set back: times up to the last recorded event are still in the log.
        clock.set(start - hour);
        assert_eq!(cents(AsOf::Recorded(start + hour)).await.expect("loaded"), (11, revision(1)));
        assert_eq!(cents(AsOf::Occurred(june(4))).await.expect("loaded"), (0, None));
        assert_eq!(cents(AsOf::Occurred(june(5))).await.expect("loaded"), (10, revision(1)));
        assert_eq!(cents(AsOf::Occurred(june(19))).await.expect("loaded"), (11, revision(1)));
        assert_eq!(cents(AsOf::Occurred(june(20))).await.expect("loaded"), (111, revision(2)));
        let error = accounts.load_at_revision(&id(), Revision::new(3)).await.expect_err("the stream has three events");
        assert_eq!(
            error.to_string(),
            "stream \"account-7\": expected to reach revision 3, found revision 2; ask for a lower one"
        );
    });
}

#[test]
fn an_unknown_event_is_a_typed_error_of_the_aggregate_and_readable_in_the_log() {
    on_every_store(async |store| {
        let unknown = NewEvent::json(EventType::new("account-frozen").expect("a name"), r#"{"by":"court"}"#);
        store.commit(Commit::to(&stream(), ExpectedRevision::Any, [unknown])).await.expect("written");
        let error = repository(&store).load(&id()).await.expect_err("unknown to the aggregate");
        let LoadError::Event { source: DecodeEventError::UnknownType { found, .. }, .. } = &error else {
            panic!("expected an unknown event type, found {error}");
        };
        assert_eq!(found, "account-frozen");
        assert_eq!(error.to_string(), "could not read stream \"account-7\", revision 0 (position 1)");
        let cause = std::error::Error::source(&error).expect("the cause is the source").to_string();
        assert_eq!(
            cause,
            "unknown event type \"account-frozen\" (known: account-opened, money-deposited, money-withdrawn, \
             account-closed); add a variant of this name, an alias, or retire it"
        );
        let failed = repository(&store).execute(&id(), Check).await.expect_err("no decision on an incomplete state");
        assert!(matches!(failed, ExecuteError::Failed(InfrastructureError::Load(LoadError::Event { .. }))));
        assert_eq!(&*events(&store).await[0].data.payload, br#"{"by":"court"}"#);
    });
}

#[test]
fn a_stream_can_mix_codecs_and_tags_are_derived_from_fields() {
    on_every_store(async |store| {
        let accounts = repository(&store);
        accounts.execute(&id(), Open { owner: "ada".into() }).await.expect("opened");
        accounts.execute(&id(), Deposit { cents: 3 }).await.expect("deposited");
        accounts.execute(&id(), Withdraw { cents: 1 }).await.expect("withdrawn");
        let types: Vec<String> = events(&store).await.iter().map(|event| event.data.content_type.to_string()).collect();
        assert_eq!(types, ["application/json", "application/msgpack", "application/json"]);
        let of_ada = LogRead::tag(es_core::model::Tag::new("owner:ada").expect("a name"));
        assert_eq!(store.read_log(of_ada).await.expect("opened").collect().await.expect("read").len(), 1);
        assert_eq!(accounts.load(&id()).await.expect("loaded").state.cents, 2);
    });
}

#[test]
fn a_decision_claims_and_releases_unique_keys_with_its_events() {
    on_every_store(async |store| {
        let members = Repository::<Member>::new(Arc::clone(&store));
        let email = || "ada@example.org".to_owned();
        let reserved = members.execute(&6, Reserve { email: email() }).await.expect_err("a claim without an event");
        assert!(matches!(reserved, ExecuteError::Failed(InfrastructureError::KeysWithoutEvent { .. })), "{reserved}");
        members.execute(&7, Join { email: email() }).await.expect("the key is free");
        let joined = events(&store).await.pop().expect("an event");
        assert_eq!(joined.data.keys, [KeyChange::Claim(email_key(&email()))].into_iter().collect());
        let duplicate = members.execute(&8, Join { email: email() }).await.expect_err("member 7 holds the key");
        let conflict = duplicate.conflict().expect("a conflict");
        let holder = Member::stream(&7).expect("a name");
        assert!(matches!(&conflict.failed[..], [FailedCheck::UniqueKey { held_by, .. }] if *held_by == holder));
        assert_eq!(members.execute(&8, Leave).await.expect("accepted").outcome, Outcome::Unchanged);
        members.execute(&7, Leave).await.expect("left");
        members.execute(&8, Join { email: email() }).await.expect("the key was released");
    });
}

#[test]
fn an_append_condition_of_a_command_is_checked_in_its_commit() {
    on_every_store(async |store| {
        let accounts = repository(&store);
        let of_ada = || QueryItem::new().tag(es_core::model::Tag::new("owner:ada").expect("a name"));
        let open = |id: &str| accounts.execute(&id.to_owned(), Open { owner: "ada".into() });
        let first = open("7").append_if_none(of_ada(), None).await.expect("no event has the tag");
        let error = open("8").append_if_none(of_ada(), None).await.expect_err("account 7 has the tag");
        let conflict = error.conflict().expect("a conflict");
        assert!(matches!(&conflict.failed[..], [FailedCheck::Match { .. }]), "{conflict}");
        open("8").append_if_none(of_ada(), first.position).await.expect("no event after the first has the tag");
    });
}

#[test]
fn an_id_that_is_not_a_valid_stream_name_is_an_error() {
    on_every_store(async |store| {
        let error = repository(&store).load(&"a\nb".to_owned()).await.expect_err("a control character");
        assert!(matches!(error, LoadError::Name(_)), "{error}");
        let read = store.read_stream(StreamRead::new(stream())).await.expect("opened");
        assert_eq!(read.collect().await.expect("read"), []);
    });
}

/// An aggregate that records the event context.
mod seen {
    use super::*;

    #[derive(Clone, Debug, Aggregate)]
    #[aggregate(category = "account", id = String, event = AccountEvent)]
    pub(crate) struct Seen(pub(crate) Vec<String>);

    impl Evolve for Seen {
        fn initial(_: &String) -> Self {
            Self(Vec::new())
        }
        fn evolve(&mut self, _: &AccountEvent, at: &EventContext<'_>) {
            let user = at.metadata().get_str("user").unwrap_or("nobody");
            let revision = at.revision();
            self.0.push(format!("{} {revision} {user} {}", at.id(), at.recorded_at() >= at.occurred_at()));
        }
    }
}

#[test]
fn evolve_receives_the_id_revision_times_and_metadata_of_the_event() {
    on_every_store(async |store| {
        let then = "2016-07-04T12:00:00Z".parse().expect("a time");
        let deposit = repository(&store);
        let deposit = deposit.execute(&id(), Deposit { cents: 1 }).occurred_at(then);
        deposit.with_metadata(Metadata::new().with("user", "ada")).await.expect("deposited");
        let event = events(&store).await.remove(0);
        let loaded = Repository::<seen::Seen>::new(Arc::clone(&store)).load(&id()).await.expect("loaded");
        assert_eq!(loaded.state.0, [format!("{} 0 ada true", event.data.id)]);
    });
}
