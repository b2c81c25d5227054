//! How do I change aggregates of two services together?
//!
//! ```text
//! cargo run -p es-examples --example transactions
//! ```

use std::sync::Arc;
use std::time::Duration;

use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_transaction::machine::Call;
use es_transaction::{
    CommandList, Coordinator, HookAction, HookPlace, Outcome, RunningCoordinator, StoreParticipant, Strength,
    TransactionError,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
enum AccountEvent {
    #[event(name = "money-deposited")]
    Deposited { cents: u64 },
    #[event(name = "money-withdrawn")]
    Withdrawn { cents: u64 },
}

#[derive(Clone, Debug, PartialEq, Aggregate)]
#[aggregate(category = "account", id = String, event = AccountEvent)]
struct Account {
    cents: u64,
}

impl Evolve for Account {
    fn initial(_: &String) -> Self {
        Self { cents: 0 }
    }

    fn evolve(&mut self, event: &AccountEvent, _: &EventContext<'_>) {
        match event {
            AccountEvent::Deposited { cents } => self.cents += cents,
            AccountEvent::Withdrawn { cents } => self.cents -= cents,
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Deposit {
    cents: u64,
}

impl Decide<Deposit> for Account {
    type Rejection = std::convert::Infallible;

    fn decide(&self, command: Deposit, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(AccountEvent::Deposited { cents: command.cents }.into())
    }
}

#[derive(Clone)]
struct Withdraw {
    cents: u64,
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("expected at least {wanted} cents, found {found}")]
struct InsufficientFunds {
    wanted: u64,
    found: u64,
}

impl Decide<Withdraw> for Account {
    type Rejection = InsufficientFunds;

    fn decide(&self, command: Withdraw, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, InsufficientFunds> {
        if command.cents > self.cents {
            return Err(InsufficientFunds { wanted: command.cents, found: self.cents });
        }
        Ok(AccountEvent::Withdrawn { cents: command.cents }.into())
    }
}

/// A service with accounts. Only `south` is a participant: `north` has the coordinator.
struct Bank {
    accounts: Arc<Repository<Account>>,
    store: Arc<dyn EventStore>,
}

impl Bank {
    fn new() -> Self {
        let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
        let accounts = Repository::new(Arc::clone(&store)).with_lock_wait(Duration::from_millis(20));
        Self { accounts: Arc::new(accounts), store }
    }

    fn participant(&self) -> StoreParticipant {
        let participant = StoreParticipant::new("south", Arc::clone(&self.store));
        participant.command::<Account, Deposit>("deposit", &self.accounts)
    }
}

/// Moves money from an account of `north` to one of `south`.
async fn transfer(running: &RunningCoordinator, north: &Bank, south: &Bank, cents: u64) -> Result<Strength, String> {
    let deposit = CommandList::new().command("deposit", "bob", &Deposit { cents });
    let deposit = deposit.map_err(|error| error.to_string())?;
    let done = running.begin().run(async |tx| {
        let withdraw = tx.enlist(&north.accounts, "ada".to_owned(), Withdraw { cents }).await;
        withdraw.map_err(|error| error.to_string())?;
        tx.enlist_participant(&south.participant(), &deposit).map_err(|error| error.to_string())
    });
    match done.await {
        Ok(done) => {
            assert_eq!(
                running.outcome(&done.transaction).await.map_err(|error| error.to_string())?,
                Some(Outcome::Committed)
            );
            Ok(done.strength)
        }
        Err(TransactionError::Function(rejected)) => Err(rejected),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (north, south) = (Bank::new(), Bank::new());
    north.accounts.execute(&"ada".to_owned(), Deposit { cents: 100 }).await?;

    // The first message that commits is lost, so that the account stays locked for a while.
    let is_first = std::sync::atomic::AtomicBool::new(true);
    let coordinator = Coordinator::new("transfers", Arc::clone(&north.store)).participant(south.participant());
    let coordinator = coordinator.pauses(Duration::from_secs(1), Duration::from_secs(1));
    let running = coordinator.test_hook(move |point| match point.place {
        HookPlace::BeforeCall { call: Call::Commit, .. }
            if is_first.swap(false, std::sync::atomic::Ordering::SeqCst) =>
        {
            HookAction::Lose
        }
        _ => HookAction::Continue,
    });
    let running = running.start().await?;

    // The decision is durable when this returns. South follows.
    assert_eq!(transfer(&running, &north, &south, 70).await?, Strength::TwoPhase);
    assert_eq!(north.accounts.load(&"ada".to_owned()).await?.state.cents, 30);

    // Until south has heard of it, other commands to its account fail, and reads return the state before.
    let bob = "bob".to_owned();
    let locked = south.accounts.execute(&bob, Deposit { cents: 1 }).await;
    assert!(matches!(locked, Err(ExecuteError::Locked(_))), "{locked:?}");
    println!("locked: {}", locked.expect_err("it is locked"));
    assert_eq!(south.accounts.load(&bob).await?.state.cents, 0);

    while south.accounts.load(&bob).await?.locked_by().is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(south.accounts.load(&bob).await?.state.cents, 70);

    // A rejection changes nothing anywhere.
    let rejected = transfer(&running, &north, &south, 31).await.expect_err("there are 30 cents");
    println!("rejected: {rejected}");
    assert_eq!(south.accounts.load(&bob).await?.state.cents, 70);
    assert!(running.shutdown(Duration::from_secs(5)).await);
    Ok(())
}
