//! `#[transaction]`: what the generated function does.
#![allow(clippy::unwrap_used, reason = "tests")]
#![cfg(feature = "derive")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod bank;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bank::*;
use es_core::{ExecuteError, Repository};
use es_transaction::{
    Completed, EnlistError, Participant, RunningCoordinator, StoreParticipant, Strength, TransactionError,
    Transactions, Tx, transaction,
};

#[derive(Debug, thiserror::Error)]
enum TransferError {
    #[error(transparent)]
    Withdraw(#[from] ExecuteError<TooLittle>),
    #[error(transparent)]
    Deposit(#[from] EnlistError),
    #[error("nothing to transfer")]
    Nothing,
}

#[derive(Debug, Clone, PartialEq)]
struct Receipt {
    cents: u64,
}

/// Moves money from an account of the coordinator's store to one in another bank.
#[transaction(timeout = "5s")]
async fn transfer(
    tx: &mut Tx,
    accounts: &Arc<Repository<Account>>,
    bank: &StoreParticipant,
    cents: u64,
) -> Result<Receipt, TransferError> {
    tx.enlist(accounts, 1, Withdraw { cents }).await?;
    if cents == 0 {
        return Err(TransferError::Nothing);
    }
    tx.enlist_participant(bank, &deposit(2, cents))?;
    Ok(Receipt { cents })
}

async fn banks() -> (Bank, Bank, RunningCoordinator) {
    let (a, b) = (Bank::new("a").with_account(1, 100).await, Bank::new("b").with_account(2, 5).await);
    let running = coordinator(&a.store, &[&a, &b]).start().await.unwrap();
    (a, b, running)
}

async fn cents(a: &Bank, b: &Bank) -> (u64, u64) {
    wait_until(async || !a.is_locked(1).await && !b.is_locked(2).await).await;
    (a.cents(1).await, b.cents(2).await)
}

#[tokio::test]
async fn a_function_that_returns_ok_commits() {
    let (a, b, running) = banks().await;
    let done = transfer(&running, &a.accounts, &b.participant, 30).await.unwrap();
    assert_eq!((done.value, done.strength), (Receipt { cents: 30 }, Strength::TwoPhase));
    assert_eq!(cents(&a, &b).await, (70, 35));
}

/// A function that fails has prepared nothing, so nothing is locked, and there is no record.
#[tokio::test]
async fn a_function_that_fails_prepares_nothing() {
    let (a, b, running) = banks().await;
    let heads = async || (a.store.head().await.unwrap(), b.store.head().await.unwrap());
    let before = heads().await;
    let returned = transfer(&running, &a.accounts, &b.participant, 0).await.unwrap_err();
    assert!(matches!(returned, TransactionError::Function(TransferError::Nothing)), "{returned}");
    let rejected = transfer(&running, &a.accounts, &b.participant, 101).await.unwrap_err();
    assert!(matches!(&rejected, TransactionError::Function(TransferError::Withdraw(ExecuteError::Rejected(_)))));
    let (transactions, accounts) = (running.transactions(), Arc::clone(&a.accounts));
    let panicked = tokio::spawn(async move {
        let _ = panicking(&transactions, &accounts).await;
    });
    assert!(panicked.await.unwrap_err().is_panic());
    let dropped = tokio::time::timeout(Duration::from_millis(20), waiting(&running, &a.accounts)).await;
    assert!(dropped.is_err(), "the caller no longer waits");
    let timed_out = waiting_for_at_most_50_ms(&running, &a.accounts).await.unwrap_err();
    assert!(matches!(timed_out, TransactionError::TimedOut { .. }), "{timed_out}");
    assert_eq!(heads().await, before);
    assert!(running.unfinished(None, 10).await.unwrap().is_empty());
    assert!(running.shutdown(Duration::from_secs(1)).await);
}

#[transaction]
async fn panicking(tx: &mut Tx, accounts: &Arc<Repository<Account>>) -> Result<(), ExecuteError<TooLittle>> {
    tx.enlist(accounts, 1, Withdraw { cents: 1 }).await?;
    panic!("the function panics");
}

#[transaction]
async fn waiting(tx: &mut Tx, accounts: &Arc<Repository<Account>>) -> Result<(), ExecuteError<TooLittle>> {
    tx.enlist(accounts, 1, Withdraw { cents: 1 }).await?;
    std::future::pending().await
}

#[transaction(timeout = "50ms")]
async fn waiting_for_at_most_50_ms(
    tx: &mut Tx,
    accounts: &Arc<Repository<Account>>,
) -> Result<(), ExecuteError<TooLittle>> {
    tx.enlist(accounts, 1, Withdraw { cents: 1 }).await?;
    std::future::pending().await
}

/// The future is `Send`, so that a service can run it in a task, with owned and with borrowed arguments.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_future_can_be_spawned() {
    let (a, b, running) = banks().await;
    let (transactions, accounts, participant) =
        (running.transactions(), Arc::clone(&a.accounts), b.participant.clone());
    let spawned = tokio::spawn(async move { transfer(&transactions, &accounts, &participant, 30).await });
    assert_eq!(spawned.await.unwrap().unwrap().value, Receipt { cents: 30 });
    let (transactions, teller) = (running.transactions(), Teller { accounts: Arc::clone(&a.accounts) });
    let participant = b.participant.clone();
    let spawned = tokio::spawn(async move {
        let note = String::from("rent");
        teller.pay(&transactions, &participant, [1, 2].as_slice(), &note).await.map(|done| done.value.len())
    });
    assert_eq!(spawned.await.unwrap().unwrap(), 4);
    assert_eq!(cents(&a, &b).await, (67, 38));
}

/// Accounts that pay.
struct Teller {
    accounts: Arc<Repository<Account>>,
}

impl Teller {
    /// Pays amounts, and returns a part of the arguments.
    #[transaction(protocol = "two-phase")]
    async fn pay<'a, P>(
        &self,
        tx: &mut Tx,
        bank: &P,
        amounts: &[u64],
        note: &'a (impl AsRef<str> + fmt::Debug + Sync + ?Sized),
    ) -> Result<&'a str, TransferError>
    where
        P: Participant<Request = es_transaction::CommandList>,
    {
        let cents = amounts.iter().sum();
        for cents in amounts {
            tx.enlist(&self.accounts, 1, Withdraw { cents: *cents }).await?;
        }
        tx.enlist_participant(bank, &deposit(2, cents))?;
        Ok(note.as_ref())
    }

    #[transaction]
    async fn pay_once(self, tx: &mut Tx, mut cents: u64) -> Result<u64, ExecuteError<TooLittle>> {
        cents += 1;
        tx.enlist(&self.accounts, 1, Withdraw { cents }).await?;
        Ok(cents)
    }

    #[transaction]
    async fn replace(
        &mut self,
        _: &mut Tx,
        accounts: Arc<Repository<Account>>,
    ) -> Result<&mut Self, std::convert::Infallible> {
        self.accounts = accounts;
        Ok(self)
    }
}

#[tokio::test]
async fn a_method_has_the_transaction_after_its_receiver() {
    let (a, b, running) = banks().await;
    let mut teller = Teller { accounts: Arc::clone(&a.accounts) };
    let done = teller.pay(&running, &b.participant, &[10, 20], "rent").await.unwrap();
    assert_eq!((done.value, done.strength), ("rent", Strength::TwoPhase));
    assert_eq!(cents(&a, &b).await, (70, 35));
    let replaced = teller.replace(&running, Arc::clone(&b.accounts)).await.unwrap();
    assert!(Arc::ptr_eq(&replaced.value.accounts, &b.accounts));
    teller.accounts = Arc::clone(&a.accounts);
    let done = teller.pay_once(&running, 4).await.unwrap();
    assert_eq!((done.value, done.strength), (5, Strength::OneCommit));
    assert_eq!(cents(&a, &b).await, (65, 35));
}

/// A trait whose implementation is a transaction.
trait Pay {
    async fn pay(
        &self,
        transactions: &Transactions,
        cents: u64,
    ) -> Result<Completed<()>, TransactionError<EnlistError>>;
}

impl Pay for Bank {
    #[transaction(protocol = "three-phase", timeout = "2s")]
    async fn pay(&self, tx: &mut Tx, cents: u64) -> Result<(), EnlistError> {
        tx.enlist_participant(&self.participant, &deposit(2, cents))
    }
}

#[tokio::test]
async fn the_implementation_of_a_trait_can_be_a_transaction() {
    let (a, b, running) = banks().await;
    assert_eq!(Pay::pay(&b, &running, 3).await.unwrap().strength, Strength::ThreePhase);
    assert_eq!(cents(&a, &b).await, (100, 8));
}

/// Two parameters of one name, one of them generated, are different.
#[transaction]
async fn count(tx: &mut Tx, transactions: u32) -> Result<u32, std::convert::Infallible> {
    assert!(tx.id().to_string().starts_with("head."));
    Ok(transactions + 1)
}

#[tokio::test]
async fn a_parameter_can_have_the_name_of_the_generated_one() {
    let (_, _, running) = banks().await;
    assert_eq!(count(&running, 1).await.unwrap().value, 2);
}
