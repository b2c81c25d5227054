//! Transactions across stores: what commits, what aborts, and what other commands see meanwhile.
#![allow(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod bank;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bank::*;
use es_core::aggregate::UnitError;
use es_core::prelude::*;
use es_core::projection::inline::Inline;
use es_core::store::StreamRead;
use es_core::store::memory::MemoryStore;
use es_core::{Commit, CommitError, EventType, ExecuteError, ExpectedRevision, NewEvent, StreamId, UnitOfWork};
use es_transaction::machine::Call;
use es_transaction::{
    Completed, EnlistError, HookAction, HookPlace, HookPoint, Outcome, Participant, Protocol, Strength,
    TransactionError, Transactions,
};

/// Transfers money between two banks that are participants.
async fn transfer(
    transactions: &Transactions,
    (from, to): (&Bank, &Bank),
    cents: u64,
    protocol: Protocol,
) -> Result<Completed<()>, TransactionError<EnlistError>> {
    transactions
        .begin()
        .protocol(protocol)
        .run(async |tx| {
            tx.enlist_participant(&from.participant, &withdraw(1, cents))?;
            tx.enlist_participant(&to.participant, &deposit(2, cents))
        })
        .await
}

async fn settle(a: &Bank, b: &Bank) {
    wait_until(async || !a.is_locked(1).await && !b.is_locked(2).await).await;
}

async fn types(bank: &Bank, id: u64) -> Vec<String> {
    let events = bank.store.read_stream(StreamRead::new(stream(id))).await.unwrap().collect().await.unwrap();
    events.iter().map(|event| event.data.event_type.to_string()).collect()
}

fn stream(id: u64) -> StreamId {
    StreamId::new(format!("account-{id}")).unwrap()
}

async fn banks() -> (Bank, Bank) {
    (Bank::new("a").with_account(1, 100).await, Bank::new("b").with_account(2, 5).await)
}

#[tokio::test]
async fn a_transfer_between_two_stores_commits_with_either_protocol() {
    for (protocol, strength) in [(Protocol::TwoPhase, Strength::TwoPhase), (Protocol::ThreePhase, Strength::ThreePhase)]
    {
        let (a, b) = banks().await;
        let running = coordinator(&a.store, &[&a, &b]).start().await.unwrap();
        let done = transfer(&running, (&a, &b), 30, protocol).await.unwrap();
        assert_eq!(done.strength, strength);
        settle(&a, &b).await;
        assert_eq!((a.cents(1).await, b.cents(2).await), (70, 35));
        assert_eq!(running.outcome(&done.transaction).await.unwrap(), Some(Outcome::Committed));
        assert!(running.shutdown(Duration::from_secs(5)).await);
        let last = ["es.tx-committed", "deposited"];
        let middle: &[&str] = if protocol == Protocol::TwoPhase { &[] } else { &["es.tx-pre-committed"] };
        assert_eq!(types(&b, 2).await, [&["deposited", "es.tx-prepared"], middle, &last].concat());
    }
}

#[tokio::test]
async fn a_refusal_of_one_participant_aborts_all() {
    for protocol in [Protocol::TwoPhase, Protocol::ThreePhase] {
        let (a, b) = banks().await;
        let running = coordinator(&a.store, &[&a, &b]).start().await.unwrap();
        let error = transfer(&running, (&a, &b), 101, protocol).await.unwrap_err();
        assert!(
            matches!(&error, TransactionError::Aborted { reason, .. } if reason == "the account has 100 cents"),
            "{error}"
        );
        settle(&a, &b).await;
        assert_eq!((a.cents(1).await, b.cents(2).await), (100, 5));
    }
}

/// The coordinator's own store changes in the commit of the decision, so its aggregates are never locked.
#[tokio::test]
async fn the_own_store_changes_with_the_decision() {
    let (a, b) = banks().await;
    let running = coordinator(&a.store, &[&b]).start().await.unwrap();
    let run = async |cents: u64| {
        running
            .begin()
            .run(async |tx| {
                tx.enlist(&a.accounts, 1, Withdraw { cents }).await.map_err(|error| error.to_string())?;
                tx.enlist_participant(&b.participant, &deposit(2, cents)).map_err(|error| error.to_string())
            })
            .await
    };
    assert_eq!(run(40).await.unwrap().strength, Strength::TwoPhase);
    settle(&a, &b).await;
    assert_eq!((a.cents(1).await, b.cents(2).await), (60, 45));
    assert_eq!(types(&a, 1).await, ["deposited", "withdrawn"]);
    let refused = run(61).await.unwrap_err();
    assert!(matches!(&refused, TransactionError::Function(reason) if reason.contains("60 cents")), "{refused}");
    assert_eq!((a.cents(1).await, b.cents(2).await), (60, 45));
}

/// Another command empties the account after the command was decided and before the decision. The participants abort.
#[tokio::test]
async fn a_rejection_at_the_decision_aborts_the_participants() {
    let (a, b) = banks().await;
    let other = a.clone();
    let empty = move || {
        let other = other.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async { other.accounts.execute(&1, Withdraw { cents: 100 }).await.unwrap() });
        })
        .join()
        .unwrap();
    };
    let coordinator = coordinator(&a.store, &[&b]).test_hook(move |point| {
        if point.place == (HookPlace::BeforeRecord { number: 1 }) {
            empty();
        }
        HookAction::Continue
    });
    let running = coordinator.start().await.unwrap();
    let result = running
        .begin()
        .run(async |tx| {
            tx.enlist(&a.accounts, 1, Withdraw { cents: 40 }).await.map_err(|error| error.to_string())?;
            tx.enlist_participant(&b.participant, &deposit(2, 40)).map_err(|error| error.to_string())
        })
        .await;
    assert!(
        matches!(&result, Err(TransactionError::Aborted { reason, .. }) if reason == "the account has 0 cents"),
        "{result:?}"
    );
    settle(&a, &b).await;
    assert_eq!((a.cents(1).await, b.cents(2).await), (0, 5));
}

#[tokio::test]
async fn a_transaction_in_one_store_is_one_commit() {
    let a = Bank::new("a").with_account(1, 100).await.with_account(2, 0).await;
    let running = coordinator(&a.store, &[]).start().await.unwrap();
    let before = a.store.head().await.unwrap();
    let done = running
        .begin()
        .run(async |tx| {
            tx.enlist(&a.accounts, 1, Withdraw { cents: 30 }).await?;
            tx.enlist(&a.accounts, 1, Withdraw { cents: 30 }).await
        })
        .await
        .unwrap();
    assert_eq!(done.strength, Strength::OneCommit);
    assert_eq!(a.cents(1).await, 40);
    let after = a.store.head().await.unwrap();
    assert_eq!(after.unwrap().get() - before.unwrap().get(), 2, "two events, and no record");
}

/// A single participant decides alone: no record is written.
#[tokio::test]
async fn a_single_participant_commits_in_one_phase() {
    let (a, b) = banks().await;
    let running = coordinator(&a.store, &[&a, &b]).start().await.unwrap();
    let head = a.store.head().await.unwrap();
    let run = async |first: u64, second: u64| {
        running
            .begin()
            .run(async |tx| {
                tx.enlist_participant(&a.participant, &deposit(1, first))?;
                tx.enlist_participant(&b.participant, &deposit(2, second))
            })
            .await
            .unwrap()
    };
    let _ = run(0, 7).await;
    settle(&a, &b).await;
    assert_eq!((b.cents(2).await, a.store.head().await.unwrap()), (12, head), "the first was read-only");
    let _ = run(0, 0).await;
    assert_eq!(types(&b, 2).await.len(), 4, "nothing is prepared");
}

/// The lock holds against every kind of writer, and commands wait for its end.
#[tokio::test]
async fn a_prepared_aggregate_is_locked_for_everybody() {
    let (a, b) = banks().await;
    let locked = Arc::new(tokio::sync::Notify::new());
    let release = Arc::new(AtomicBool::new(false));
    let (notify, released) = (Arc::clone(&locked), Arc::clone(&release));
    let coordinator = coordinator(&a.store, &[&a, &b]).test_hook(move |point| match point.place {
        HookPlace::BeforeCall { call: Call::Commit, participant: "b" } if !released.load(Ordering::SeqCst) => {
            notify.notify_one();
            HookAction::Lose
        }
        _ => HookAction::Continue,
    });
    let running = coordinator.start().await.unwrap();
    let _ = transfer(&running, (&a, &b), 30, Protocol::TwoPhase).await.unwrap();
    locked.notified().await;
    let holder = b.accounts.load(&2).await.unwrap().locked_by().cloned().expect("the account is locked");
    let error = b.accounts.execute(&2, Deposit { cents: 1 }).await.unwrap_err();
    assert!(matches!(&error, ExecuteError::Locked(locked) if locked.transaction == holder), "{error}");
    let unit = UnitOfWork::new(&b.store).execute(&b.accounts, 3, Deposit { cents: 1 });
    let unit = unit.execute(&b.accounts, 2, Deposit { cents: 1 }).await.unwrap_err();
    assert!(matches!(unit, UnitError::Locked(_)), "{unit}");
    let raw = Commit::to(&stream(2), ExpectedRevision::Any, [NewEvent::json(EventType::new("x").unwrap(), "{}")]);
    assert!(matches!(b.store.commit(raw).await, Err(CommitError::Conflict(_))));
    let plan = b.accounts.plan(&2, Deposit { cents: 1 }).await.unwrap_err();
    assert!(matches!(plan, ExecuteError::Locked(_)), "{plan}");
    assert_eq!(b.cents(3).await, 0, "nothing of the unit was written");
    // A repository without a cache, and one that loads from a snapshot, see the lock, too.
    let fresh = Bank::on("b", Arc::clone(&b.store));
    assert_eq!((fresh.cents(2).await, fresh.is_locked(2).await), (5, true));
    let patient = Repository::<Account>::new(Arc::clone(&b.store)).with_lock_wait(Duration::from_secs(60));
    let waiting = patient.execute(&2, Deposit { cents: 1 });
    release.store(true, Ordering::SeqCst);
    assert_eq!(waiting.await.unwrap().state.cents, 36, "the command waits for the end of the transaction");
}

/// Two transactions lock the same accounts in opposite order. The younger one aborts soon, or both are decided one
/// after the other. None hangs.
#[tokio::test]
async fn transactions_in_opposite_order_do_not_deadlock() {
    let (a, b) = banks().await;
    let b = b.with_account(1, 100).await;
    let a = a.with_account(2, 5).await;
    let running = coordinator(&a.store, &[&a, &b]).start().await.unwrap();
    let mut committed = 0;
    for _ in 0..20 {
        let results = tokio::join!(
            transfer(&running, (&a, &b), 1, Protocol::TwoPhase),
            transfer(&running, (&b, &a), 1, Protocol::TwoPhase),
            locks_both(&running, &a, &b),
        );
        for result in [results.0, results.1, results.2] {
            match result {
                Ok(_) => committed += 1,
                Err(TransactionError::Aborted { reason, .. }) => assert!(reason.contains("is locked by"), "{reason}"),
                Err(other) => panic!("expected an abort by wait-die, found {other}"),
            }
        }
    }
    assert!(committed >= 20, "{committed} of 60");
    settle(&a, &b).await;
    settle(&b, &a).await;
    let sum = a.cents(1).await + a.cents(2).await + b.cents(1).await + b.cents(2).await;
    assert_eq!(sum, 210);
}

/// A caller is told the outcome before the participants have committed. Its next transaction waits for the locks of the
/// first one.
#[tokio::test]
async fn a_caller_runs_one_transaction_after_the_other() {
    let (a, b) = banks().await;
    let hook = |point: HookPoint<'_>| match point.place {
        HookPlace::BeforeCall { call: Call::Commit, .. } => HookAction::Delay(Duration::from_millis(20)),
        _ => HookAction::Continue,
    };
    let running = coordinator(&a.store, &[&a, &b]).test_hook(hook).start().await.unwrap();
    for protocol in [Protocol::TwoPhase, Protocol::ThreePhase].repeat(3) {
        assert!(transfer(&running, (&a, &b), 10, protocol).await.is_ok());
    }
    settle(&a, &b).await;
    assert_eq!((a.cents(1).await, b.cents(2).await), (40, 65));
}

async fn locks_both(
    transactions: &Transactions,
    a: &Bank,
    b: &Bank,
) -> Result<Completed<()>, TransactionError<EnlistError>> {
    let both =
        |list: es_transaction::CommandList, id, cents: u64| list.command("deposit", id, &Deposit { cents }).unwrap();
    transactions
        .begin()
        .run(async |tx| {
            tx.enlist_participant(&b.participant, &both(withdraw(2, 1), 1, 1))?;
            tx.enlist_participant(&a.participant, &both(withdraw(2, 1), 1, 1))
        })
        .await
}

/// A function that fails, panics or takes too long prepares nothing.
#[tokio::test]
async fn a_function_that_does_not_return_ok_changes_nothing() {
    let (a, b) = banks().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let coordinator = coordinator(&a.store, &[&a, &b]).test_hook(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        HookAction::Continue
    });
    let running = coordinator.start().await.unwrap();
    let failed = running
        .begin()
        .run(async |tx| {
            tx.enlist_participant(&a.participant, &withdraw(1, 1)).unwrap();
            Err::<(), _>("no")
        })
        .await;
    assert!(matches!(failed, Err(TransactionError::Function("no"))));
    let late = running.begin().timeout(Duration::from_millis(20)).run(async |tx| {
        tx.enlist_participant(&a.participant, &withdraw(1, 1)).unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok::<_, ()>(())
    });
    assert!(matches!(late.await, Err(TransactionError::TimedOut { .. })));
    let transactions = running.transactions();
    let (bank, handle) = (a.clone(), transactions.clone());
    let panicked = tokio::spawn(async move {
        let run = handle.begin().run(async |tx| {
            tx.enlist_participant(&bank.participant, &withdraw(1, 1)).unwrap();
            assert!(tx.id().coordinator().is_empty(), "the function panics");
            Ok::<_, ()>(())
        });
        run.await.map(drop).map_err(drop)
    });
    assert!(panicked.await.is_err());
    assert_eq!(calls.load(Ordering::SeqCst), 0, "no participant was called");
    assert_eq!((a.cents(1).await, a.is_locked(1).await), (100, false));
}

/// A caller that is dropped while the participants vote aborts the transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_caller_aborts() {
    let (a, b) = banks().await;
    let is_dropped = Arc::new(AtomicBool::new(false));
    let may_continue = Arc::clone(&is_dropped);
    let coordinator = coordinator(&a.store, &[&a, &b]).test_hook(move |point| {
        if let HookPlace::BeforeCall { call: Call::Prepare, participant: "b" } = point.place {
            while !may_continue.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        HookAction::Continue
    });
    let running = coordinator.start().await.unwrap();
    let dropped = tokio::time::timeout(Duration::from_millis(1), transfer(&running, (&a, &b), 30, Protocol::TwoPhase));
    assert!(dropped.await.is_err());
    is_dropped.store(true, Ordering::SeqCst);
    assert!(running.shutdown(Duration::from_secs(5)).await);
    assert_eq!((a.cents(1).await, b.cents(2).await), (100, 5));
    assert!(!a.is_locked(1).await && !b.is_locked(2).await);
}

#[tokio::test]
async fn a_participant_is_registered_and_enlisted_once() {
    let (a, b) = banks().await;
    let running = coordinator(&a.store, &[&a]).start().await.unwrap();
    let unregistered = transfer(&running, (&a, &b), 1, Protocol::TwoPhase).await;
    assert!(matches!(unregistered, Err(TransactionError::Function(EnlistError::Unregistered { .. }))));
    let twice = transfer(&running, (&a, &a), 1, Protocol::TwoPhase).await;
    assert!(matches!(twice, Err(TransactionError::Function(EnlistError::Twice { .. }))));
    let own = running
        .begin()
        .protocol(Protocol::ThreePhase)
        .run(async |tx| tx.enlist(&a.accounts, 1, Withdraw { cents: 1 }).await);
    assert!(matches!(own.await, Err(TransactionError::Aborted { reason, .. }) if reason.contains("StoreParticipant")));
    let stopped = running.transactions();
    running.shutdown(Duration::from_secs(1)).await;
    assert!(matches!(transfer(&stopped, (&a, &a), 1, Protocol::TwoPhase).await, Err(TransactionError::Stopped)));
    assert_eq!(a.participant.name(), "a");
}

/// A load must find the event that locks the aggregate, so no snapshot is taken of a locked state.
#[tokio::test]
async fn no_snapshot_is_taken_of_a_locked_state() {
    let (a, b) = banks().await;
    for _ in 0..2 {
        b.accounts.execute(&2, Deposit { cents: 1 }).await.unwrap();
    }
    let lose = |point: HookPoint<'_>| match point.place {
        HookPlace::BeforeCall { call: Call::Commit, .. } => HookAction::Lose,
        _ => HookAction::Continue,
    };
    let running = coordinator(&a.store, &[&a, &b]).test_hook(lose).start().await.unwrap();
    let _ = transfer(&running, (&a, &b), 30, Protocol::TwoPhase).await.unwrap();
    // The fourth event is the prepared one, so that a snapshot is due.
    assert!(b.is_locked(2).await);
    b.accounts.settle().await;
    assert!(Bank::on("b", Arc::clone(&b.store)).is_locked(2).await);
}

/// A view that refuses large deposits.
struct Limit;

impl Projection for Limit {
    type Source = Account;
    const NAME: &'static str = "limit";

    fn apply(&self, event: &AccountEvent, _: &ProjectedContext<'_>, _: &mut Rows) -> Result<(), ApplyError> {
        match event {
            AccountEvent::Deposited { cents: 1000.. } => {
                Err(std::io::Error::other("a deposit of 1000 cents or more").into())
            }
            _ => Ok(()),
        }
    }
}

/// An inline projection refuses the decided events when they are prepared. At the commit it would be too late.
#[tokio::test]
async fn an_inline_projection_decides_when_events_are_prepared() {
    let a = Bank::new("a").with_account(1, 5000).await;
    let store = MemoryStore::new().with_hook(Inline::new(Limit)).await.unwrap();
    let b = Bank::on("b", Arc::new(store)).with_account(2, 5).await;
    let running = coordinator(&a.store, &[&a, &b]).start().await.unwrap();
    let refused = transfer(&running, (&a, &b), 1000, Protocol::TwoPhase).await.unwrap_err();
    assert!(matches!(&refused, TransactionError::Aborted { reason, .. } if reason.contains("limit")), "{refused}");
    settle(&a, &b).await;
    assert_eq!((a.cents(1).await, b.cents(2).await), (5000, 5));
    let _ = transfer(&running, (&a, &b), 999, Protocol::TwoPhase).await.unwrap();
    settle(&a, &b).await;
    assert_eq!((a.cents(1).await, b.cents(2).await), (4001, 1004));
}
