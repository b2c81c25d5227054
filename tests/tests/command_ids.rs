//! A command id is bound to its command: another command under a used id is refused, on every store.

use std::sync::Arc;

use es_core::aggregate::{InfrastructureError, RetryPolicy, UnitError};
use es_core::prelude::*;
use es_core::retention::{DeleteKind, Note};
use es_core::store::delete_stream;
use es_core::{Commit, LogRead, Outcome, StreamId, Timestamp, UnitOfWork};
use es_tests::account::{Account, Check, Deposit, Open, Withdraw};
use es_tests::stores::{on_every_store, rocksdb};

type Store = Arc<dyn EventStore>;
type Accounts = Repository<Account>;

fn accounts(store: &Store) -> Accounts {
    Repository::new(Arc::clone(store))
}

fn id() -> String {
    "7".to_owned()
}

fn stream() -> StreamId {
    StreamId::new("account-7").expect("a name")
}

fn request() -> CommandId {
    CommandId::new("k1").expect("a name")
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

async fn event_count(store: &Store) -> usize {
    store.read_log(LogRead::all()).await.expect("opened").collect().await.expect("read").len()
}

/// Returns the descriptions of the first and the refused command.
fn reused(error: InfrastructureError) -> (String, String) {
    match error {
        InfrastructureError::CommandIdReused { command_id, first, repeated } if command_id == request() => {
            (first, repeated)
        }
        other => panic!("expected a reused command id, found {other}"),
    }
}

fn failure<T: std::fmt::Debug, R>(result: Result<T, ExecuteError<R>>) -> InfrastructureError {
    match result {
        Err(ExecuteError::Failed(error)) => error,
        Err(_) => panic!("expected a failure of the infrastructure, found a rejection or a conflict"),
        Ok(executed) => panic!("expected a failure of the infrastructure, found {executed:?}"),
    }
}

async fn deposit(
    accounts: &Accounts,
    cents: u64,
) -> Result<Executed<Account>, ExecuteError<es_tests::account::Refusal>> {
    accounts.execute(&id(), Deposit { cents }).with_id(request()).await
}

/// Case 11: 9 pieces were never booked and 1 was never withdrawn, and both were answered with the first result.
#[test]
fn another_command_under_a_used_id_is_refused_and_names_both_types() {
    on_every_store(async |store| {
        let accounts = accounts(&store);
        let first = deposit(&accounts, 5).await.expect("deposited");
        let (used_for, found) = reused(failure(deposit(&accounts, 9).await));
        assert_eq!(used_for, "es_tests::account::Deposit to \"account-7\"");
        assert_eq!(found, format!("{used_for} with other content or another time"));
        let withdraw = accounts.execute(&id(), Withdraw { cents: 5 }).with_id(request()).await;
        let error = failure(withdraw);
        assert_eq!(
            error.to_string(),
            "command id \"k1\" was used for es_tests::account::Deposit to \"account-7\", found \
             es_tests::account::Withdraw to \"account-7\"; use another command id"
        );
        let repeated = deposit(&accounts, 5).await.expect("the first result");
        assert_eq!((repeated.outcome, repeated.events), (Outcome::Repeated, first.events));
        assert_eq!(event_count(&store).await, 1);
    });
}

/// The time that the caller sets is a part of the command. Metadata and preconditions are not.
#[test]
fn the_time_of_a_command_is_bound_and_its_metadata_is_not() {
    on_every_store(async |store| {
        let accounts = accounts(&store);
        let at = |text| accounts.execute(&id(), Deposit { cents: 5 }).occurred_at(time(text)).with_id(request());
        at("2020-01-01T00:00:00Z").await.expect("deposited");
        reused(failure(at("2021-01-01T00:00:00Z").await));
        reused(failure(deposit(&accounts, 5).await));
        let metadata = es_core::model::Metadata::new().with("who", "bob");
        let repeat = at("2020-01-01T00:00:00Z").with_metadata(metadata).at_revision(Revision::new(77)).await;
        assert_eq!(repeat.expect("the first result").outcome, Outcome::Repeated);
    });
}

/// A command without events is bound, too.
#[test]
fn a_command_without_events_is_bound() {
    on_every_store(async |store| {
        let accounts = accounts(&store);
        accounts.execute(&id(), Check).with_id(request()).await.expect("accepted");
        reused(failure(deposit(&accounts, 5).await));
        assert_eq!(event_count(&store).await, 0);
    });
}

#[test]
fn one_of_two_concurrent_commands_under_one_id_is_refused() {
    on_every_store(async |store| {
        let mut tasks = tokio::task::JoinSet::new();
        for cents in 1..=16 {
            let accounts = accounts(&store).with_retry(RetryPolicy::attempts(1_000));
            tasks.spawn(async move { deposit(&accounts, cents).await });
        }
        let results = tasks.join_all().await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        results.into_iter().filter(Result::is_err).for_each(|result| drop(reused(failure(result))));
        assert_eq!(event_count(&store).await, 1);
    });
}

#[test]
fn a_unit_is_bound_to_all_its_commands_and_their_order() {
    on_every_store(async |store| {
        let accounts = accounts(&store);
        accounts.execute(&id(), Deposit { cents: 100 }).await.expect("deposited");
        let transfer = async |to: &str, cents: u64, received: u64| {
            UnitOfWork::new(&store)
                .execute(&accounts, id(), Withdraw { cents })
                .execute_all(&accounts, [(to.to_owned(), Deposit { cents: received }), (id(), Deposit { cents: 0 })])
                .with_id(request())
                .await
        };
        transfer("8", 10, 10).await.expect("executed");
        let repeat = transfer("8", 10, 10).await.expect("the first results");
        assert_eq!(repeat.0.outcome, Outcome::Repeated);
        let refused = |error| match error {
            UnitError::Failed(error) => reused(error),
            other => panic!("expected a failure, found {other}"),
        };
        for other in [transfer("9", 10, 10).await, transfer("8", 11, 10).await, transfer("8", 10, 9).await] {
            refused(other.expect_err("another unit"));
        }
        let fewer = UnitOfWork::new(&store).execute(&accounts, id(), Withdraw { cents: 10 }).with_id(request());
        let UnitError::Failed(fewer) = fewer.await.expect_err("a part of the unit") else { panic!("a failure") };
        let (first, found) = reused(fewer);
        let first_types = "es_tests::account::Withdraw to \"account-7\", es_tests::account::Deposit to \"account-8\", \
                           es_tests::account::Deposit to \"account-7\"";
        assert_eq!((first.as_str(), found.as_str()), (first_types, "es_tests::account::Withdraw to \"account-7\""));
        reused(failure(deposit(&accounts, 10).await));
        assert_eq!(event_count(&store).await, 4);
    });
}

/// A field that is encrypted again for each request differs in a repeat, so the id is bound to what the request has.
#[test]
fn an_id_can_be_bound_to_a_content_that_the_caller_gives() {
    on_every_store(async |store| {
        let accounts = accounts(&store);
        let open = async |sealed: &str, fingerprint: &str| {
            let command = Open { owner: sealed.to_owned() };
            accounts.execute(&id(), command).with_id_of(request(), &("open", fingerprint)).await
        };
        let first = open("sealed with nonce 1", "ada").await.expect("opened");
        let repeat = open("sealed with nonce 2", "ada").await.expect("the first result");
        assert_eq!((repeat.outcome, repeat.events), (Outcome::Repeated, first.events));
        reused(failure(open("sealed with nonce 1", "bob").await));
        let unit = async |sealed: &str, fingerprint: &str| {
            UnitOfWork::new(&store)
                .execute(&accounts, "8".into(), Open { owner: sealed.to_owned() })
                .execute_all(&accounts, [("8".into(), Deposit { cents: 1 })])
                .with_id_of(request(), fingerprint)
                .await
        };
        unit("nonce 1", "ada").await.expect("executed");
        assert_eq!(unit("nonce 2", "ada").await.expect("the first results").0.outcome, Outcome::Repeated);
        let UnitError::Failed(error) = unit("nonce 1", "bob").await.expect_err("another request") else {
            panic!("expected a failure");
        };
        reused(error);
        assert_eq!(event_count(&store).await, 3);
    });
}

/// The id is bound to the commands that the unit has when the id is set.
#[tokio::test]
async fn a_unit_with_a_command_after_its_id_is_refused() {
    let store: Store = Arc::new(es_core::store::memory::MemoryStore::new());
    let accounts = accounts(&store);
    let unit = UnitOfWork::new(&store).execute(&accounts, id(), Deposit { cents: 1 }).with_id(request());
    let unit = unit.execute(&accounts, id(), Deposit { cents: 1 }).await.expect_err("the second is not bound");
    assert_eq!(
        unit.to_string(),
        "could not bind command id \"k1\" to its commands: commands were added after the id; set the id after all \
         commands"
    );
    assert_eq!(event_count(&store).await, 0);
}

#[tokio::test]
async fn a_command_id_is_bound_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    for is_first in [true, false] {
        let opened = rocksdb(directory.path()).await;
        let store: Store = Arc::new(opened.clone());
        let accounts = accounts(&store);
        if is_first {
            deposit(&accounts, 5).await.expect("deposited");
        }
        reused(failure(deposit(&accounts, 9).await));
        assert_eq!(deposit(&accounts, 5).await.expect("the first result").outcome, Outcome::Repeated);
        opened.close().await.expect("closed");
    }
}

/// User row 17: a command id from before a deletion is used up. A repeat never executes the command a second time.
#[test]
fn a_command_id_from_before_a_deletion_stays_used() {
    for kind in [DeleteKind::Soft, DeleteKind::Hard] {
        on_every_store(async |store| {
            let accounts = accounts(&store);
            deposit(&accounts, 5).await.expect("deposited");
            delete_stream(&*store, &stream(), kind, ExpectedRevision::Any, Note::default()).await.expect("deleted");
            for is_written_again in [false, true] {
                let removed = failure(deposit(&accounts, 5).await);
                let is_removed = matches!(&removed, InfrastructureError::ResultRemoved { .. });
                assert!(is_removed, "{kind}, written again: {is_written_again}: {removed}");
                reused(failure(deposit(&accounts, 9).await));
                let reopened = accounts.execute(&id(), Open { owner: "bob".into() }).await;
                assert_eq!(reopened.is_ok(), kind == DeleteKind::Soft, "only a soft deleted stream continues");
            }
            assert_eq!(accounts.load(&id()).await.expect("loaded").state.cents, 0, "the deposit was not repeated");
        });
    }
}

/// A row of an earlier version does not name its command: a repeat must not be told that it was not executed.
#[test]
fn a_row_of_an_earlier_version_is_a_result_of_any_command_to_the_aggregate() {
    on_every_store(async |store| {
        let accounts = accounts(&store);
        let executed = accounts.execute(&id(), Deposit { cents: 5 }).await.expect("deposited");
        let event = store.read_log(LogRead::all()).await.expect("opened").collect().await.expect("read").remove(0);
        let row =
            format!(r#"{{"format":2,"results":[{{"stream":"account-7","events":["{}"],"last":0}}]}}"#, event.data.id);
        let table = es_core::model::Table::new("commands").expect("a name");
        store.commit(Commit::new().put_row(table, "account-7\0k1", row)).await.expect("written");
        let repeated = deposit(&accounts, 5).await.expect("the first result");
        assert_eq!((repeated.outcome, repeated.events), (Outcome::Repeated, executed.events));
        let unit = UnitOfWork::new(&store)
            .execute(&accounts, id(), Deposit { cents: 5 })
            .execute(&accounts, id(), Deposit { cents: 5 })
            .with_id(request())
            .await;
        let UnitError::Failed(error) = unit.expect_err("another number of commands") else { panic!("a failure") };
        assert_eq!(reused(error).0, "a command of an earlier version to \"account-7\"");
    });
}
